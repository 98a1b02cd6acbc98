//! Who gets what, on a node of four reactors.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::node::{DEADLINE, Node};
use crate::socket::{Socket, text};

const REACTORS: usize = 4;

fn node() -> Node {
    Node::start(&["--reactors", "4"])
}

/// The reactor that holds a connection: the first byte of its id.
fn reactor_of(connection: &Value) -> usize {
    usize::from_str_radix(&connection["connection"].as_str().unwrap()[..2], 16).unwrap()
}

fn reactors_of(node: &Node, user: &str) -> BTreeSet<usize> {
    let found = node.json(&format!("/api/users/{user}"));
    found["connections"].as_array().unwrap().iter().map(reactor_of).collect()
}

/// Connections of one user, at least one on each reactor.
fn everywhere(node: &Node, user: &str) -> Vec<Socket> {
    let mut sockets = Vec::new();
    // The kernel spreads connections by a hash of their ports.
    while reactors_of(node, user).len() < REACTORS {
        assert!(sockets.len() < 200, "connections are not spread");
        sockets.push(node.user(user));
    }
    sockets
}

/// One user on each reactor, named after it.
fn one_on_each(node: &Node) -> Vec<(String, Socket)> {
    let mut users: Vec<Option<(String, Socket)>> = (0..REACTORS).map(|_| None).collect();
    for attempt in 0.. {
        assert!(attempt < 200, "connections are not spread");
        let user = format!("user-{attempt}");
        let socket = node.user(&user);
        let reactor = *reactors_of(node, &user).first().unwrap();
        users[reactor].get_or_insert((user, socket));
        if users.iter().all(Option::is_some) {
            break;
        }
    }
    users.into_iter().flatten().collect()
}

