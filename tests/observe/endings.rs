//! What the log says about the end of a connection.

use serde_json::Value;

use crate::balancer::{Balancer, launch};
use crate::node::{Node, Process};

/// The line about the next end for this reason.
fn end_of(process: &Process, what: &str, reason: &str) -> Value {
    loop {
        let line = process.log_line(&format!("ended: {reason}"));
        if line.contains(&format!("\"message\":\"{what} ")) {
            return serde_json::from_str(&line).unwrap();
        }
    }
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
    let line = end_of(&node.process, "connection", "peer_vanished");
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
    let line = end_of(&node.process, "connection", "kicked");
    assert_eq!((&line["level"], &line["user"]), (&Value::from("INFO"), &Value::from("bob")), "{line}");
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    assert!(line.get("seconds").is_none() && line.get("received_bytes").is_none(), "{line}");
}

/// One trace leads through the balancer to the node; who brings none is given none.
#[test]
fn the_balancers_line_has_the_trace_of_the_nodes() {
    let logging = ["--log-format", "json", "--log-level", "debug"];
    let nodes = [Node::start(&[&logging[..], &["--trusted-proxy", "127.0.0.1"]].concat())];
    let balancer = Balancer::start(&nodes, &logging);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    for (user, headers, trace) in [("anna", &*traceparent, Some(trace)), ("bob", "", None)] {
        let target = format!("/ws?user_id={user}&client_id=phone");
        let mut client = crate::socket::Socket::connect(balancer.http, &target, headers);
        assert_eq!(client.json()["type"], "welcome");
        client.send(crate::socket::frame(0x88, &1000u16.to_be_bytes()));
        assert_eq!((client.close_frame().0, client.try_frame()), (1000, None));
        drop(client);
        let passed = end_of(&balancer.process, "a client's connection", "closed");
        let served = end_of(&nodes[0].process, "connection", "peer_closed");
        for line in [&passed, &served] {
            assert_eq!((&line["user"], &line["level"]), (&user.into(), &"DEBUG".into()), "{line}");
            assert_eq!((&line["client"], line["trace_id"].as_str()), (&"127.0.0.1".into(), trace), "{line}");
            assert!(line["seconds"].as_f64().is_some_and(|seconds| seconds < 20.0), "{line}");
        }
        assert_eq!(
            (&passed["reason"], &passed["client_id"]),
            (&"closed".into(), &"phone".into()),
            "{passed}"
        );
        assert!(passed["backend"].as_str().is_some_and(|name| !name.is_empty()), "{passed}");
        // The handshake apart, what went one way at the one went the same way at the other.
        let bytes = |line: &Value, name: &str| line[name].as_u64().unwrap();
        assert!(bytes(&served, "sent_bytes") >= bytes(&passed, "to_client_bytes"), "{passed} {served}");
        assert!(
            bytes(&passed, "to_client_bytes") > 100 && bytes(&passed, "to_backend_bytes") > 0,
            "{passed}"
        );
    }
}

/// Who was refused has a line as well, as far as anything is known of it.
#[test]
fn the_balancer_says_who_sent_no_request() {
    let balancer = Balancer::launched(&launch(
        &["127.0.0.1:1".to_owned()],
        &["--log-format", "json", "--log-level", "debug"],
    ));
    drop(balancer.web());
    let line = end_of(&balancer.process, "a client's connection", "client_left");
    assert_eq!((&line["client"], &line["to_backend_bytes"]), (&"127.0.0.1".into(), &0.into()), "{line}");
    assert!(line.get("user").is_none() && line.get("backend").is_none(), "{line}");
}
