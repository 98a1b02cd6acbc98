//! The streams of this node: one to each other node and one to all.
//!
//! Owns [`Lanes`]: what goes into the next batch of each stream and what was
//! sealed. Never: which envelope goes where.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;

use super::Channel;
use super::unheard::Unheard;
use crate::cluster::registry::Member;
use crate::cluster::streams::Outgoing;
use crate::cluster::wire::{BatchWriter, Envelope, Refused, Stream, WireError};
use crate::limits::STREAM_ABSENCE;

/// A batch and where it is to be published.
pub(super) type Sealed = (Channel, Bytes);

/// See the module.
pub(super) struct Lanes {
    me: Member,
    ring_bytes: usize,
    nodes: HashMap<String, Lane>,
    all: Lane,
    sealed: Vec<Sealed>,
    /// Who did not hear what was last published.
    pub(super) unheard: Unheard,
    /// Batches that their nodes did not hear and will not be sent again.
    pub(super) taken_back: Vec<(String, Bytes)>,
}

/// A stream of ours, with what is to go into its next batch.
struct Lane {
    incarnation: u64,
    /// Since when its node has not been among the living.
    absent_since: Option<Instant>,
    outgoing: Outgoing,
    writer: BatchWriter,
}

impl Lanes {
    /// No stream but the one to all.
    ///
    /// # Errors
    /// A node id that no batch can carry.
    pub(super) fn new(me: Member, ring_bytes: usize) -> Result<Self, WireError> {
        let all = Lane::new(&me, Stream::Broadcast, 0, ring_bytes)?;
        Ok(Lanes {
            me,
            ring_bytes,
            nodes: HashMap::new(),
            all,
            sealed: Vec::new(),
            unheard: Unheard::default(),
            taken_back: Vec::new(),
        })
    }

    /// Ends the streams to nodes that have started anew or have long been absent.
    pub(super) fn retain(&mut self, others: &[Member], now: Instant) {
        let living = |node: &str| others.iter().find(|other| other.node == *node);
        let Lanes { nodes, unheard, taken_back, .. } = self;
        nodes.retain(|node, lane| {
            let living = living(node);
            let is_kept = lane.is_kept(living, now);
            if (!is_kept || living.is_none())
                && let Some(from) = unheard.end(node)
            {
                taken_back.extend(lane.outgoing.take_back(from).map(|batch| (node.clone(), batch)));
            }
            is_kept
        });
    }

    /// Takes back what a node did not hear, from this number on. The number
    /// after the last that was sent to it.
    pub(super) fn take_back(&mut self, node: &str, from: u64) -> u64 {
        let Some(lane) = self.nodes.get_mut(node) else { return from };
        self.taken_back.extend(lane.outgoing.take_back(from).map(|batch| (node.to_owned(), batch)));
        lane.outgoing.next()
    }

    /// As [`Lanes::take_back`], of a node that will not hear any more.
    pub(super) fn end_unheard(&mut self, node: &str) {
        if let Some(from) = self.unheard.end(node) {
            self.take_back(node, from);
        }
    }

    /// Number of the first envelope of the next batch to all.
    pub(super) fn next_to_all(&self) -> u64 {
        self.all.outgoing.next()
    }

    /// Which incarnation of a node the stream to it is for.
    pub(super) fn incarnation(&self, node: &str) -> Option<u64> {
        self.nodes.get(node).map(|lane| lane.incarnation)
    }

    /// Adds an envelope to the next batch to all; false for one no batch can carry.
    pub(super) fn queue_for_all(&mut self, envelope: &Envelope<'_>, now: Instant) -> bool {
        self.all.append(envelope, || Channel::All, &mut self.sealed, now)
    }

    /// Adds an envelope to the next batch to a node, or to the incarnation that
    /// followed the one meant; false for one no batch can carry.
    pub(super) fn queue_for(
        &mut self,
        node: &str,
        incarnation: u64,
        envelope: &Envelope<'_>,
        now: Instant,
    ) -> bool {
        let outdated = self.nodes.get(node).is_some_and(|lane| lane.incarnation < incarnation);
        if outdated {
            self.end_unheard(node);
            self.nodes.remove(node);
        }
        if !self.nodes.contains_key(node) {
            let stream = Stream::To(incarnation);
            let Ok(lane) = Lane::new(&self.me, stream, incarnation, self.ring_bytes) else { return false };
            self.nodes.insert(node.to_owned(), lane);
        }
        let Some(lane) = self.nodes.get_mut(node) else { return false };
        lane.append(envelope, || Channel::Node(node.to_owned()), &mut self.sealed, now)
    }

