//! The balancer in front of the nodes.

pub mod director;
pub mod health;
pub mod pick;
pub mod roster;
