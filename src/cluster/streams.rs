//! Streams of numbered envelopes over a channel that loses, repeats and
//! reorders.
//!
//! Owns: [`Outgoing`], the source's end of one stream, and [`Incoming`], a
//! node's end of all streams that come to it. Never: bytes on their way, a
//! clock, a thread; moments are passed in.
//!
//! # What is promised
//!
//! Of the envelopes of one stream each is handed on at most once, and each one
//! the receiver has learnt of is handed on or reported lost, never both.
//! Memory is bounded at both ends. Order is kept as long as nothing is lost:
//! what comes after a gap is handed on at once, what fills the gap later.
//!
//! # How
//!
//! * The source numbers envelopes from 1 and keeps its last batches. Every
//!   batch says that all lower numbers were sent, also an empty one; the source
//!   sends an empty one when it has been silent, at growing intervals, so that
//!   the loss of the last batch is found too.
//! * The receiver asks for what is missing at once and then once per interval;
//!   the source answers with batches as they were, with what it no longer has,
//!   and with an empty batch. What does not come in time is reported lost.
//! * A stream to one node is for one incarnation of it, so a receiver knows
//!   its first number. Where the stream to all nodes begins for a receiver, the
//!   source says in the stream to that receiver, so that it is known even if
//!   the first broadcast gets lost.
//! * A new incarnation of the source has new streams; what was missing of its
//!   predecessor's is lost. The tail that no batch told of ended with its source.

mod gaps;
mod incoming;
mod outgoing;
#[cfg(test)]
mod simulation;

pub use incoming::{Event, Incoming, Missing, Refusal, Verdict};
pub use outgoing::{Outgoing, Repair};
