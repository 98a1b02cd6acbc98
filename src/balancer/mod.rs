//! The balancer: what stands before several nodes and gives each client one of them.

pub mod config;
pub mod frames;
pub mod head;
pub mod proxy_protocol;
mod start;

pub use start::{Balancer, start};
