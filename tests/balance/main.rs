//! Nodes behind a balancer: what clients notice when one of them dies, hangs,
//! leaves or comes back. Real processes, real sockets, ports from the kernel.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/authority.rs"]
mod authority;
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
mod backends;
mod balancer;
mod client;
mod descriptors;
mod drain;
mod failover;
mod listener;
mod passing;
mod robustness;
#[path = "../keys/signing.rs"]
mod signing;
mod stub;
mod tls;
mod tokens;
