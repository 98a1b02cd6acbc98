//! What the node says over HTTP.

use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

use crate::node::{Launch, Node};
use crate::web::Web;

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn health_says_who_and_where_the_node_is() {
    let node = Node::start(&["--service-name", "shop", "--label", "tier=gold", "--node-id", "n-1"]);
    let _client = node.user("alice");
    for path in ["/", "/health", "/health?verbose=1"] {
        let health = node.json(path);
        assert_eq!(health["status"], "healthy");
        assert_eq!(health["phase"], "serving");
        assert_eq!(health["service"], "shop");
        assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(health["node_id"], "n-1");
        assert_eq!(health["is_running"], true);
        for count in ["active_websocket_connections", "websocket_count", "connections"] {
            assert_eq!(health[count], 1, "{count}");
        }
        let timestamp = health["timestamp"].as_str().unwrap();
        assert!(timestamp.ends_with('Z') && humantime::parse_rfc3339(timestamp).is_ok(), "{timestamp}");
        let identity = &health["service_identity"];
        let expected = "container_ip display_name environment hostname instance_id labels namespace node_name \
            pod_name service_name started_at version";
        assert_eq!(keys(identity).join(" "), expected);
        assert_eq!(identity["labels"]["tier"], "gold");
        assert!(identity["display_name"].as_str().unwrap().starts_with("shop-"));
        let instance = identity["instance_id"].as_str().unwrap();
        assert!(instance.len() == 8 && instance.bytes().all(|byte| byte.is_ascii_hexdigit()), "{instance}");
    }
}

