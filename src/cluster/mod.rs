//! Many nodes, one hub.
//!
//! Owns what nodes say to each other: [`wire`], a batch of envelopes as bytes.
//! It is pure: what carries the bytes, and when, is decided elsewhere.

pub mod wire;
