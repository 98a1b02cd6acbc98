//! The balancer: what stands before several nodes and gives each client one of them.

pub mod config;
pub mod frames;
pub mod head;
pub mod health;
pub mod pick;
pub mod proxy_protocol;
pub mod roster;
mod start;

pub use start::{Balancer, start};
