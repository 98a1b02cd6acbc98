//! `throng balance`: a load balancer for nodes.

pub mod config;
mod start;

pub use start::{Balancer, start};
