//! One node whose streams come here, in one of its lives.
//!
//! Owns [`Source`]: what has come of its two streams and what is missing.
//! Never: which sources there are, or whether a batch is for this node.

use std::sync::Arc;
use std::time::Instant;

use super::{Event, Missing};
use crate::cluster::streams::gaps::{Numbers, Received};
use crate::cluster::wire::Stream;

/// What is known of one source. It stays known after its end, so that what is
/// still on its way from it is not taken for new.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Live {
        /// The stream to this node; its first number is 1.
        direct: Received,
        /// The stream to all; absent until it is known where it begins for this
        /// node, or a batch of it has come.
        broadcast: Option<Received>,
    },
    Ended(Instant),
}

impl Source {
    pub(super) fn new(id: Arc<str>, incarnation: u64) -> Self {
        Source { id, incarnation, state: State::Live { direct: Received::from(1), broadcast: None } }
    }

    /// Unless it is known already, this is where a broadcast begins for this node.
    pub(super) fn begin(&mut self, stream: Stream, first: u64) {
        if let (Stream::Broadcast, State::Live { broadcast, .. }) = (stream, &mut self.state) {
            broadcast.get_or_insert_with(|| Received::from(first));
        }
    }

    pub(super) fn stream(&mut self, stream: Stream) -> Option<&mut Received> {
        match (&mut self.state, stream) {
            (State::Live { direct, .. }, Stream::To(_)) => Some(direct),
            (State::Live { broadcast, .. }, Stream::Broadcast) => broadcast.as_mut(),
            (State::Ended(_), _) => None,
        }
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &Received> {
        let streams = match &self.state {
            State::Live { direct, broadcast } => [Some(direct), broadcast.as_ref()],
            State::Ended(_) => [None, None],
        };
        streams.into_iter().flatten()
    }

    pub(super) fn streams_mut(&mut self) -> impl Iterator<Item = &mut Received> {
        let streams = match &mut self.state {
            State::Live { direct, broadcast } => [Some(direct), broadcast.as_mut()],
            State::Ended(_) => [None, None],
        };
        streams.into_iter().flatten()
    }

    /// Settles numbers and gives up gaps that are too many. `None` when the
    /// source has ended or the stream has not begun.
    pub(super) fn settle(
        &mut self,
        stream: Stream,
        numbers: &Numbers,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Option<Vec<Numbers>> {
        let settled = self.stream(stream)?.settle(numbers, now);
        self.give_up_overflow(stream, events);
        Some(settled)
    }

    pub(super) fn give_up_overflow(&mut self, stream: Stream, events: &mut Vec<Event>) {
        while let Some(lost) = self.stream(stream).and_then(Received::overflow) {
            events.push(Event::Lost(self.missing(stream, lost)));
        }
    }

    /// Nothing more is taken from it; what was missing is lost.
    pub(super) fn end(&mut self, receiver: u64, now: Instant, events: &mut Vec<Event>) {
        let ended = std::mem::replace(&mut self.state, State::Ended(now));
        let State::Live { direct, broadcast } = ended else { return };
        let lost_of = |(stream, received): (Stream, Received)| {
            received.into_missing().map(move |numbers| (stream, numbers))
        };
        let broadcast = broadcast.map(|received| (Stream::Broadcast, received));
        let lost = [(Stream::To(receiver), direct)].into_iter().chain(broadcast).flat_map(lost_of);
        events.extend(lost.map(|(stream, numbers)| Event::Lost(self.missing(stream, numbers))));
    }

    pub(super) fn missing(&self, stream: Stream, numbers: Numbers) -> Missing {
        let (source, incarnation) = (Arc::clone(&self.id), self.incarnation);
        Missing { source, incarnation, stream, from: numbers.start, to: numbers.end - 1 }
    }
}
