//! What one node tells another: a batch of envelopes in one block of bytes.
//!
//! Owns: the format. Never: who is told, when, or what came of it.
//!
//! ```text
//! batch     version u8 · bytes u32 · source length u8 · source · incarnation u64
//!           · stream u8 · target u64 · first u64 · count u32 · envelope*
//! envelope  kind u8 · length u32 · body
//! ```
//!
//! Integers are little-endian, texts are UTF-8 behind a `u32` length. `bytes`
//! is the length of the whole batch, so that one cut short is known at once.
//! Kinds below 0x80 are numbered: the first in the batch is number `first` of
//! its stream. Kinds from 0x80 on are about streams and have no number.
//!
//! A node skips a kind it does not know, and the end of a body that is longer
//! than it knows, so nodes of different versions work together; only a change
//! to the batch itself needs another version byte.

mod aside;
mod body;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;

use crate::delivery::Outcome;

pub use aside::{Aside, Probe};
pub use read::{Envelopes, Item, read};
pub use write::{BatchWriter, Refused};

/// The first byte of every batch.
pub const VERSION: u8 = 1;

/// Kinds from here on have no number.
const UNNUMBERED: u8 = 0x80;

/// Bytes before an envelope's body.
const ENVELOPE_HEAD_BYTES: usize = 5;

/// One message between nodes. Texts are borrowed: from the sender's request
/// when written, from the batch when read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope<'a> {
    /// Send this to the user's connections.
    Send {
        /// What the source wants to hear of it.
        answer: Answer,
        /// The user.
        user: &'a str,
        /// The message as clients get it.
        text: &'a str,
        /// What may be known of it besides.
        aside: Aside,
    },
    /// Send this to every connection.
    Broadcast {
        /// Names the request within the source's incarnation.
        id: u64,
        /// The message as clients get it.
        text: &'a str,
        /// Whether an [`Envelope::Ack`] is expected.
        wants_result: bool,
        /// What may be known of it besides.
        aside: Aside,
    },
    /// Close the user's connections; an [`Envelope::Ack`] is expected.
    Kick {
        /// Names the request within the source's incarnation.
        id: u64,
        /// The user.
        user: &'a str,
        /// For the close frame.
        reason: &'a str,
        /// Sent before the close frame.
        farewell: Option<&'a str>,
        /// What may be known of it besides.
        aside: Aside,
    },
    /// Say which connections the user has; an [`Envelope::Ack`] is expected.
    Locate {
        /// Names the request within the source's incarnation.
        id: u64,
        /// The user.
        user: &'a str,
    },
    /// What came of a request of the node this is sent to.
    Ack {
        /// The request.
        id: u64,
        /// The user's connections on this node and what happened to each, or
        /// where they are.
        connections: Vec<(u64, Outcome)>,
        /// Connections a broadcast was queued for.
        audience: u64,
        /// Reactors that did not confirm.
        unconfirmed: u32,
    },
    /// The user has, or no longer has, connections on other nodes than the one
    /// this is sent to.
    Elsewhere {
        /// The user.
        user: &'a str,
        /// Whether there are any.
        elsewhere: bool,
    },
    /// Where the user is has changed: what is remembered of it is outdated.
    Forget {
        /// The user.
        user: &'a str,
    },
    /// For the node this is sent to, my stream to all nodes begins with this
    /// number: what was sent before is not for it. Being numbered, it arrives
    /// even if the subscription breaks before anything was heard of me.
    Begin {
        /// The first number, from 1.
        number: u64,
    },
    /// No connection of the user took this [`Envelope::Send`] of the node it is
    /// sent to, which asked for it back in that case.
    Returned {
        /// As in [`Answer::Return`].
        sender: u64,
        /// As in [`Answer::Return`].
        tries: u8,
        /// The user.
        user: &'a str,
        /// The message as clients get it.
        text: &'a str,
    },
    /// An [`Envelope::Send`] of the node this is sent to was a probe, and has
    /// been written to a connection.
    Probed {
        /// As it came.
        probe: Probe,
        /// From hearing it to having written it, in microseconds.
        held_micros: u32,
        /// From hearing it to laying out this, in microseconds.
        stayed_micros: u32,
    },
    /// Send these numbers of a stream of yours again; not numbered itself.
    Resend {
        /// Which of the streams.
        stream: Stream,
        /// The first number.
        from: u64,
        /// The last number; may lie beyond what was sent, for all there are.
        to: u64,
    },
    /// These numbers of a stream of mine cannot be sent again; not numbered itself.
    Lost {
        /// Which of the streams.
        stream: Stream,
        /// The first number.
        from: u64,
        /// The last number.
        to: u64,
    },
}

