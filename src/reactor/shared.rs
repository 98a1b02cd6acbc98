//! What the threads of a node have in common.
//!
//! Owns: [`Shared`]. Nothing in it is locked on the way of a message; what is
//! written often lives in the per-thread counters instead.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::Sender;
use serde_json::value::RawValue;

use super::mailbox::Mailbox;
use super::message::{Presence, ReactorMessage};
use crate::auth::KeyRing;
use crate::cluster::Overview;
use crate::cluster::message::ClusterMessage;
use crate::drain::Phase;
use crate::hub::Homes;
use crate::ids::ReactorId;
use crate::limiter::{AddressLimiter, HandshakeLimiter};
use crate::metrics::Metrics;

/// Read by every reactor and by the library's handle.
pub struct Shared {
    /// The identity as JSON, rendered once.
    pub identity_json: Box<RawValue>,
    /// What welcomes name.
    pub display_name: String,
    /// What `/health` names.
    pub service_name: String,
    /// The program's version.
    pub version: &'static str,
    /// This node.
    pub node_id: String,
    /// Where HTTP is served.
    pub address: SocketAddr,
    /// The same, as others reach it: with the machine's address if all were bound.
    pub advertised: SocketAddr,
    /// Whether who connects while this node closes can wait for the next: the
    /// listeners are the service manager's and stay open.
    pub listeners_outlive: bool,
    /// Counters of all threads.
    pub metrics: Arc<Metrics>,
    /// Connections per client address.
    pub limiter: AddressLimiter,
    /// TLS handshakes per peer's address.
    pub handshakes: HandshakeLimiter,
    /// Keys of clients' tokens; `None` where none are asked for.
    pub token_keys: Option<KeyRing>,
    /// Into each reactor.
    pub mailboxes: Vec<Mailbox<ReactorMessage>>,
    /// Into the cluster, if there is one.
    pub cluster: Option<Mailbox<ClusterMessage>>,
    /// What is known of the cluster, if there is one.
    pub overview: Option<Arc<Overview>>,
    /// Which reactor is home to whom.
    pub homes: Homes,
    /// When the node started; ticks count from here in every reactor.
    pub started: Instant,
    /// Makes this drain's schedule unlike the last one's.
    pub drain_seed: u64,
    /// WebSocket connections open, for `max_connections`.
    pub open: AtomicUsize,
    /// Where users' first and last connections are told, once somebody asked.
    pub presence: OnceLock<Sender<Presence>>,
    /// The drain's phase.
    pub phase: AtomicU8,
}

impl Shared {
    /// Where the node is in its life.
    pub fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Ordering::Acquire))
    }

    /// The way into a reactor; `None` for a number that is none.
    pub fn mailbox(&self, reactor: ReactorId) -> Option<&Mailbox<ReactorMessage>> {
        self.mailboxes.get(reactor.index())
    }

    /// Takes one of `max` places for an open connection.
    pub fn admit(&self, max: usize) -> bool {
        let admitted = self.open.fetch_add(1, Ordering::AcqRel) < max;
        if !admitted {
            self.release();
        }
        admitted
    }

    /// Gives the place back.
    pub fn release(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}
