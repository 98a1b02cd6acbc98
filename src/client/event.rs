//! What a client tells its program.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::ledger::Announced;
use super::refusal::Closed;
use super::summary::Summary;

/// Something happened on a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The connection's number, from 1; 0 for the client as a whole.
    pub connection: u32,
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// The connection is open.
    Connected {
        /// The server's address.
        address: SocketAddr,
        /// How many attempts it took, from 1.
        attempts: u32,
        /// Since the connection before it was lost.
        away: Option<Duration>,
    },
    /// The server said which instance it is.
    Welcomed {
        /// Display name and, if there is one, `/` and the id.
        instance: String,
    },
    /// The server said that it leaves.
    Notice {
        /// Why.
        reason: String,
        /// When to connect again, from now.
        reconnect_after: Option<Duration>,
        /// What it will still send.
        announced: Option<Announced>,
    },
    /// Numbered messages are missing before this one.
    Gap {
        /// The number that came.
        seq: u32,
        /// How many are missing.
        missing: u64,
    },
    /// A numbered message came again.
    Duplicate {
        /// Its number.
        seq: u32,
    },
    /// A text message came.
    Text(String),
    /// A binary message came.
    Binary(Bytes),
    /// Everything sent before [`super::Client::probe`] was taken in by the
    /// server, which has sent what it had to answer at once.
    Probed,
    /// The connection is gone and will be opened again.
    Disconnected {
        /// How it ended.
        closed: Closed,
        /// Announced messages that did not come.
        lost: u64,
        /// Messages that were accepted for sending and went with it.
        unsent: u64,
        /// When the next attempt is made, from now.
        retry_in: Duration,
    },
    /// An attempt to connect came to nothing.
    Failed {
        /// Why.
        why: String,
        /// When the next one is made, from now.
        retry_in: Duration,
    },
    /// The server will not take this connection; it is not tried again.
    Refused {
        /// Why.
        why: String,
    },
    /// The connection ended as this side asked, or its business is done; it is
    /// not opened again.
    Closed {
        /// How it ended.
        closed: Closed,
        /// Announced messages that did not come.
        lost: u64,
    },
    /// Nothing more will happen: no connection is left to keep. The last event.
    Finished(Box<Summary>),
}
