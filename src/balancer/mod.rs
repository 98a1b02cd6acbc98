//! The balancer: what stands before several nodes and gives each client one of them.

pub mod api;
pub mod config;
pub mod ended;
pub mod frames;
pub mod head;
pub mod health;
pub mod metrics;
pub mod pick;
pub mod proxy_protocol;
pub mod roster;
mod start;
pub mod view;

pub use start::{Balancer, start};
