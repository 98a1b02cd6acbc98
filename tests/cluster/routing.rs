//! What nodes do together while nothing fails.

use serde_json::json;

use crate::node::{Node, eventually};
use crate::redis_servers::Redis;
use crate::socket::Socket;
use crate::{launch, listed, nodes, nodes_of, send, wait_until_on, wait_until_ready};

#[test]
fn messages_cross_in_order_and_once() {
    const MESSAGES: u64 = 1000;
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let (mut ann, mut bob) = (a.user("ann"), b.user("bob"));
    wait_until_on(&a, "bob", &["b"]);
    wait_until_on(&b, "ann", &["a"]);
    for n in 0..MESSAGES {
        ann.send_message("bob", n);
        bob.send_message("ann", n);
    }
    for n in 0..MESSAGES {
        assert_eq!(bob.json(), json!({"type": "message", "from": "ann", "content": n}));
        assert_eq!(ann.json(), json!({"type": "message", "from": "bob", "content": n}));
    }
    assert_eq!(send(&a, "bob", "\"end\""), "delivered");
    assert_eq!(bob.json(), json!("end"), "nothing came twice");
}

#[test]
fn a_user_on_several_nodes_is_reached_on_all() {
    let redis = Redis::start();
    let [a, b, c] = nodes(&redis.url());
    let mut bobs: Vec<Socket> = [&a, &b, &b].iter().map(|node| node.user("bob")).collect();
    for node in [&a, &b, &c] {
        wait_until_on(node, "bob", &["a", "b", "b"]);
        assert_eq!(send(node, "bob", "1"), "delivered");
        for bob in &mut bobs {
            assert_eq!(bob.json(), json!(1));
        }
    }
    // The home of a node learns that the other's connections are gone.
    drop(bobs.split_off(1));
    for node in [&a, &b, &c] {
        wait_until_on(node, "bob", &["a"]);
        assert_eq!(send(node, "bob", "2"), "delivered");
        assert_eq!(bobs[0].json(), json!(2));
    }
    let kicked = c.post("/api/kick", r#"{"user_id":"bob","reason":"enough"}"#).json();
    assert_eq!(kicked["status"], "kicked");
    assert_eq!(bobs[0].closed_with(), (4003, "enough".to_owned()));
    eventually("bob is offline", || nodes_of(&a, "bob").is_empty());
    assert_eq!(send(&b, "bob", "3"), "offline");
}

#[test]
fn a_broadcast_reaches_everybody_once() {
    let redis = Redis::start();
    let [a, b, c] = nodes(&redis.url());
    let mut sockets: Vec<Socket> = [&a, &b, &c]
        .iter()
        .flat_map(|node| (0..20).map(|n| node.user(&format!("u{n}"))).collect::<Vec<_>>())
        .collect();
    let answer = b.post("/api/broadcast", r#"{"message":{"n":1}}"#).json();
    assert_eq!(answer["connections"], 60);
    for node in answer["nodes"].as_array().unwrap() {
        assert_eq!((&node["connections"], &node["status"]), (&json!(20), &json!("confirmed")));
    }
    sockets[0].send_text(r#"{"type":"broadcast","content":2}"#);
    for socket in &mut sockets {
        assert_eq!(socket.json(), json!({"n": 1}));
        assert_eq!(socket.json(), json!({"type": "broadcast", "from": "u0", "content": 2}));
    }
    b.post("/api/broadcast", r#"{"message":"end"}"#);
    for socket in &mut sockets {
        assert_eq!(socket.json(), json!("end"), "nothing came twice");
    }
}

#[test]
fn anonymous_clients_of_other_nodes_can_be_answered() {
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let mut ann = a.user("ann");
    let mut nameless = b.socket("/ws");
    nameless.json();
    nameless.send_text(r#"{"type":"broadcast","content":"who?"}"#);
    let from = ann.json()["from"].as_str().unwrap().to_owned();
    nameless.json();
    ann.send_message(&from, "ann");
    assert_eq!(nameless.json(), json!({"type": "message", "from": "ann", "content": "ann"}));
    assert_eq!(send(&a, &from, "1"), "delivered");
}

#[test]
fn who_is_nowhere_is_said_to_be() {
    let redis = Redis::start();
    let [a, _b] = nodes(&redis.url());
    let mut ann = a.user("ann");
    ann.send_message("ghost", 1);
    let expected = json!({"type": "error", "message": "User is not connected", "target_user": "ghost"});
    assert_eq!(ann.json(), expected);
    assert_eq!(a.metric(r#"throng_user_messages_total{outcome="offline"}"#), 1);
    assert_eq!(send(&a, "ghost", "1"), "offline");
}

#[test]
fn users_and_nodes_are_listed_by_any_node() {
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let _sockets: Vec<Socket> = (0..25).map(|n| [&a, &b][n % 2].user(&format!("user-{n:02}"))).collect();
    eventually("all are registered", || {
        a.json("/api/users?limit=1000")["users"].as_array().unwrap().len() == 25
    });
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = b.json(&format!("/api/users?limit=10&after={after}"));
        seen.extend(
            page["users"].as_array().unwrap().iter().map(|user| user["user_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert_eq!(seen, (0..25).map(|n| format!("user-{n:02}")).collect::<Vec<_>>());
    eventually("counts are those of the tables", || {
        let count = |node: &serde_json::Value| node["connections"].as_u64().unwrap();
        listed(&a).iter().map(count).collect::<Vec<_>>() == [13, 12]
    });
}

#[test]
fn a_node_starts_without_redis_and_joins_later() {
    let mut redis = Redis::start();
    redis.kill();
    let a = launch("a", &redis.url()).start();
    assert_eq!(a.get("/readyz").json()["cluster"], "down");
    let mut ann = a.user("ann");
    assert_eq!(send(&a, "ann", "1"), "delivered");
    assert_eq!(ann.json(), json!(1));
    assert_eq!(send(&a, "bob", "1"), "unavailable");
    redis.restart();
    wait_until_ready(&a);
    let b = crate::join("b", &redis.url());
    wait_until_on(&b, "ann", &["a"]);
}

#[test]
fn a_node_that_requires_redis_does_not_start_without() {
    let mut redis = Redis::start();
    redis.kill();
    let url = redis.url();
    let mut process = crate::Launch::serve(&["--redis-url", &url, "--redis-required"]).spawn();
    assert_eq!(process.wait().code(), Some(1));
    let lines = process.rest_of_stderr();
    assert!(lines.last().is_some_and(|line| line.contains("cannot join the cluster")), "{lines:?}");
}

#[test]
fn a_kick_closes_the_connections_on_all_nodes_and_says_so() {
    let redis = Redis::start();
    let all: [Node; 3] = nodes(&redis.url());
    for from in &all {
        let mut daves: Vec<Socket> = [1, 1, 2].map(|at: usize| all[at].user("dave")).into();
        for node in &all {
            wait_until_on(node, "dave", &["b", "b", "c"]);
        }
        let body = r#"{"user_id":"dave","reason":"spam","notify":true}"#;
        let kicked = from.post("/api/kick", body).json();
        assert_eq!(kicked["status"], "kicked");
        let mut closed: Vec<_> = kicked["connections"].as_array().unwrap().iter().collect();
        closed.sort_by_key(|one| one["node"].as_str());
        let closed: Vec<_> = closed.iter().map(|one| (&one["node"], &one["status"])).collect();
        let [b, c, status] = ["b", "c", "closed"].map(serde_json::Value::from);
        assert_eq!(closed, [(&b, &status), (&b, &status), (&c, &status)]);
        for dave in &mut daves {
            assert_eq!(dave.json(), json!({"type": "kicked", "reason": "spam"}));
            assert_eq!(dave.closed_with(), (4003, "spam".to_owned()));
        }
        for node in &all {
            wait_until_on(node, "dave", &[]);
        }
        assert_eq!(from.post("/api/kick", body).json()["status"], "offline");
    }
}

#[test]
fn whoever_was_asked_for_in_vain_is_found_once_there() {
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let mut ann = a.user("ann");
    for n in 0..20 {
        let user = format!("newcomer-{n}");
        ann.send_message(&user, "too early");
        assert_eq!(ann.json()["message"], "User is not connected");
        let mut newcomer = b.user(&user);
        wait_until_on(&a, &user, &["b"]);
        crate::assert_routed(&mut ann, &mut newcomer, &user, "there you are");
    }
}
