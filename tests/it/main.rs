//! The node from outside: a real process (or [`throng::Server`], where the
//! library is the subject), real sockets, ports from the kernel. Every wait is
//! for an event and has a deadline; every process ends with its test.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod auth;
mod authority;
mod backpressure;
mod client;
mod descriptors;
mod drain;
mod heartbeat;
mod http;
mod inherited;
mod library;
mod limits;
mod node;
mod process;
mod routing;
#[path = "../keys/signing.rs"]
mod signing;
mod socket;
mod storm;
mod tls;
mod web;
mod websocket;
