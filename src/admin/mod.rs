//! The HTTP side of a node, for operators, probes and other programs.

pub mod api;
pub mod auth;
