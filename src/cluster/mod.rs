//! Many nodes, one hub.
//!
//! Owns what nodes say to each other: [`wire`], a batch of envelopes as bytes,
//! and [`streams`], which numbers the envelopes of each node to each other
//! node, finds what was lost or came twice, and repairs it. Both are pure:
//! what carries the bytes, and when, is decided elsewhere.

pub mod streams;
pub mod wire;
