//! Several nodes on a real Redis: what they do together, and what they do when
//! something fails. Needs `redis-server` and `redis-sentinel`.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/node.rs"]
mod node;
#[path = "../redis_servers/mod.rs"]
mod redis_servers;
#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/socket.rs"]
mod socket;
#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/web.rs"]
mod web;

mod events;
mod failures;
mod incarnations;
mod leaving;
mod measures;
mod namesakes;
mod outage;
mod partition;
mod repair;
mod rights;
mod routing;
mod strangers;
mod strays;
mod topologies;

use std::collections::BTreeSet;

use serde_json::Value;

use node::{Launch, Node, eventually};
use socket::Socket;

/// Signs of life this often, and how long without one is dead.
const BEAT: &str = "200ms";
const EXPIRY: &str = "1500ms";

/// A node named `id` on the Redis at `url`.
fn launch(id: &str, url: &str) -> Launch {
    launch_patient(id, url, EXPIRY)
}

/// As [`launch`]; the node calls others dead after `expiry`.
fn launch_patient(id: &str, url: &str, expiry: &str) -> Launch {
    let args = ["--node-id", id, "--redis-url", url, "--cluster-beat", BEAT, "--cluster-expiry", expiry];
    Launch::serve(&[&args[..], &["--reactors", "2"]].concat())
}

/// A node that has joined.
fn join(id: &str, url: &str) -> Node {
    let node = launch(id, url).start();
    wait_until_ready(&node);
    node
}

fn link(node: &Node) -> String {
    node.get("/readyz").json()["cluster"].as_str().unwrap_or_default().to_owned()
}

fn wait_until_ready(node: &Node) {
    eventually("the node is in the cluster", || link(node) == "ready");
}

/// Nodes that all know each other.
fn nodes<const N: usize>(url: &str) -> [Node; N] {
    let names = ["a", "b", "c", "d"];
    let nodes = std::array::from_fn(|index| join(names[index], url));
    for node in &nodes {
        eventually("every node knows the others", || listed(node).len() == N);
    }
    nodes
}

fn listed(node: &Node) -> Vec<Value> {
    node.json("/nodes").as_array().cloned().unwrap_or_default()
}

/// The nodes a user is on, as `node` says.
fn nodes_of(node: &Node, user: &str) -> Vec<String> {
    let found = node.json(&format!("/api/users/{user}"));
    let connections = found["connections"].as_array().cloned().unwrap_or_default();
    let mut nodes: Vec<String> =
        connections.iter().map(|one| one["node"].as_str().unwrap_or_default().to_owned()).collect();
    nodes.sort();
    nodes
}

fn wait_until_on(node: &Node, user: &str, expected: &[&str]) {
    eventually(&format!("{user} is on {expected:?}"), || nodes_of(node, user) == expected);
}

/// Waits until each of these nodes lists just these.
fn wait_until_met(nodes: &[&Node]) {
    let ids: BTreeSet<&str> = nodes.iter().map(|node| &*node.id).collect();
    for node in nodes {
        wait_until_ready(node);
        eventually("all nodes are listed", || {
            let listed = listed(node);
            listed.len() == ids.len() && listed.iter().all(|one| ids.contains(one["id"].as_str().unwrap()))
        });
    }
}

/// A message from one client to another is the next that arrives.
fn assert_routed(from: &mut Socket, to: &mut Socket, to_user: &str, content: &str) {
    from.send_message(to_user, content);
    let message = to.json();
    assert_eq!((&message["type"], &message["content"]), (&"message".into(), &content.into()), "{message}");
}

/// Sends over HTTP and returns the status of the whole.
fn send(node: &Node, user: &str, message: &str) -> String {
    let answer = node.post("/api/send", &format!(r#"{{"user_id":"{user}","message":{message}}}"#)).json();
    answer["status"].as_str().unwrap_or_default().to_owned()
}