    /// Sends a node numbers of a stream again, as far as they are kept.
    pub(super) fn resend(&mut self, from: &Member, stream: Stream, first: u64, last: u64, now: Instant) {
        let lane = match stream {
            Stream::Broadcast => Some(&self.all),
            Stream::To(incarnation) => {
                self.nodes.get(&from.node).filter(|lane| lane.incarnation == incarnation)
            }
        };
        let Some(lane) = lane else { return };
        let repair = lane.outgoing.resend(first, last);
        let standing = lane.baseline(&self.me, stream);
        let channel = Channel::Node(from.node.clone());
        let batches = repair.batches.into_iter().chain(standing);
        self.sealed.extend(batches.map(|batch| (channel.clone(), batch)));
        if let Some((first, last)) = repair.lost {
            let lost = Envelope::Lost { stream, from: first, to: last };
            self.queue_for(&from.node, from.incarnation, &lost, now);
        }
    }

    /// Seals what was appended, or is due, and takes out all that is to be published.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Sealed> {
        for (node, lane) in &mut self.nodes {
            if lane.is_due(now) {
                self.sealed.push((Channel::Node(node.clone()), lane.seal(now)));
            }
        }
        if self.all.is_due(now) {
            self.sealed.push((Channel::All, self.all.seal(now)));
        }
        std::mem::take(&mut self.sealed)
    }

    /// When [`Lanes::take`] has something to give although nothing is appended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let streams = self.nodes.values().chain([&self.all]).filter_map(|lane| lane.outgoing.deadline());
        streams.chain(self.unheard.deadline()).min()
    }

    /// The number of the next envelope that is appended to the stream to a node.
    #[cfg(test)]
    pub(super) fn next_to(&self, node: &str) -> Option<u64> {
        self.nodes.get(node).map(|lane| lane.outgoing.next() + u64::from(lane.writer.count()))
    }
}

impl Lane {
    fn new(me: &Member, stream: Stream, incarnation: u64, ring_bytes: usize) -> Result<Self, WireError> {
        let writer = BatchWriter::new(&me.node, me.incarnation, stream)?;
        Ok(Lane { incarnation, absent_since: None, outgoing: Outgoing::new(ring_bytes), writer })
    }

    /// Whether the stream goes on, given which incarnation of its node lives.
    /// A node that was only late with its beat comes back as the one it was.
    fn is_kept(&mut self, living: Option<&Member>, now: Instant) -> bool {
        match living {
            Some(member) => {
                self.absent_since = None;
                member.incarnation <= self.incarnation
            }
            None => now < *self.absent_since.get_or_insert(now) + STREAM_ABSENCE,
        }
    }

    fn append(
        &mut self,
        envelope: &Envelope<'_>,
        channel: impl FnOnce() -> Channel,
        sealed: &mut Vec<Sealed>,
        now: Instant,
    ) -> bool {
        match self.writer.append(envelope) {
            Ok(()) => true,
            Err(Refused::TooBig) => false,
            Err(Refused::Full) => {
                sealed.push((channel(), self.seal(now)));
                self.writer.append(envelope).is_ok()
            }
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        self.outgoing.poll(now) || !self.writer.is_empty()
    }

    /// A batch of nothing, which tells where the stream stands.
    fn baseline(&self, me: &Member, stream: Stream) -> Option<Bytes> {
        let mut writer = BatchWriter::new(&me.node, me.incarnation, stream).ok()?;
        Some(writer.seal(self.outgoing.next()))
    }

    fn seal(&mut self, now: Instant) -> Bytes {
        let count = self.writer.count();
        let batch = self.writer.seal(self.outgoing.next());
        self.outgoing.sent(&batch, count, now);
        batch
    }
}
