//! What the log says about the end of a connection.

use serde_json::Value;

use crate::node::Node;

fn end_of(node: &Node, reason: &str) -> Value {
    serde_json::from_str(&node.process.log_line(&format!("ended: {reason}"))).unwrap()
}

#[test]
fn an_end_is_told_on_one_line() {
    let node = Node::start(&["--log-format", "json", "--log-level", "debug", "--trusted-proxy", "127.0.0.1"]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let headers = format!("X-Forwarded-For: 203.0.113.7\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\n");
    let mut anna = crate::socket::Socket::connect(node.http, "/ws?user_id=anna", &headers);
    assert_eq!(anna.json()["type"], "welcome");
    anna.send_text(r#"{"type":"ping"}"#);
    assert_eq!(anna.json()["type"], "pong");
    drop(anna);
    let line = end_of(&node, "peer_vanished");
    assert_eq!(line["level"], "DEBUG");
    for (field, expected) in [("user", "anna"), ("client", "203.0.113.7"), ("trace_id", trace)] {
        assert_eq!(line[field], expected, "{line}");
    }
    assert_eq!((&line["reason"], &line["unsent_bytes"]), (&Value::from("peer_vanished"), &Value::from(0)));
    assert!(line["seconds"].as_f64().is_some_and(|seconds| seconds < 20.0), "{line}");
    let (received, sent) = node.json("/api/overview")["counters"].as_object().map_or((0, 0), |counters| {
        (counters["bytes_received"].as_u64().unwrap(), counters["bytes_sent"].as_u64().unwrap())
    });
    assert!(line["received_bytes"].as_u64().is_some_and(|bytes| bytes > 100 && bytes < received), "{line}");
    assert!(line["sent_bytes"].as_u64().is_some_and(|bytes| bytes > 100 && bytes <= sent), "{line}");
}

/// What is above level `debug` is said without figures that nobody kept.
#[test]
fn an_end_of_note_is_told_at_level_info() {
    let node = Node::start(&["--log-format", "json"]);
    let mut bob = node.user("bob");
    assert_eq!(node.post("/api/kick", r#"{"user_id":"bob"}"#).status, 200);
    bob.closed_with();
    let line = end_of(&node, "kicked");
    assert_eq!((&line["level"], &line["user"]), (&Value::from("INFO"), &Value::from("bob")), "{line}");
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    assert!(line.get("seconds").is_none() && line.get("received_bytes").is_none(), "{line}");
}
