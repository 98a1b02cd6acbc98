//! The files that tell others how to run throng, held against throng itself: the
//! manifests of Kubernetes, the Dockerfile, the file for Compose.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/node.rs"]
mod node;
#[path = "../keys/signing.rs"]
mod signing;
#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/socket.rs"]
mod socket;
#[allow(dead_code, reason = "shared with the tests of one node")]
#[path = "../it/web.rs"]
mod web;

mod containers;
mod files;
mod jwt;
mod monitoring;
mod network;
mod overlay;
mod pods;
mod program;
mod running;
mod times;
mod tls;