#[test]
fn the_other_endpoints_have_their_shapes() {
    let node = Node::start(&["--reactors", "2"]);
    assert_eq!(node.id, node.http.to_string());
    assert_eq!(node.json("/livez")["status"], "alive");
    assert_eq!(node.json("/readyz"), serde_json::json!({"ready": true, "phase": "serving"}));
    let this = serde_json::json!({
        "id": node.id, "ip_address": "127.0.0.1", "port": node.http.port(), "status": "active", "connections": 0
    });
    assert_eq!(node.json("/nodes"), Value::Array(vec![this]));
    let nobody = serde_json::json!({"user_id": "no body/é", "online": false, "connections": []});
    assert_eq!(node.json("/api/users/no%20body%2F%C3%A9"), nobody);
    let metrics = node.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").unwrap().contains("text"), "{metrics:?}");
    assert!(metrics.body.ends_with(b"# EOF\n"));
    assert_eq!(node.metric("throng_ready"), 1);
    assert_eq!(node.metric(r#"throng_connections{reactor="1"}"#), 0);
    assert!(node.metric("throng_http_requests_total") > 5);
}

#[test]
fn calls_that_change_something_say_what_they_did() {
    let node = Node::start(&[]);
    let mut alice = node.user("alice");
    let sent = node.post("/api/send", r#"{"user_id":"alice","message":{"n":[1, 2]}}"#);
    assert_eq!((sent.status, &sent.json()["status"]), (200, &"delivered".into()));
    assert_eq!(sent.json()["connections"][0]["node"], node.id);
    assert_eq!(alice.message().payload, br#"{"n":[1, 2]}"#, "a message is passed on as it was written");
    let offline = node.post("/api/send", r#"{"user_id":"bob","message":1}"#);
    assert_eq!((offline.status, &offline.json()["status"]), (200, &"offline".into()));
    let broadcast = node.post("/api/broadcast", r#"{"message":"all"}"#);
    assert_eq!((broadcast.status, &broadcast.json()["connections"]), (200, &1.into()));
    assert_eq!(alice.json(), "all");
    let kicked = node.post("/api/kick", r#"{"user_id":"alice"}"#);
    assert_eq!((kicked.status, &kicked.json()["status"]), (200, &"kicked".into()));
    assert_eq!(alice.closed_with().0, 4003);
}

#[test]
fn what_cannot_be_served_is_refused_in_json() {
    let node = Node::start(&[]);
    let long = "x".repeat(20_000);
    let check = |request: String, status: u16, header: Option<(&str, &str)>| {
        let mut web = node.web();
        web.send(&request);
        let response = web.response();
        let shown = &request[..request.len().min(60)];
        assert_eq!(response.status, status, "{shown:?}: {response:?}");
        let body = response.json();
        assert_eq!(body["status"], status, "{shown:?}");
        assert!(!body["error"].as_str().unwrap().is_empty(), "{shown:?}");
        if let Some((name, value)) = header {
            assert_eq!(response.header(name), Some(value), "{shown:?}");
        }
    };
    let request = |line: &str, rest: &str| format!("{line} HTTP/1.1\r\nHost: node\r\n{rest}\r\n");
    check(request("GET /nowhere", ""), 404, None);
    check(request("GET /api/users/", ""), 404, None);
    check(request("POST /health", ""), 405, Some(("allow", "GET, HEAD")));
    check(request("DELETE /api/users/x", ""), 405, Some(("allow", "GET, HEAD")));
    check(request("GET /api/send", ""), 405, Some(("allow", "POST")));
    check(request("POST /api/send", "Content-Length: 1048577\r\n"), 413, None);
    check(request("POST /api/send", "Transfer-Encoding: chunked\r\n"), 411, None);
    check(request("GET /", "Content-Length: 1\r\nContent-Length: 2\r\n"), 400, None);
    check(request("GET /", &format!("X: {long}\r\n")), 431, None);
    check(request(&format!("GET /{long}"), ""), 431, None);
    check(request("GET /", &"X: 1\r\n".repeat(65)), 431, None);
    check("GET / HTTP/1.1\r\n\r\n".into(), 400, None);
    check("nonsense\r\n\r\n".into(), 400, None);
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, None);
    let call = |path: &str, headers: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: node\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
    };
    check(call("/api/send", "", "{"), 400, None);
    check(call("/api/send", "", r#"{"message":1}"#), 400, None);
    check(call("/api/send", "", r#"{"user_id":7,"message":1}"#), 400, None);
    check(call("/api/kick", "", r#"{"user_id":"a","notify":"yes"}"#), 400, None);
    check(call("/api/broadcast", "Content-Type: text/plain\r\n", r#"{"message":1}"#), 415, None);
    assert_eq!(node.json("/livez")["status"], "alive");
}

#[test]
fn a_malformed_body_is_laid_to_its_field() {
    let node = Node::start(&[]);
    let response = node.post("/api/send", r#"{"user_id":7,"message":1}"#);
    assert!(response.json()["error"].as_str().unwrap().contains("user_id"), "{response:?}");
}

#[test]
fn a_connection_is_kept_until_either_side_wants_it_closed() {
    let node = Node::start(&[]);
    let mut web = node.web();
    for _ in 0..3 {
        let response = web.request("GET", "/livez", "", "");
        assert_eq!((response.status, response.header("connection")), (200, Some("keep-alive")));
    }
    assert_eq!(
        web.request("GET", "/nowhere", "", "").status,
        404,
        "a refusal that is understood ends nothing"
    );
    let last = web.request("GET", "/livez", "Connection: close\r\n", "");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    web.assert_ends();
    let mut old = node.web();
    old.send("GET /livez HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().status, 200);
    old.assert_ends();
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let node = Node::start(&["--reactors", "4"]);
    for path in ["/livez", "/api/users/a", "/api/users/b", "/api/users/c"] {
        let mut web = node.web();
        web.send(format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"));
        web.shut();
        assert_eq!(web.response().status, 200, "{path}");
        web.assert_ends();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = Node::start(&["--reactors", "4"]);
    let mut web = node.web();
    let request = |index: usize| match index % 5 {
        // Answered at once, beside those that may need another reactor.
        0 => format!("GET /nowhere/{index} HTTP/1.1\r\nHost: node\r\n\r\n"),
        _ => format!("GET /api/users/user-{index} HTTP/1.1\r\nHost: node\r\n\r\n"),
    };
    web.send((0..50).map(request).collect::<String>());
    for index in 0..50 {
        let response = web.response();
        match index % 5 {
            0 => assert_eq!(response.status, 404, "{index}"),
            _ => assert_eq!(response.json()["user_id"], format!("user-{index}")),
        }
    }
}

#[test]
fn head_is_get_without_the_body() {
    let node = Node::start(&[]);
    let mut web = node.web();
    for path in ["/health", "/readyz", "/nodes", "/metrics", "/api/users/alice"] {
        let head = web.request("HEAD", path, "", "");
        assert_eq!(head.status, 200, "{path}");
        assert_ne!(head.header("content-length"), Some("0"), "{path}");
        assert!(web.buffer.is_empty(), "{path}");
    }
    let nothing_between = web.request("GET", "/livez", "", "");
    assert_eq!(nothing_between.json()["status"], "alive");
}

#[test]
fn a_client_that_asks_is_told_to_go_on() {
    let node = Node::start(&[]);
    let body = r#"{"user_id":"a","message":1}"#;
    let mut web = node.web();
    web.send(format!(
        "POST /api/send HTTP/1.1\r\nHost: node\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    assert_eq!(web.head().status, 100);
    for byte in body.bytes() {
        web.send([byte]);
    }
    assert_eq!(web.response().json()["status"], "offline");
}

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let node = Node::start(&["--handshake-timeout", "2s", "--reactors", "1"]);
    let start = Instant::now();
    let mut silent = node.web();
    let mut slow = node.web();
    // Every answer to another client is time that passes.
    slow.stream.set_nonblocking(true).unwrap();
    let mut head = b"GET / HTTP/1.1\r\nX: ".iter().copied().chain(std::iter::repeat(b'x'));
    let mut bytes = [0; 4096];
    let answer = loop {
        assert!(start.elapsed() < crate::node::DEADLINE, "not cut off");
        slow.send([head.next().unwrap()]);
        assert_eq!(node.get("/livez").status, 200);
        match std::io::Read::read(&mut slow.stream, &mut bytes) {
            Ok(count) => break String::from_utf8_lossy(&bytes[..count]).into_owned(),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    };
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let lasted = start.elapsed();
    // The node's clock ticks every 10 ms.
    let earliest = TIMEOUT - Duration::from_millis(10);
    assert!((earliest..TIMEOUT * 8).contains(&lasted), "{lasted:?}");
    silent.assert_ends();
    assert_eq!(node.metric(r#"throng_connections_closed_total{reason="handshake_timeout"}"#), 1);
}

#[test]
fn a_kept_connection_may_begin_its_next_request_late() {
    let node = Node::start(&["--handshake-timeout", "3s", "--reactors", "1"]);
    let mut web = node.web();
    assert_eq!(web.request("GET", "/livez", "", "").status, 200);
    // A connection that sends nothing is ended when the time is up: the other has then been idle for longer.
    node.web().assert_ends();
    web.send("GET /livez HTTP/1.1\r\n");
    // A pass of the sweep takes an eighth of the timeout.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(800) {
        assert_eq!(node.get("/livez").status, 200);
    }
    web.send("Host: node\r\n\r\n");
    assert_eq!(web.response().status, 200, "its time began with its first byte");
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let node = Node::start(&["--reactors", "2"]);
    let mut web = node.web();
    SockRef::from(&web.stream).set_send_buffer_size(1 << 20).unwrap();
    let request = |path: &str, bytes| {
        format!("GET {path} HTTP/1.1\r\nHost: node\r\nX-Padding: {}\r\n\r\n", "x".repeat(bytes))
    };
    // The kernel gives a connection that is used more room.
    web.send(request("/livez", 15_000).repeat(400));
    (0..400).for_each(|_| assert_eq!(web.response().json()["status"], "alive"));
    // As much as is read of a connection in one turn, and near its end a
    // request that only all reactors together can answer, with one behind it.
    let (before, after) = (14, 4);
    let all = [
        request("/livez", 15_000).repeat(before),
        request("/api/users", 0),
        request("/nodes", 0),
        request("/livez", 15_000).repeat(after),
    ]
    .concat();
    for trial in 0..30 {
        node.process.signal(libc::SIGSTOP);
        web.send(&all);
        node.process.signal(libc::SIGCONT);
        (0..before).for_each(|_| assert_eq!(web.response().json()["status"], "alive"));
        let (users, nodes) = (web.response().json(), web.response().json());
        assert!(users["users"].is_array() && nodes.is_array(), "trial {trial}: {users} before {nodes}");
        (0..after).for_each(|_| assert_eq!(web.response().json()["status"], "alive"));
    }
}

fn kick(web: &mut Web, headers: &str) -> u16 {
    web.request("POST", "/api/kick", headers, r#"{"user_id":"nobody"}"#).status
}

#[test]
fn with_a_token_configured_nothing_changes_without_it() {
    let node = Launch::serve(&[]).variable("THRONG_ADMIN_TOKEN", "s3cret").start();
    let mut web = node.web();
    let refused = web.request("POST", "/api/send", "", r#"{"user_id":"a","message":1}"#);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(kick(&mut web, "Authorization: Bearer wrong\r\n"), 401);
    assert_eq!(kick(&mut web, "Authorization: Basic s3cret\r\n"), 401);
    assert_eq!(kick(&mut web, "Authorization: Bearer s3cret\r\n"), 200);
    assert_eq!(kick(&mut web, "Authorization: bearer s3cret\r\nX-Forwarded-For: 1.2.3.4\r\n"), 200);
    assert_eq!(web.request("GET", "/api/users/a", "", "").status, 200, "reading needs none");
}

#[test]
fn without_a_token_only_local_programs_change_something() {
    let node = Node::start(&[]);
    let mut web = node.web();
    assert_eq!(kick(&mut web, ""), 200);
    for header in ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via", "X-Forwarded-Proto", "Origin"] {
        assert_eq!(kick(&mut web, &format!("{header}: 127.0.0.1\r\n")), 403, "{header}");
    }
    assert_eq!(kick(&mut web, "Authorization: Bearer guess\r\n"), 200);
}
