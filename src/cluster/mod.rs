//! Many nodes, one hub: the cluster of nodes over Redis.
//!
//! Owns how a node reaches Redis and what it does when Redis comes and goes.
//! Reactors never wait for Redis: threads of the cluster do.

pub mod connect;
pub mod link;
pub mod target;
