use super::*;
use crate::balancer::roster::{Spec, State};
use crate::balancer::view::tests::{DOWN, UP, at, records};
use crate::http::{Parsed, parse};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

const LOCAL: Caller = Caller { peer: IpAddr::V4(Ipv4Addr::LOCALHOST), forwarded: false };
const REMOTE: Caller = Caller { peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), forwarded: false };

/// One request to a balancer with two backends, one of them up.
struct Request<'a> {
    line: &'a str,
    headers: &'a str,
    body: &'a str,
    caller: Caller,
    token: Option<&'a str>,
    ready: bool,
    backends: Vec<BackendRecord>,
}

fn request(line: &str) -> Request<'_> {
    let backends = records().to_vec();
    Request { line, headers: "", body: "", caller: LOCAL, token: None, ready: true, backends }
}

impl Request<'_> {
    fn answer(&self) -> Answer {
        let input = format!("{} HTTP/1.1\r\nHost: a\r\n{}\r\n", self.line, self.headers);
        let Ok(Parsed::Complete { head, .. }) = parse(input.as_bytes()) else { panic!("{input}") };
        let snapshot = Snapshot {
            service_name: "throng-balance",
            version: "1.2.3",
            strategy: "least_connections",
            phase: if self.ready { "serving" } else { "lame_duck" },
            ready: self.ready,
            at: at(0),
            connections: 17,
            queued: 3,
            backends: &self.backends,
            metrics: &Metrics::new(1),
            admin_token: self.token,
        };
        let answer = answer(&head, self.body.as_bytes(), &self.caller, &snapshot);
        assert_eq!(is_own(&head), answer != Answer::PassOn, "{}", self.line);
        answer
    }

    fn response(&self) -> Response {
        match self.answer() {
            Answer::Now(response) => response,
            other => panic!("{other:?} for {}", self.line),
        }
    }

    #[track_caller]
    fn check(&self, status: u16, body: &str) {
        check_response(&self.response(), status, body);
    }

    #[track_caller]
    fn check_answer(&self, expected: Answer) {
        assert_eq!(self.answer(), expected, "{}", self.line);
    }

    /// The answer is an error in JSON that says `part`.
    #[track_caller]
    fn check_refused(&self, status: u16, part: &str) -> Response {
        let response = self.response();
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!((response.status, &body["status"]), (status, &Value::from(status)), "{body}");
        let error = body["error"].as_str().expect("an error");
        assert!(error.contains(part), "{error:?} does not say {part:?}");
        response
    }
}

#[track_caller]
fn check_response(response: &Response, status: u16, body: &str) {
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!((response.status, &*text), (status, body));
    assert_eq!(response.content_type, "application/json");
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
}

fn health_with(status: &str, total: usize, available: usize) -> String {
    format!(
        concat!(
            r#"{{"status":"{}","service":"throng-balance","version":"1.2.3","strategy":"least_connections","#,
            r#""phase":"serving","backends":{{"total":{},"available":{}}},"connections":17,"queued":3,"#,
            r#""timestamp":"2026-01-02T03:04:05.000Z"}}"#
        ),
        status, total, available
    )
}

#[test]
fn health_says_whether_there_is_somewhere_to_send_a_client() {
    let [up, down] = records();
    for line in ["GET /health", "HEAD /health", "GET /", "GET /health?verbose=1"] {
        request(line).check(200, &health_with("degraded", 2, 1));
    }
    let with = |backends: Vec<BackendRecord>| Request { backends, ..request("GET /health") };
    with(vec![up.clone()]).check(200, &health_with("healthy", 1, 1));
    let slow = BackendRecord { state: State::SlowStart, ..up };
    with(vec![slow.clone(), slow]).check(200, &health_with("healthy", 2, 2));
    with(vec![down]).check(503, &health_with("unhealthy", 1, 0));
    with(vec![]).check(503, &health_with("unhealthy", 0, 0));
}

