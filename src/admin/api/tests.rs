use super::*;
use crate::http::{Parsed, parse};
use crate::limits;
use serde_json::Value;
use std::net::IpAddr;

const LOCAL: Caller = Caller { peer: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), forwarded: false };
const REMOTE: Caller = Caller { peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), forwarded: false };

/// One request to a node that serves and has the admin token given.
struct Request<'a> {
    line: &'a str,
    headers: &'a str,
    body: &'a [u8],
    caller: Caller,
    token: Option<&'a str>,
    ready: bool,
}

fn request(line: &str) -> Request<'_> {
    Request { line, headers: "", body: b"", caller: LOCAL, token: None, ready: true }
}

impl Request<'_> {
    fn answer(&self) -> Answer {
        let input = format!("{} HTTP/1.1\r\nHost: a\r\n{}\r\n", self.line, self.headers);
        let Ok(Parsed::Complete { head, .. }) = parse(input.as_bytes()) else { panic!("{input}") };
        let metrics = Metrics::new(1);
        let identity: &RawValue = serde_json::from_str(r#"{"instance_id":"0123abcd"}"#).expect("JSON");
        let snapshot = Snapshot {
            identity,
            service_name: "throng",
            version: "1.2.3",
            node_id: "10.0.0.1:8080",
            address: "10.0.0.1:8080".parse().expect("an address"),
            timestamp: "2026-01-02T03:04:05Z",
            connections: 17,
            connections_max: 1000,
            phase: if self.ready { "serving" } else { "lame_duck" },
            ready: self.ready,
            cluster: None,
            metrics: &metrics,
            admin_token: self.token,
        };
        answer(&head, self.body, &self.caller, &snapshot)
    }

    fn response(&self) -> Response {
        match self.answer() {
            Answer::Now(response) => response,
            Answer::Ask(question) => panic!("{question:?} for {}", self.line),
        }
    }

    fn check(&self, status: u16, body: &str) {
        let response = self.response();
        let text = String::from_utf8_lossy(&response.body);
        assert_eq!((response.status, &*text), (status, body), "{}", self.line);
        assert_eq!(response.content_type, "application/json");
    }

    /// The answer is an error in JSON that says `part`.
    fn check_refused(&self, status: u16, part: &str) -> Response {
        let response = self.response();
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!((response.status, &body["status"]), (status, &Value::from(status)), "{body}");
        let error = body["error"].as_str().expect("an error");
        assert!(error.contains(part), "{error:?} does not say {part:?}");
        response
    }
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
}

#[test]
fn health_tells_who_answers_and_how_many_are_connected() {
    let body = concat!(
        r#"{"status":"healthy","timestamp":"2026-01-02T03:04:05Z","active_websocket_connections":17,"#,
        r#""service":"throng","version":"1.2.3","service_identity":{"instance_id":"0123abcd"},"#,
        r#""is_running":true,"websocket_count":17,"node_id":"10.0.0.1:8080","connections":17,"phase":"serving"}"#
    );
    for line in ["GET /", "GET /health", "HEAD /health", "GET /health?verbose=1"] {
        request(line).check(200, body);
    }
    let draining = body.replace("healthy", "draining").replace("serving", "lame_duck");
    Request { ready: false, ..request("GET /health") }.check(200, &draining);
}

