//! Many nodes, one hub.
//!
//! Owns everything between nodes. Two threads talk to Redis: the
//! [publisher](publisher) registers users, looks them up and publishes
//! batches; the [subscriber](subscriber) takes batches in and posts what they
//! hold to the reactors. A reactor sees one mailbox
//! ([`message::ClusterMessage`]). What is decided is decided by pure parts:
//! [`wire`], a batch of envelopes as bytes; [`streams`], what came, what is
//! missing, what came before; [`router`], where a message goes and what its
//! sender is told. [`registry`] keeps members and users in Redis, [`connect`]
//! opens connections to it.

pub mod message;
pub mod publisher;
pub mod registry;
pub mod router;
pub mod streams;
pub mod subscriber;
pub mod wire;
