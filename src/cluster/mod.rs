//! Many nodes, one hub.
//!
//! Owns everything between nodes. Two threads talk to Redis: the
//! [publisher] registers users, looks them up and publishes batches; the
//! [subscriber] takes batches in and posts what they hold to the reactors. A
//! reactor sees one mailbox ([`message::ClusterMessage`]). What is decided is
//! decided by pure parts: [`wire`], a batch of envelopes as bytes; [`streams`],
//! what came, what is missing, what came before; [`router`], where a message
//! goes and what its sender is told; [`sources`], where one came from, in short.
//! [`registry`] keeps members and users in
//! Redis, [`connect`] opens connections to it.

mod complaints;
pub mod connect;
pub mod message;
pub mod publisher;
pub mod registry;
pub mod router;
pub mod sources;
pub mod streams;
pub mod subscriber;
mod target;
pub mod wire;

mod start;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

pub use start::{Cluster, Prepared};

use crate::delivery::NodeListing;
use registry::{NodeRecord, Status};

/// How the node stands to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkState {
    /// Redis cannot be reached: this node's clients are served alone.
    Down,
    /// Redis is reached; this node's users are being registered.
    Joining,
    /// All users are registered, what is sent here is heard.
    Ready,
}

impl LinkState {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            LinkState::Down => "down",
            LinkState::Joining => "joining",
            LinkState::Ready => "ready",
        }
    }
}

/// What the API shows of the cluster. Written by the publisher, read by reactors for requests only.
#[derive(Debug)]
pub struct Overview {
    state: AtomicU8,
    nodes: Mutex<Vec<NodeListing>>,
}

impl Default for Overview {
    fn default() -> Self {
        Overview { state: AtomicU8::new(LinkState::Down as u8), nodes: Mutex::new(Vec::new()) }
    }
}

impl Overview {
    /// How the node stands to the cluster.
    pub fn state(&self) -> LinkState {
        match self.state.load(Ordering::Acquire) {
            0 => LinkState::Down,
            1 => LinkState::Joining,
            _ => LinkState::Ready,
        }
    }

    /// The nodes that were alive when last asked, this one among them.
    pub fn nodes(&self) -> Vec<NodeListing> {
        self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set_state(&self, state: LinkState) {
        self.state.store(state as u8, Ordering::Release);
    }

    fn set_nodes(&self, records: Vec<NodeRecord>) {
        let listing = |record: NodeRecord| NodeListing {
            id: record.node.id,
            ip_address: record.node.address,
            port: record.node.port,
            status: if record.node.status == Status::Active { "active" } else { "draining" },
            connections: record.node.connections,
        };
        let nodes = records.into_iter().map(listing).collect();
        *self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = nodes;
    }
}
