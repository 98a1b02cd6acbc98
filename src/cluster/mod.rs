//! Many nodes, one hub.
//!
//! Owns what nodes know of each other: [`registry`], who is a member and which
//! users are where, kept in Redis.

pub mod registry;