#[test]
fn probes_are_as_on_a_node() {
    for ready in [true, false] {
        Request { ready, ..request("GET /livez") }.check(200, r#"{"status":"alive"}"#);
    }
    request("GET /readyz").check(200, r#"{"ready":true,"phase":"serving"}"#);
    Request { ready: false, ..request("GET /readyz") }.check(503, r#"{"ready":false,"phase":"lame_duck"}"#);
}

#[test]
fn browsers_are_shown_the_page() {
    for accept in ["text/html", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "a/b, TEXT/HTML;q=0.1"] {
        let headers = &format!("Accept: {accept}\r\n");
        let response = Request { headers, ..request("GET /") }.response();
        assert_eq!((response.status, header(&response, "location")), (302, Some(PAGE_PATH)), "{accept}");
    }
    for accept in ["*/*", "text/*", "application/json", "text/html;q=0", "text/html; q=0.000"] {
        let headers = &format!("Accept: {accept}\r\n");
        assert_eq!(Request { headers, ..request("GET /") }.response().status, 200, "{accept}");
    }
    request("GET /web-loadbalancer.html").check_answer(Answer::Page);
    request("GET /api/events").check_answer(Answer::Events);
    assert_eq!(request("HEAD /api/events").response().content_type, "text/event-stream");
}

#[test]
fn what_is_for_a_node_is_passed_on() {
    for line in [
        "GET /ws?user_id=a",
        "GET /echo",
        "POST /api/send",
        "GET /api/users",
        "GET /nodes",
        "GET /dashboard",
        "GET /api/backendsx",
        "GET /api/",
        "OPTIONS *",
        "DELETE /anything",
    ] {
        request(line).check_answer(Answer::PassOn);
    }
}

#[test]
fn backends_are_listed() {
    let body = format!(r#"{{"strategy":"least_connections","backends":[{UP},{DOWN}]}}"#);
    request("GET /api/backends").check(200, &body);
    request("GET /api/backends/b1").check(200, UP);
    request("HEAD /api/backends/b7").check(200, DOWN);
    request("GET /api/backends/b2").check_refused(404, "no such backend");
    request("GET /api/backends/1").check_refused(404, "no such backend");
    request("GET /api/backends/").check_refused(404, "no such backend");
    request("GET /api/backends/b1/other").check_refused(404, "no such path");
}

#[test]
fn the_metrics_are_openmetrics_text() {
    let response = request("GET /metrics").response();
    assert_eq!(response.content_type, crate::metrics::Metrics::CONTENT_TYPE);
    let text = String::from_utf8_lossy(&response.body);
    assert!(text.contains(r#"throng_balancer_backend_up{backend="node-1:8080",address="10.0.0.1:8080"} 1"#));
}

#[test]
fn clients_are_asked_for_by_page_and_by_name() {
    let page = |limit, after, q: Option<&str>, backend: Option<u32>| Answer::Clients {
        limit,
        after,
        q: q.map(str::to_owned),
        backend: backend.map(BackendId),
    };
    request("GET /api/clients").check_answer(page(100, None, None, None));
    request("HEAD /api/clients?limit=1000&after=&q=&backend=").check_answer(page(1000, None, None, None));
    request("GET /api/clients?limit=1&after=3-17&q=A%20b&backend=b2").check_answer(page(
        1,
        Some((3, 17)),
        Some("A b"),
        Some(2),
    ));
    for (query, part) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=x", "after"),
        ("after=256-0", "after"),
        ("after=0--1", "after"),
        ("backend=2", "backend"),
    ] {
        request(&format!("GET /api/clients?{query}")).check_refused(400, part);
    }
    let longest = "x".repeat(limits::USER_ID_BYTES);
    request(&format!("GET /api/clients?q={longest}")).check_answer(page(100, None, Some(&longest), None));
    request(&format!("GET /api/clients?q={longest}x")).check_refused(400, "q: longer");

    request("GET /api/query?client_id=al%2Fice")
        .check_answer(Answer::Query { client_id: "al/ice".to_owned() });
    request("GET /api/query").check_refused(400, "client_id: missing");
    request("GET /api/query?client_id=").check_refused(400, "client_id: missing");
    request(&format!("GET /api/query?client_id={longest}x")).check_refused(400, "client_id: longer");
}

fn add(body: &str) -> Request<'_> {
    Request { body, ..request("POST /api/backends") }
}

#[test]
fn backends_are_added() {
    let check = |body: &str, weight: u32, max_connections: Option<u32>| {
        let spec = Spec { host: "node-4".to_owned(), port: 8080, weight, max_connections };
        add(body).check_answer(Answer::Admin(AdminCommand::Add(spec)));
    };
    check(r#"{"address":"node-4:8080"}"#, 1, None);
    check(r#" {"weight":1000,"max_connections":100,"address":"node-4:8080"} "#, 1000, Some(100));
    check(r#"{"address":"node-4:8080","weight":null,"max_connections":null}"#, 1, None);
    check(r#"{"address":"node-4:8080","weight":7.0,"max_connections":1e2}"#, 7, Some(100));
    for (body, part) in [
        (r#"{"address":"node-4:8080","weight":1.5}"#, "1.5 is no whole number"),
        (r#"{"address":"node-4:8080","weight":4294967296}"#, "no whole number"),
        (r#"{"address":"node-4:8080","weight":"7"}"#, "malformed body"),
        ("", "JSON object"),
        (r#"["node-4:8080"]"#, "JSON object"),
        (r#"{"address":"node-4:8080""#, "malformed body"),
        (r#"{"address":"node-4:8080"}x"#, "malformed body"),
        (r#"{"weight":1}"#, "missing field `address`"),
        (r#"{"address":"node-4:8080","wieght":1}"#, "wieght"),
        (r#"{"address":7}"#, "malformed body"),
        (r#"{"address":"node-4"}"#, "address: "),
        (r#"{"address":"node-4:8080,weight=2"}"#, "fields of their own"),
        (r#"{"address":"node-4:8080","weight":0}"#, "weight: from 1 to 1000"),
        (r#"{"address":"node-4:8080","weight":1001}"#, "weight: from 1 to 1000"),
        (r#"{"address":"node-4:8080","weight":-1}"#, "malformed body"),
        (r#"{"address":"node-4:8080","max_connections":0}"#, "max_connections: from 1"),
        (r#"{"address":"node-4:8080","max_connections":4294967295}"#, "max_connections: from 1"),
    ] {
        add(body).check_refused(400, part);
    }
    add("\u{0}").check_refused(400, "JSON object");
}

#[test]
fn backends_are_drained_enabled_and_removed() {
    let id = BackendId(7);
    request("POST /api/backends/b7/drain").check_answer(Answer::Admin(AdminCommand::Drain(id)));
    request("POST /api/backends/b7/enable").check_answer(Answer::Admin(AdminCommand::Enable(id)));
    request("DELETE /api/backends/b7").check_answer(Answer::Admin(AdminCommand::Remove(id)));
    request("POST /api/backends/7/drain").check_refused(404, "no such backend");
    request("DELETE /api/backends/b-7").check_refused(404, "no such backend");
    request("POST /api/backends/b7/else").check_refused(404, "no such path");
}

#[test]
fn methods_are_those_of_the_path() {
    for (line, allowed) in [
        ("POST /health", "GET, HEAD"),
        ("DELETE /api/backends", "GET, HEAD, POST"),
        ("POST /api/backends/b1", "GET, HEAD, DELETE"),
        ("GET /api/backends/b1/drain", "POST"),
        ("PUT /api/clients", "GET, HEAD"),
        ("get /health", "GET, HEAD"),
    ] {
        let response = request(line).check_refused(405, allowed);
        assert_eq!(header(&response, "allow"), Some(allowed));
    }
}

#[test]
fn changes_need_the_token_or_this_machine() {
    for line in ["POST /api/backends", "POST /api/backends/b1/drain", "DELETE /api/backends/b1"] {
        Request { caller: REMOTE, ..request(line) }.check_refused(403, "only local callers");
        Request { caller: Caller { forwarded: true, ..LOCAL }, ..request(line) }.check_refused(403, "local");
        Request { headers: "Origin: http://a\r\n", ..request(line) }.check_refused(403, "browsers");
        let response = Request { token: Some("secret"), ..request(line) }.check_refused(401, "required");
        assert_eq!(header(&response, "www-authenticate"), Some("Bearer"));
        let wrong = "Authorization: Bearer secres\r\n";
        Request { token: Some("secret"), headers: wrong, ..request(line) }.check_refused(401, "wrong");
    }
    let headers = "Authorization: Bearer secret\r\nOrigin: http://a\r\n";
    Request { token: Some("secret"), headers, caller: REMOTE, ..request("DELETE /api/backends/b1") }
        .check_answer(Answer::Admin(AdminCommand::Remove(BackendId(1))));
    Request { caller: REMOTE, token: Some("secret"), ..request("GET /livez") }
        .check(200, r#"{"status":"alive"}"#);
    Request { headers: "Content-Type: text/plain\r\n", ..add("{}") }.check_refused(415, "application/json");
}

#[test]
fn commands_are_answered_with_the_record() {
    let [up, _] = records();
    let (id, done_with) = (up.id, || Ok(AdminDone { record: records()[0].clone() }));
    let added = AdminCommand::Add("node-1:8080".parse().unwrap());
    let response = done(&added, done_with());
    check_response(&response, 201, UP);
    assert_eq!(header(&response, "location"), Some("/api/backends/b1"));
    for command in [AdminCommand::Drain(id), AdminCommand::Enable(id), AdminCommand::Remove(id)] {
        check_response(&done(&command, done_with()), 200, UP);
    }
    let unknown = done(&AdminCommand::Drain(id), Err(AdminError::Unknown(id)));
    check_response(&unknown, 404, r#"{"error":"there is no backend b1","status":404}"#);
    for error in [AdminError::Exists(id), AdminError::TooMany] {
        assert_eq!(done(&added, Err(error)).status, 409, "{error}");
    }
}
