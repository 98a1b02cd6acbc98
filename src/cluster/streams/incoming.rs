//! A node's end of all streams that come to it.
//!
//! Owns [`Incoming`]: which sources there are and which of their batches are
//! read. What has come of each is its [`Source`]'s to know.

mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::gaps::{Due, Received};
use crate::cluster::wire::{BatchHeader, Stream};
use crate::limits::STREAM_SOURCES;
use source::{Source, State};

/// Which envelopes of a batch to hand on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them.
    All,
    /// Those without a number, and those whose number is in one of these
    /// ranges; the others came before or were reported lost. No range at all:
    /// the batch came before.
    Only(Vec<Range<u64>>),
    /// None, not even those without a number.
    Refused(Refusal),
}

/// Why a batch is not for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was meant for another incarnation of this node.
    Misaddressed,
    /// Its source has ended: a newer incarnation was heard of, or it was
    /// declared dead.
    Outdated,
    /// As many sources as can be kept apart are known already.
    Crowded,
}

impl Verdict {
    /// Whether the envelope with this number, or without one, is to be handed on.
    pub fn admits(&self, number: Option<u64>) -> bool {
        match (self, number) {
            (Verdict::All, _) | (Verdict::Only(_), None) => true,
            (Verdict::Only(fresh), Some(number)) => fresh.iter().any(|range| range.contains(&number)),
            (Verdict::Refused(_), _) => false,
        }
    }
}

/// Numbers of a stream that have not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The node that sent them.
    pub source: Arc<str>,
    /// Which start of that node.
    pub incarnation: u64,
    /// Which of its streams.
    pub stream: Stream,
    /// The first number.
    pub from: u64,
    /// The last number; beyond all that was sent when it is not known.
    pub to: u64,
}

/// What the streams want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Ask the source for these numbers, with a
    /// [`Resend`](crate::cluster::wire::Envelope::Resend).
    Ask(Missing),
    /// These will not be handed on.
    Lost(Missing),
}

/// Tells new envelopes from old ones and finds what is missing, for up to
/// [`STREAM_SOURCES`] sources. A node does not show it its own batches.
///
/// Whatever is found out is appended to the `events` passed in.
#[derive(Debug)]
pub struct Incoming {
    incarnation: u64,
    sources: HashMap<Arc<str>, Source>,
}

impl Incoming {
    /// For a node of this incarnation.
    pub fn new(incarnation: u64) -> Self {
        Incoming { incarnation, sources: HashMap::new() }
    }

    /// Takes a batch in. Each number is admitted at most once, so what is
    /// admitted has to be handed on.
    pub fn accept(&mut self, header: &BatchHeader<'_>, now: Instant, events: &mut Vec<Event>) -> Verdict {
        if let Err(refusal) = self.admit(header, now, events) {
            return Verdict::Refused(refusal);
        }
        let numbers = header.first..header.first.saturating_add(u64::from(header.count));
        let Some(source) = self.sources.get_mut(header.source) else {
            return Verdict::Refused(Refusal::Outdated);
        };
        source.begin(header.stream, header.first);
        let Some(fresh) = source.settle(header.stream, &numbers, now, events) else {
            return Verdict::Refused(Refusal::Outdated);
        };
        match fresh.as_slice() {
            [all] if *all == numbers => Verdict::All,
            _ => Verdict::Only(fresh),
        }
    }

    /// The source of a batch that was not refused says in it that it cannot
    /// send the numbers `from` to `to` of `stream` again: those that have not
    /// come are lost.
    pub fn give_up(
        &mut self,
        header: &BatchHeader<'_>,
        stream: Stream,
        (from, to): (u64, u64),
        now: Instant,
        events: &mut Vec<Event>,
    ) {
        if self.is_misaddressed(stream) {
            return;
        }
        let known = self.sources.get_mut(header.source);
        let Some(source) = known.filter(|source| source.incarnation == header.incarnation) else { return };
        let lost = source.settle(stream, &(from..to.saturating_add(1)), now, events);
        events.extend(lost.into_iter().flatten().map(|numbers| Event::Lost(source.missing(stream, numbers))));
    }