#[test]
fn a_message_reaches_every_connection_of_a_user_once() {
    let node = node();
    let mut bobs = everywhere(&node, "bob");
    for (sender, socket) in &mut one_on_each(&node) {
        socket.send_message("bob", json!({"deep": [1, {"x": null}]}));
        socket.send_text(r#"{"type":"send_message","target_user":"bob","content":"the end"}"#);
        for bob in &mut bobs {
            let expected = json!({"type": "message", "from": *sender, "content": {"deep": [1, {"x": null}]}});
            assert_eq!(bob.json(), expected);
            assert_eq!(bob.json()["content"], "the end", "once");
        }
    }
}

#[test]
fn a_send_over_http_reports_each_connection_without_delay() {
    let node = node();
    let mut bobs = everywhere(&node, "bob");
    // The requests arrive at different reactors too.
    for n in 0..16 {
        let start = Instant::now();
        let sent = node.post("/api/send", &format!(r#"{{"user_id":"bob","message":{n}}}"#)).json();
        assert!(start.elapsed().as_secs() < 3, "it waited for a report that had come");
        assert_eq!(sent["status"], "delivered");
        let connections = sent["connections"].as_array().unwrap();
        assert_eq!(connections.len(), bobs.len());
        assert!(connections.iter().all(|connection| connection["status"] == "delivered"), "{sent}");
        for bob in &mut bobs {
            assert_eq!(bob.json(), n);
        }
    }
    let start = Instant::now();
    let kicked = node.post("/api/kick", r#"{"user_id":"bob"}"#).json();
    assert!(start.elapsed().as_secs() < 3, "it waited for a report that had come");
    assert_eq!(kicked["connections"].as_array().unwrap().len(), bobs.len());
    assert!(bobs.iter_mut().all(|bob| bob.closed_with().0 == 4003));
    assert_eq!(node.json("/api/users/bob")["online"], false);
}

#[test]
fn messages_between_two_users_keep_their_order() {
    const MESSAGES: u64 = 1_000;
    let node = node();
    let mut users = one_on_each(&node);
    for from in 0..REACTORS {
        for to in (0..REACTORS).filter(|to| *to != from) {
            let target = users[to].0.clone();
            let message = |n: u64| {
                text(&format!(r#"{{"type":"send_message","target_user":"{target}","content":{n}}}"#))
            };
            users[from].1.send((0..MESSAGES).flat_map(message).collect::<Vec<u8>>());
            for n in 0..MESSAGES {
                assert_eq!(users[to].1.json()["content"], n, "{from} to {to}");
            }
        }
    }
    assert!(users.iter_mut().all(|(_, socket)| {
        socket.assert_alive();
        true
    }));
}

#[test]
fn a_broadcast_reaches_every_connection_once() {
    const CONNECTIONS: usize = 300;
    const BROADCASTS: u64 = 5;
    let node = node();
    let join = |n: usize| match n % 3 {
        // Some users hold several connections, some clients have no name.
        0 => node.user(&format!("user-{}", n % 10)),
        1 => node.user(&format!("user-{n}")),
        _ => {
            let mut socket = node.socket("/ws");
            assert_eq!(socket.json()["type"], "welcome");
            socket
        }
    };
    let mut sockets: Vec<Socket> = (0..CONNECTIONS).map(join).collect();
    let mut echo = node.socket("/echo");
    for n in 0..BROADCASTS {
        sockets[7].send_text(&format!(r#"{{"type":"broadcast","content":{n}}}"#));
    }
    for socket in &mut sockets {
        for n in 0..BROADCASTS {
            assert_eq!(socket.json(), json!({"type": "broadcast", "from": "user-7", "content": n}));
        }
    }
    let result = node.post("/api/broadcast", r#"{"message":{"type":"notice"}}"#).json();
    assert_eq!(result["connections"], CONNECTIONS);
    assert_eq!(
        result["nodes"],
        json!([{"node": node.id, "connections": CONNECTIONS, "unconfirmed": 0, "status": "confirmed"}])
    );
    for socket in &mut sockets {
        assert_eq!(socket.json(), json!({"type": "notice"}), "nothing came twice");
    }
    echo.send_text("for me alone");
    assert_eq!(echo.frame().payload, b"for me alone");
}

/// More than is laid out for one connection in a turn: some of it is written
/// out early, to the publisher itself too, and none of it twice.
#[test]
fn a_burst_of_large_broadcasts_reaches_everybody_once() {
    const BROADCASTS: u64 = 60;
    let node = node();
    let mut sockets: Vec<Socket> = (0..20).map(|n| node.user(&format!("user-{n}"))).collect();
    let filler = "x".repeat(8 * 1024);
    let burst: Vec<u8> = (0..BROADCASTS)
        .flat_map(|n| text(&format!(r#"{{"type":"broadcast","content":{{"n":{n},"filler":"{filler}"}}}}"#)))
        .collect();
    sockets[3].send(burst);
    for socket in &mut sockets {
        for n in 0..BROADCASTS {
            assert_eq!(socket.json()["content"]["n"], n);
        }
    }
    node.post("/api/broadcast", r#"{"message":{"type":"notice"}}"#);
    for socket in &mut sockets {
        assert_eq!(socket.json(), json!({"type": "notice"}), "nothing came twice");
    }
}

#[test]
fn anonymous_clients_can_be_answered() {
    let node = node();
    let mut listener = node.user("listener");
    let mut clients: Vec<Socket> = (0..12).map(|_| node.socket("/ws?user_id=")).collect();
    let mut names = BTreeSet::new();
    for client in &mut clients {
        assert_eq!(client.json()["type"], "welcome");
        client.send_message("listener", "who am I?");
        let name = listener.json()["from"].as_str().unwrap().to_owned();
        assert!(name.starts_with("anon-"), "{name}");
        listener.send_message(&name, name.as_str());
        let answer = client.json();
        assert_eq!((&answer["from"], &answer["content"]), (&"listener".into(), &name.as_str().into()));
        names.insert(name);
    }
    assert_eq!(names.len(), clients.len());
    let name = names.first().unwrap();
    assert_eq!(node.json(&format!("/api/users/{name}"))["online"], true);
    drop(clients);
    node.wait_for_connections(1);
    listener.send_message(name, "are you there?");
    assert_eq!(listener.json()["message"], "User is not connected", "an id is not used again");
}

#[test]
fn a_sender_is_told_that_nobody_is_there() {
    let node = node();
    for (_, sender) in &mut one_on_each(&node) {
        for absent in ["nobody", "no\"body", "anon-00000000-0000000000000000"] {
            sender.send_message(absent, 1);
            let expected =
                json!({"type": "error", "message": "User is not connected", "target_user": absent});
            assert_eq!(sender.json(), expected);
        }
    }
    assert_eq!(node.metric(r#"throng_user_messages_total{outcome="offline"}"#), 12);
}

#[test]
fn a_user_is_online_until_the_last_connection_has_gone() {
    let node = node();
    let mut bobs = everywhere(&node, "bob");
    let connections = bobs.len();
    let found = node.json("/api/users/bob");
    assert_eq!(found["connections"].as_array().unwrap().len(), connections);
    assert!(found["connections"].as_array().unwrap().iter().all(|there| there["node"] == node.id));
    while let Some(bob) = bobs.pop() {
        assert_eq!(node.json("/api/users/bob")["online"], true);
        // Half of them vanish without a close frame.
        if bobs.len().is_multiple_of(2) {
            drop(bob);
        } else {
            let mut bob = bob;
            bob.send(crate::socket::frame(0x88, &1000_u16.to_be_bytes()));
            assert_eq!(bob.close_frame().0, 1000);
        }
        node.wait_for_connections(bobs.len() as u64);
    }
    let deadline = Instant::now() + DEADLINE;
    while node.json("/api/users/bob")["online"] == true {
        assert!(Instant::now() < deadline, "still online");
    }
    let changes = |event: &str| node.metric(&format!(r#"throng_user_changes_total{{event="{event}"}}"#));
    assert_eq!((changes("online"), changes("offline")), (1, 1));
}

#[test]
fn a_kicked_user_is_told_why() {
    let node = node();
    let kick = |options: &str| {
        let body = format!(r#"{{"user_id":"bob"{options}}}"#);
        let result = node.post("/api/kick", &body);
        assert_eq!(result.status, 200, "{result:?}");
        result.json()
    };
    assert_eq!(kick("")["status"], "offline");
    let check = |options: &str, message: Option<Value>, reason: &str| {
        let mut bobs = everywhere(&node, "bob");
        assert_eq!(kick(options)["status"], "kicked");
        for bob in &mut bobs {
            if let Some(message) = &message {
                assert_eq!(bob.json(), *message, "{options}");
            }
            assert_eq!(bob.closed_with(), (4003, reason.to_owned()), "{options}");
        }
    };
    check("", None, "Kicked");
    check(r#","reason":"spam""#, None, "spam");
    check(r#","reason":"spam","notify":true"#, Some(json!({"type": "kicked", "reason": "spam"})), "spam");
    check(r#","reason":"é","notify":true,"message":{"bye":1}"#, Some(json!({"bye": 1})), "é");
    check(r#","notify":false,"message":{"bye":1}"#, None, "Kicked");
    let long = "ö".repeat(100);
    check(&format!(r#","reason":"{long}""#), None, &"ö".repeat(61));
    let mut back = node.user("bob");
    back.assert_alive();
}

#[test]
fn who_has_been_welcomed_can_be_reached() {
    let node = node();
    let mut senders = one_on_each(&node);
    for n in 0..300 {
        let user = format!("newcomer-{n}");
        let mut newcomer = node.user(&user);
        let (name, sender) = &mut senders[n % REACTORS];
        sender.send_message(&user, n);
        assert_eq!(newcomer.json(), json!({"type": "message", "from": *name, "content": n}));
    }
}