#[test]
fn probes_tell_life_from_readiness() {
    for ready in [true, false] {
        Request { ready, ..request("GET /livez") }.check(200, r#"{"status":"alive"}"#);
    }
    request("GET /readyz").check(200, r#"{"ready":true,"phase":"serving"}"#);
    Request { ready: false, ..request("GET /readyz") }.check(503, r#"{"ready":false,"phase":"lame_duck"}"#);
}

#[test]
fn nodes_lists_this_node() {
    let body =
        r#"[{"id":"10.0.0.1:8080","ip_address":"10.0.0.1","port":8080,"status":"active","connections":17}]"#;
    request("GET /nodes").check(200, body);
    Request { ready: false, ..request("GET /nodes") }.check(200, &body.replace("active", "draining"));
}

#[test]
fn metrics_are_openmetrics_text() {
    let response = request("GET /metrics").response();
    assert_eq!((response.status, response.content_type), (200, Metrics::CONTENT_TYPE));
    let text = String::from_utf8_lossy(&response.body);
    assert!(text.contains("throng_node_info{node=\"10.0.0.1:8080\",version=\"1.2.3\"} 1\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_overview_has_all_that_the_page_shows() {
    let response = request("GET /api/overview").response();
    assert_eq!((response.status, response.content_type), (200, "application/json"));
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    let text = |field: &str| body[field].as_str().map(str::to_owned).unwrap_or_default();
    assert_eq!(text("timestamp"), "2026-01-02T03:04:05Z");
    assert_eq!(
        (text("node_id"), text("service"), text("version")),
        ("10.0.0.1:8080".into(), "throng".into(), "1.2.3".into())
    );
    assert_eq!(
        (body["identity"]["instance_id"].as_str(), text("phase")),
        (Some("0123abcd"), "serving".into())
    );
    assert_eq!((&body["connections"], &body["connections_max"]), (&17.into(), &1000.into()));
    for counter in
        ["accepted", "messages_received", "messages_sent", "bytes_sent", "slow_consumer", "cluster_lost"]
    {
        assert_eq!(body["counters"][counter], 0, "{counter}");
    }
    assert_eq!(body["closed"], serde_json::json!({}));
    let reactor = serde_json::json!({"connections": 0, "sockets": 0, "outbound_bytes": 0, "mailbox": 0});
    assert_eq!(body["reactors"], serde_json::json!([reactor]));
    assert_eq!((&body["cluster"], body["nodes"].as_array().map(Vec::len)), (&Value::Null, Some(1)));
    assert!(body["resident_bytes"].as_u64() > Some(0) && body["cpu_seconds"].is_f64());
}

#[test]
fn the_dashboard_is_a_page_under_a_policy() {
    for line in ["GET /dashboard", "HEAD /dashboard"] {
        let response = request(line).response();
        assert_eq!((response.status, response.content_type), (200, "text/html; charset=utf-8"));
        assert!(
            header(&response, "content-security-policy").is_some_and(|policy| policy.contains("'sha256-"))
        );
    }
    request("POST /dashboard").check_refused(405, "GET, HEAD");
    request("DELETE /api/overview").check_refused(405, "GET, HEAD");
}

#[test]
fn a_user_id_in_a_path_is_decoded() {
    let check = |line: &str, user_id: &str| {
        assert_eq!(request(line).answer(), Answer::Ask(Question::User { user_id: user_id.into() }));
    };
    check("GET /api/users/ann", "ann");
    check("HEAD /api/users/a%2Fb%20%C3%BC+", "a/b ü+");
    request("GET /api/users/%ff").check_refused(400, "UTF-8");
    let long = format!("GET /api/users/{}", "a".repeat(limits::USER_ID_BYTES + 1));
    request(&long).check_refused(400, "user_id");
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    for line in
        ["GET /nope", "GET /health/", "GET /api/users/", "GET /api/users/a/b", "GET /api", "OPTIONS *"]
    {
        request(line).check_refused(404, "no such path");
    }
    for (line, allow) in [
        ("POST /health", "GET, HEAD"),
        ("DELETE /api/users/ann", "GET, HEAD"),
        ("get /", "GET, HEAD"),
        ("GET /api/send", "POST"),
        ("OPTIONS /api/kick", "POST"),
    ] {
        let response = request(line).check_refused(405, allow);
        assert_eq!(header(&response, "allow"), Some(allow), "{line}");
    }
}

#[test]
fn with_a_token_whoever_presents_it_may_change_something() {
    let with = |headers: &'static str| Request {
        headers,
        body: br#"{"message":1}"#,
        caller: REMOTE,
        token: Some("secret"),
        ..request("POST /api/broadcast")
    };
    for headers in [
        "Authorization: Bearer secret\r\n",
        "authorization: bearer  secret\r\n",
        "Authorization: Bearer secret\r\nOrigin: https://example.org\r\n",
    ] {
        assert!(matches!(with(headers).answer(), Answer::Ask(_)), "{headers}");
    }
    for headers in ["", "Authorization: Basic secret\r\n", "Authorization: secret\r\n"] {
        let response = with(headers).check_refused(401, "required");
        assert_eq!(header(&response, "www-authenticate"), Some("Bearer"));
    }
    for headers in
        ["Authorization: Bearer secre\r\n", "Authorization: Bearer \r\n", "Authorization: Bearer secret2\r\n"]
    {
        let response = with(headers).response();
        assert_eq!(response.status, 401, "{headers}");
    }
    let local = Request { caller: LOCAL, ..with("") };
    local.check_refused(401, "required");
}

#[test]
fn without_a_token_only_local_programs_may_change_something() {
    let from = |caller, headers| Request {
        caller,
        headers,
        body: br#"{"message":1}"#,
        ..request("POST /api/broadcast")
    };
    let mapped = Caller { peer: "::ffff:127.0.0.1".parse().expect("an address"), forwarded: false };
    let v6 = Caller { peer: "::1".parse().expect("an address"), forwarded: false };
    for caller in [LOCAL, mapped, v6] {
        assert!(matches!(from(caller, "").answer(), Answer::Ask(_)), "{caller:?}");
    }
    for caller in [REMOTE, Caller { forwarded: true, ..LOCAL }] {
        from(caller, "").check_refused(403, "THRONG_ADMIN_TOKEN");
    }
    from(LOCAL, "Origin: null\r\n").check_refused(403, "browsers");
}

#[test]
fn bodies_become_questions() {
    let check = |path: &str, body: &str, expected: Question| {
        let line = format!("POST {path}");
        let request = Request { body: body.as_bytes(), ..request(&line) };
        assert_eq!(request.answer(), Answer::Ask(expected), "{body}");
    };
    let send = |message: &str| Question::Send { user_id: "ann".into(), message: message.into() };
    check("/api/send", r#"{"user_id":"ann","message":"hi"}"#, send(r#""hi""#));
    check("/api/send", r#"{"message": {"a" : 1e999} ,"user_id":"\u0061nn"}"#, send(r#"{"a" : 1e999}"#));
    check("/api/send", r#"{"user_id":"ann","message":null}"#, send("null"));
    check("/api/broadcast", r#"{"message":[]}"#, Question::Broadcast { message: "[]".into() });
    let kick = |reason: &str, notify, message: Option<&str>| Question::Kick {
        user_id: "ann".into(),
        reason: reason.into(),
        notify,
        message: message.map(str::to_owned),
    };
    check("/api/kick", r#"{"user_id":"ann"}"#, kick("Kicked", false, None));
    check("/api/kick", r#"{"user_id":"ann","reason":"spam","notify":true}"#, kick("spam", true, None));
    check("/api/kick", r#"{"user_id":"ann","message":{}}"#, kick("Kicked", true, Some("{}")));
    check("/api/kick", r#"{"user_id":"ann","message":1,"notify":false}"#, kick("Kicked", false, Some("1")));
    check(
        "/api/kick",
        r#"{"user_id":"ann","reason":null,"notify":null,"message":null}"#,
        kick("Kicked", false, None),
    );
}

#[test]
fn a_malformed_body_is_told_which_field_is_at_fault() {
    let check = |path: &str, body: &[u8], part: &str| {
        let line = format!("POST {path}");
        Request { body, ..request(&line) }.check_refused(400, part);
    };
    check("/api/send", b"", "malformed body");
    check("/api/send", b"{", "malformed body");
    check("/api/send", b"7", "malformed body");
    check("/api/send", br#"["ann",1]"#, "must be a JSON object");
    check("/api/send", b"\xff", "UTF-8");
    check("/api/send", br#"{"message":1}"#, "user_id: missing");
    check("/api/send", br#"{"user_id":null,"message":1}"#, "user_id: missing");
    check("/api/send", br#"{"user_id":7,"message":1}"#, "user_id: must be a string");
    check("/api/send", br#"{"user_id":"\ud800","message":1}"#, "user_id: must be a string");
    check("/api/send", br#"{"user_id":"","message":1}"#, "user_id: must not be empty");
    check("/api/send", br#"{"user_id":"ann"}"#, "message: missing");
    check("/api/send", br#"{"user_id":"ann","mesage":1}"#, "mesage");
    check("/api/send", br#"{"user_id":"ann","user_id":"bob","message":1}"#, "user_id");
    check("/api/send", br#"{"user_id":"ann","message":1,"reason":"x"}"#, "reason: not a field");
    check("/api/broadcast", br#"{"user_id":"ann","message":1}"#, "user_id: not a field");
    check("/api/kick", br#"{"user_id":"ann","notify":"yes"}"#, "notify: must be true or false");
    check("/api/kick", br#"{"user_id":"ann","reason":5}"#, "reason: must be a string");
    let long = format!(r#"{{"user_id":"{}","message":1}}"#, "a".repeat(limits::USER_ID_BYTES + 1));
    check("/api/send", long.as_bytes(), "user_id: longer than");
}

#[test]
fn bodies_are_json_or_do_not_say() {
    let with = |headers| Request { headers, body: br#"{"message":1}"#, ..request("POST /api/broadcast") };
    for headers in [
        "",
        "Content-Type: application/json\r\n",
        "Content-Type: Application/JSON; charset=utf-8\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
    ] {
        assert!(matches!(with(headers).answer(), Answer::Ask(_)), "{headers}");
    }
    for headers in ["Content-Type: text/plain\r\n", "Content-Type: multipart/form-data; boundary=x\r\n"] {
        with(headers).check_refused(415, "application/json");
    }
}