    /// The source of a batch that was not refused says in it with which number
    /// its stream to all begins for this node.
    pub fn begin(&mut self, header: &BatchHeader<'_>, number: u64, now: Instant, events: &mut Vec<Event>) {
        let known = self.sources.get_mut(header.source);
        let Some(source) = known.filter(|source| source.incarnation == header.incarnation) else { return };
        source.begin(Stream::Broadcast, number);
        if let Some(broadcast) = source.stream(Stream::Broadcast) {
            broadcast.begin_by(number, now);
        }
        source.give_up_overflow(Stream::Broadcast, events);
    }

    /// The source was declared dead. What was missing of it is lost, and
    /// nothing more is taken from it until it has a newer incarnation.
    pub fn forget(&mut self, source: &str, incarnation: u64, now: Instant, events: &mut Vec<Event>) {
        let known = self.sources.get_mut(source);
        if let Some(source) = known.filter(|known| known.incarnation <= incarnation) {
            source.end(self.incarnation, now, events);
            source.incarnation = incarnation;
        }
    }

    /// The subscription was interrupted and is back: batches may have been
    /// missed from every source, so each is to be asked what it sent.
    pub fn resynchronise(&mut self, now: Instant) {
        for source in self.sources.values_mut() {
            source.streams_mut().for_each(|received| received.doubt(now));
        }
    }

    /// Whether nothing is known to be missing and, since the last call of
    /// [`Self::resynchronise`], every stream was heard of or has been silent
    /// for [`crate::limits::STREAM_REPAIR_TIMEOUT`].
    pub fn is_synchronised(&self) -> bool {
        self.sources.values().flat_map(Source::streams).all(Received::is_whole)
    }

    /// Asks for what is missing, and gives up what has been missing too long.
    /// Not to be called while the subscription is interrupted: what cannot
    /// come would be given up.
    pub fn poll(&mut self, now: Instant, events: &mut Vec<Event>) {
        for source in self.sources.values_mut() {
            for stream in [Stream::To(self.incarnation), Stream::Broadcast] {
                while let Some(due) = source.stream(stream).and_then(|received| received.poll(now)) {
                    events.push(match due {
                        Due::Ask(numbers) => Event::Ask(source.missing(stream, numbers)),
                        Due::Lost(numbers) => Event::Lost(source.missing(stream, numbers)),
                    });
                }
            }
        }
    }

    /// When [`Self::poll`] has something to say, if nothing comes until then.
    pub fn deadline(&self) -> Option<Instant> {
        self.sources.values().flat_map(Source::streams).filter_map(Received::deadline).min()
    }

    fn is_misaddressed(&self, stream: Stream) -> bool {
        matches!(stream, Stream::To(target) if target != self.incarnation)
    }

    /// Makes sure that the source of a batch is known, if the batch may be read.
    fn admit(
        &mut self,
        header: &BatchHeader<'_>,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        if self.is_misaddressed(header.stream) {
            return Err(Refusal::Misaddressed);
        }
        if let Some(known) = self.sources.get_mut(header.source) {
            if header.incarnation > known.incarnation {
                known.end(self.incarnation, now, events);
                *known = Source::new(Arc::clone(&known.id), header.incarnation);
            }
            return if known.incarnation == header.incarnation { Ok(()) } else { Err(Refusal::Outdated) };
        }
        self.make_room()?;
        let id: Arc<str> = header.source.into();
        self.sources.insert(Arc::clone(&id), Source::new(id, header.incarnation));
        Ok(())
    }

    /// Room for another source, if need be that of the one that ended first.
    fn make_room(&mut self) -> Result<(), Refusal> {
        if self.sources.len() < STREAM_SOURCES {
            return Ok(());
        }
        let ended = self.sources.values().filter_map(|source| match source.state {
            State::Ended(at) => Some((at, Arc::clone(&source.id))),
            State::Live { .. } => None,
        });
        let (_, id) = ended.min().ok_or(Refusal::Crowded)?;
        self.sources.remove(&id);
        Ok(())
    }
}
