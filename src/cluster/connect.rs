//! Connections to Redis: one for commands, one for what other nodes publish.
//!
//! Owns how a server is found (directly, through sentinels, through the slots
//! of a Redis Cluster), how one signs in, and that no call waits longer than
//! its timeout. The `redis` crate speaks the protocol and TLS. Never decides
//! when to connect again: that is the [publisher](crate::cluster::publisher)'s.
//!
//! A connection that broke stays broken; its owner opens a new one, and asks
//! again where the master is by doing so. Two things are not done here because
//! they would hide a failover from the owner: a command is not repeated on a
//! new connection, and a subscription is not renewed.
//!
//! Redis 6 or newer is needed, 7 for a Redis Cluster (sharded channels). Names
//! are resolved by the system, which has timeouts of its own.

mod batch;
mod commands;
mod error;
mod eviction;
mod executor;
mod feed;
mod node;
mod routed;
mod sentinel;
mod slots;
mod subscription;

use std::path::PathBuf;
use std::time::Duration;

pub use super::target::{Address, Arrangement, Credentials, Target};
pub use commands::Commands;
pub use error::LinkError;
pub use subscription::{Message, Subscription};

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub target: Target,
    /// Certificates, in PEM, of the authorities that are trusted instead of
    /// the system's; only looked at with TLS.
    pub ca_file: Option<PathBuf>,
    /// From asking for a TCP connection to being signed in, for each server
    /// that is tried.
    pub connect_timeout: Duration,
    /// From sending a command, or a batch of them, to the last reply. A
    /// subscription that hears nothing for as long sends a probe.
    pub response_timeout: Duration,
}

/// Opens a connection for commands, to the current master or masters.
///
/// # Errors
/// No server could be reached or it refused; it is not a master.
pub fn open(settings: &Settings) -> Result<Commands, LinkError> {
    Commands::open(settings)
}

/// Opens a subscription to `channels`. When this returns, the servers have
/// confirmed all of them: what is published from now on arrives or the
/// subscription ends with an error.
///
/// # Errors
/// No server could be reached or it refused; it is not a master; in a Redis
/// Cluster, a channel's slot is being moved.
pub fn subscribe(settings: &Settings, channels: &[&str]) -> Result<Subscription, LinkError> {
    Subscription::open(settings, channels)
}
