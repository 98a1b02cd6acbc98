//! What the metrics say of the cluster.

use serde_json::Value;

use crate::node::{Launch, Node, eventually};
use crate::{assert_routed, join, redis_servers, send, wait_until_met, wait_until_on};

#[test]
fn redis_is_timed_and_the_link_is_shown() {
    let redis = redis_servers::Redis::start();
    let [one, two] = ["one", "two"].map(|id| join(id, &redis.url()));
    let (_bob, mut anna) = (two.user("bob"), one.user("anna"));
    let link = |state: &str| one.metric(&format!("throng_cluster_link{{state=\"{state}\"}}"));
    // A user who has just come makes the node join again for a moment.
    eventually("ready", || ["alone", "down", "joining", "ready"].map(link) == [0, 0, 0, 1]);
    anna.send_message("bob", "hello");
    let timed = |operation: &str| {
        one.metric(&format!("throng_cluster_redis_seconds_count{{operation=\"{operation}\"}}"))
    };
    for operation in ["publish", "lookup", "register", "beat"] {
        eventually(operation, || timed(operation) > 0);
    }
    drop(redis);
    eventually("the link is down", || link("down") == 1 && link("ready") == 0);
}

/// What goes to a user of the same node is timed there; what goes to another
/// node is timed by a probe that comes back.
#[test]
fn deliveries_are_timed_on_a_node_and_between_nodes() {
    let redis = redis_servers::Redis::start();
    let [one, two] = ["one", "two"].map(|id| join(id, &redis.url()));
    let (mut bob, mut carl, mut anna) = (two.user("bob"), one.user("carl"), one.user("anna"));
    wait_until_on(&one, "bob", &["two"]);
    let timed =
        |node: &Node, path: &str| node.metric(&format!("throng_delivery_seconds_count{{path=\"{path}\"}}"));
    assert_eq!([timed(&one, "local"), timed(&one, "cluster")], [0, 0]);
    assert_routed(&mut anna, &mut carl, "carl", "near");
    eventually("the turn is over", || timed(&one, "local") == 1);
    eventually("a probe is back", || {
        assert_routed(&mut anna, &mut bob, "bob", "far");
        timed(&one, "cluster") > 0
    });
    assert_eq!([timed(&two, "local"), timed(&two, "cluster")], [0, 0], "it is the source's measure");
    // What a program sends is a client's equal.
    let before = timed(&one, "cluster");
    eventually("another is back", || {
        assert_eq!(send(&one, "bob", "1"), "delivered");
        timed(&one, "cluster") > before
    });
    let text = String::from_utf8(one.get("/metrics").body).unwrap();
    let sum = |path: &str| {
        let start = format!("throng_delivery_seconds_sum{{path=\"{path}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&*start)).unwrap().parse::<f64>().unwrap()
    };
    for path in ["local", "cluster"] {
        assert!((f64::EPSILON..5.0).contains(&sum(path)), "{path}: {}", sum(path));
    }
}

/// A call's trace is in the log of the node that took it and of the one that
/// delivered; without a trace neither says anything.
#[test]
fn a_calls_trace_is_in_the_logs_of_both_nodes() {
    let redis = redis_servers::Redis::start();
    let logging = ["--reactors", "2", "--log-level", "debug", "--log-format", "json"];
    let url = redis.url();
    let [one, two] = ["one", "two"].map(|id| {
        let node = ["--node-id", id, "--redis-url", &url];
        Launch::serve(&[&node[..], &logging[..]].concat()).start()
    });
    wait_until_met(&[&one, &two]);
    let mut bob = two.user("bob");
    wait_until_on(&one, "bob", &["two"]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("traceparent: 00-{trace}-b7ad6b7169203331-01\r\n");
    let call = |path: &str, headers: &str, body: &str| {
        assert_eq!(one.web().request("POST", path, headers, body).status, 200);
    };
    call("/api/send", "", r#"{"user_id":"bob","message":0}"#);
    for (name, body, user) in [
        ("send", r#"{"user_id":"bob","message":1}"#, Some(Value::from("bob"))),
        ("broadcast", r#"{"message":2}"#, None),
        ("kick", r#"{"user_id":"bob"}"#, Some(Value::from("bob"))),
    ] {
        call(&format!("/api/{name}"), &traceparent, body);
        for (node, text) in [(&one, "a call to"), (&two, "a request of node one")] {
            let line: Value = serde_json::from_str(&node.process.log_line(text)).unwrap();
            assert_eq!((&line["trace_id"], &line["call"]), (&trace.into(), &name.into()), "{line}");
            assert_eq!((&line["reached"], line.get("user")), (&1.into(), user.as_ref()), "{line}");
        }
    }
    assert_eq!([0, 1, 2].map(|_| bob.json()), [0, 1, 2]);
}