impl Envelope<'_> {
    /// The byte that names the kind.
    fn kind(&self) -> u8 {
        match self {
            Envelope::Send { .. } => 0x01,
            Envelope::Broadcast { .. } => 0x02,
            Envelope::Kick { .. } => 0x03,
            Envelope::Locate { .. } => 0x04,
            Envelope::Ack { .. } => 0x05,
            Envelope::Elsewhere { .. } => 0x06,
            Envelope::Forget { .. } => 0x07,
            Envelope::Begin { .. } => 0x08,
            Envelope::Returned { .. } => 0x09,
            Envelope::Probed { .. } => 0x0a,
            Envelope::Resend { .. } => 0x81,
            Envelope::Lost { .. } => 0x82,
        }
    }

    /// Whether it has a number in its stream.
    pub fn is_numbered(&self) -> bool {
        self.kind() < UNNUMBERED
    }
}

/// What the source of an [`Envelope::Send`] wants to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Nothing,
    /// An [`Envelope::Ack`] with this id, which names the request within the
    /// source's incarnation.
    Ack(u64),
    /// An [`Envelope::Returned`] if no connection took it, nothing otherwise. A
    /// node that does not know this answers nothing.
    Return {
        /// The connection of the source that sent it.
        sender: u64,
        /// How often it came back before, up to [`TRIES_MAX`].
        tries: u8,
    },
}

/// What [`Answer::Return`] can count to.
pub const TRIES_MAX: u8 = 0x3f;

/// Which of a node's streams: each has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// To all nodes at once.
    Broadcast,
    /// To the node that has this incarnation. A node that started again is
    /// another one: what was meant for its predecessor is not for it.
    To(u64),
}

/// What is said once for all envelopes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader<'a> {
    /// Id of the node that sent it.
    pub source: &'a str,
    /// Which start of that node.
    pub incarnation: u64,
    /// Which of its streams.
    pub stream: Stream,
    /// Number of the first numbered envelope; numbers begin at 1. All lower
    /// numbers have been sent before, so a batch without any numbered
    /// envelope still says where the stream stands.
    pub first: u64,
    /// Numbered envelopes in the batch.
    pub count: u32,
}

/// Why bytes are not a batch, or an envelope not readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The batch ends early, or goes on after its end.
    Length,
    /// Another version of the format.
    Version(u8),
    /// Above [`crate::limits::CLUSTER_BATCH_BYTES_MAX`]; so many bytes.
    TooBig(usize),
    /// The source is empty, too long or not UTF-8.
    Source,
    /// A stream that has no meaning.
    Stream(u8),
    /// The numbers do not begin at 1 or exceed 64 bits.
    Numbers,
    /// Not as many numbered envelopes as said.
    Count,
    /// The body of an envelope of this kind: cut short, too long a text, not
    /// UTF-8, or a range that ends before it begins. Other envelopes of the
    /// batch are not affected.
    Body(u8),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("batch of another length than it says"),
            Self::Version(version) => write!(f, "batch of format {version}, this node reads {VERSION}"),
            Self::TooBig(bytes) => write!(f, "batch of {bytes} bytes"),
            Self::Source => f.write_str("batch without a valid source"),
            Self::Stream(stream) => write!(f, "batch of an unknown kind of stream, {stream}"),
            Self::Numbers => f.write_str("batch with impossible numbers"),
            Self::Count => f.write_str("batch with another count of envelopes than it says"),
            Self::Body(kind) => write!(f, "envelope of kind {kind:#04x} with a malformed body"),
        }
    }
}

impl std::error::Error for WireError {}
