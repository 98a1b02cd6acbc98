//! What can be seen of a node and a balancer from outside: that the metrics
//! are those that are documented, that the alert rules and the dashboards use
//! no others, and what the log says of a connection. Real processes.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

#[allow(dead_code, reason = "shared with the tests of a balancer")]
#[path = "../balance/balancer.rs"]
mod balancer;
#[allow(dead_code, reason = "shared with the tests of a balancer")]
#[path = "../balance/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/node.rs"]
mod node;
#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/socket.rs"]
mod socket;
#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/web.rs"]
mod web;

mod api;
mod endings;
mod exposition;
mod manual;
mod protocol;
mod references;

use std::path::PathBuf;

use balancer::Balancer;
use exposition::{Family, families};
use node::Node;

/// A path in the repository.
fn path_of(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of the repository.
fn file(path: &str) -> String {
    std::fs::read_to_string(path_of(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a node and a balancer in front of it expose.
fn exposed() -> (Vec<Family>, Vec<Family>) {
    let nodes = [Node::start(&[])];
    let balancer = Balancer::start(&nodes, &[]);
    let text = |response: web::Response| {
        assert_eq!(response.status, 200);
        String::from_utf8(response.body).unwrap()
    };
    (families(&text(nodes[0].get("/metrics"))), families(&text(balancer.get("/metrics"))))
}
