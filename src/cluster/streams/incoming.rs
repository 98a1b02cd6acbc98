//! A node's end of all streams that come to it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::gaps::{Due, Numbers, Received};
use crate::cluster::wire::{BatchHeader, Stream};
use crate::limits::STREAM_SOURCES;

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

/// What is known of one source. It stays known after its end, so that what is
/// still on its way from it is not taken for new.
#[derive(Debug)]
struct Source {
    id: Arc<str>,
    incarnation: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Live {
        /// The stream to this node; its first number is 1.
        direct: Received,
        /// The stream to all; absent until it is known where it begins for this
        /// node, or a batch of it has come.
        broadcast: Option<Received>,
    },
    Ended(Instant),
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

impl Source {
    fn new(id: Arc<str>, incarnation: u64) -> Self {
        Source { id, incarnation, state: State::Live { direct: Received::from(1), broadcast: None } }
    }

    /// Unless it is known already, this is where a broadcast begins for this node.
    fn begin(&mut self, stream: Stream, first: u64) {
        if let (Stream::Broadcast, State::Live { broadcast, .. }) = (stream, &mut self.state) {
            broadcast.get_or_insert_with(|| Received::from(first));
        }
    }

    fn stream(&mut self, stream: Stream) -> Option<&mut Received> {
        match (&mut self.state, stream) {
            (State::Live { direct, .. }, Stream::To(_)) => Some(direct),
            (State::Live { broadcast, .. }, Stream::Broadcast) => broadcast.as_mut(),
            (State::Ended(_), _) => None,
        }
    }

    fn streams(&self) -> impl Iterator<Item = &Received> {
        let streams = match &self.state {
            State::Live { direct, broadcast } => [Some(direct), broadcast.as_ref()],
            State::Ended(_) => [None, None],
        };
        streams.into_iter().flatten()
    }

    fn streams_mut(&mut self) -> impl Iterator<Item = &mut Received> {
        let streams = match &mut self.state {
            State::Live { direct, broadcast } => [Some(direct), broadcast.as_mut()],
            State::Ended(_) => [None, None],
        };
        streams.into_iter().flatten()
    }

    /// Settles numbers and gives up gaps that are too many. `None` when the
    /// source has ended or the stream has not begun.
    fn settle(
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

    fn give_up_overflow(&mut self, stream: Stream, events: &mut Vec<Event>) {
        while let Some(lost) = self.stream(stream).and_then(Received::overflow) {
            events.push(Event::Lost(self.missing(stream, lost)));
        }
    }

    /// Nothing more is taken from it; what was missing is lost.
    fn end(&mut self, receiver: u64, now: Instant, events: &mut Vec<Event>) {
        let ended = std::mem::replace(&mut self.state, State::Ended(now));
        let State::Live { direct, broadcast } = ended else { return };
        let lost_of = |(stream, received): (Stream, Received)| {
            received.into_missing().map(move |numbers| (stream, numbers))
        };
        let broadcast = broadcast.map(|received| (Stream::Broadcast, received));
        let lost = [(Stream::To(receiver), direct)].into_iter().chain(broadcast).flat_map(lost_of);
        events.extend(lost.map(|(stream, numbers)| Event::Lost(self.missing(stream, numbers))));
    }

    fn missing(&self, stream: Stream, numbers: Numbers) -> Missing {
        let (source, incarnation) = (Arc::clone(&self.id), self.incarnation);
        Missing { source, incarnation, stream, from: numbers.start, to: numbers.end - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STREAM_GAPS;

    /// The node under test has incarnation 7.
    const DIRECT: Stream = Stream::To(7);

    fn header(source: &str, incarnation: u64, stream: Stream, first: u64, count: u32) -> BatchHeader<'_> {
        BatchHeader { source, incarnation, stream, first, count }
    }

    /// A node and what it has told so far.
    struct Fixture {
        incoming: Incoming,
        events: Vec<Event>,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            Fixture { incoming: Incoming::new(7), events: Vec::new(), now: Instant::now() }
        }

        fn accept(&mut self, incarnation: u64, stream: Stream, first: u64, count: u32) -> Verdict {
            self.incoming.accept(&header("a", incarnation, stream, first, count), self.now, &mut self.events)
        }

        /// What was lost since the last call, as first and last numbers.
        fn lost(&mut self) -> Vec<(u64, Stream, u64, u64)> {
            let lost = |event| match event {
                Event::Lost(lost) => (lost.incarnation, lost.stream, lost.from, lost.to),
                Event::Ask(asked) => panic!("{asked:?} without being polled"),
            };
            self.events.drain(..).map(lost).collect()
        }

        /// What is asked for now, as first and last numbers.
        fn asked(&mut self) -> Vec<(Stream, u64, u64)> {
            let mut events = Vec::new();
            self.incoming.poll(self.now, &mut events);
            let asked = |event| match event {
                Event::Ask(asked) => (asked.stream, asked.from, asked.to),
                Event::Lost(lost) => panic!("{lost:?}"),
            };
            events.into_iter().map(asked).collect()
        }
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a list of ranges that has one")]
    fn batches_are_new_once() {
        let mut node = Fixture::new();
        assert_eq!(node.accept(1, DIRECT, 1, 3), Verdict::All);
        assert_eq!(node.accept(1, DIRECT, 1, 3), Verdict::Only(vec![]));
        assert_eq!(node.accept(1, DIRECT, 2, 4), Verdict::Only(vec![4..6]));
        assert_eq!(node.asked(), []);
        assert_eq!(node.accept(1, DIRECT, 9, 0), Verdict::Only(vec![]));
        assert_eq!(node.asked(), [(DIRECT, 6, 8)]);
        assert!(!node.incoming.is_synchronised());
        assert_eq!(node.accept(1, DIRECT, 6, 3), Verdict::All);
        assert!(node.incoming.is_synchronised());
        assert_eq!(node.lost(), []);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a list of ranges that has one")]
    fn a_verdict_admits_what_is_new() {
        let check = |verdict: &Verdict, number, expected| {
            assert_eq!(verdict.admits(number), expected, "{verdict:?} {number:?}");
        };
        let some = Verdict::Only(vec![4..6]);
        for (number, expected) in [(None, true), (Some(3), false), (Some(4), true), (Some(6), false)] {
            check(&Verdict::All, number, true);
            check(&some, number, expected);
            check(&Verdict::Only(vec![]), number, number.is_none());
            check(&Verdict::Refused(Refusal::Outdated), number, false);
        }
    }

    #[test]
    fn only_what_is_meant_for_this_incarnation_is_taken() {
        let mut node = Fixture::new();
        assert_eq!(node.accept(1, Stream::To(6), 1, 1), Verdict::Refused(Refusal::Misaddressed));
        assert_eq!(node.accept(1, DIRECT, 1, 1), Verdict::All);
    }

    #[test]
    fn a_broadcast_begins_where_it_is_first_heard() {
        let mut node = Fixture::new();
        assert_eq!(node.accept(1, Stream::Broadcast, 100, 2), Verdict::All);
        assert_eq!(node.accept(1, Stream::Broadcast, 98, 2), Verdict::Only(vec![]));
        assert_eq!(node.accept(1, Stream::Broadcast, 104, 1), Verdict::All);
        assert_eq!(node.asked(), [(Stream::Broadcast, 102, 103)]);
        // The stream to this node is another one and begins at 1.
        assert_eq!(node.accept(1, DIRECT, 3, 1), Verdict::All);
        assert_eq!(node.asked(), [(DIRECT, 1, 2)]);
    }

    #[test]
    fn a_broadcast_begins_where_its_source_says() {
        let mut node = Fixture::new();
        let direct = header("a", 1, DIRECT, 1, 1);
        // Said before anything of it was heard.
        node.accept(1, DIRECT, 1, 1);
        node.incoming.begin(&direct, 4, node.now, &mut node.events);
        assert_eq!(node.accept(1, Stream::Broadcast, 6, 1), Verdict::All);
        assert_eq!(node.asked(), [(Stream::Broadcast, 4, 5)]);
        // Said when something was heard already; another incarnation's word is nothing.
        assert_eq!(node.accept(2, Stream::Broadcast, 6, 1), Verdict::All);
        node.lost();
        node.incoming.begin(&direct, 1, node.now, &mut node.events);
        assert!(node.incoming.is_synchronised());
        node.incoming.begin(&header("a", 2, DIRECT, 1, 1), 5, node.now, &mut node.events);
        assert_eq!(node.asked(), [(Stream::Broadcast, 5, 5)]);
    }

    #[test]
    fn with_a_new_incarnation_what_was_missing_is_lost() {
        let mut node = Fixture::new();
        node.accept(1, DIRECT, 3, 1);
        node.accept(1, Stream::Broadcast, 5, 1);
        node.accept(1, Stream::Broadcast, 9, 1);
        assert_eq!(node.accept(2, DIRECT, 1, 1), Verdict::All);
        assert_eq!(node.lost(), [(1, DIRECT, 1, 2), (1, Stream::Broadcast, 6, 8)]);
        assert_eq!(node.accept(1, DIRECT, 1, 2), Verdict::Refused(Refusal::Outdated));
    }

    #[test]
    fn a_dead_node_is_not_heard_before_it_is_another() {
        let mut node = Fixture::new();
        node.accept(1, DIRECT, 3, 1);
        node.incoming.forget("a", 1, node.now, &mut node.events);
        assert_eq!(node.lost(), [(1, DIRECT, 1, 2)]);
        assert_eq!(node.accept(1, DIRECT, 1, 2), Verdict::Refused(Refusal::Outdated));
        assert!(node.incoming.is_synchronised() && node.incoming.deadline().is_none());
        assert_eq!(node.accept(2, DIRECT, 1, 2), Verdict::All);
        // What is said of its predecessor does not concern it.
        node.incoming.forget("a", 1, node.now, &mut node.events);
        assert_eq!(node.accept(2, DIRECT, 3, 1), Verdict::All);
    }

    #[test]
    fn what_the_source_gives_up_is_lost_unless_it_came() {
        let mut node = Fixture::new();
        let head = header("a", 1, DIRECT, 4, 0);
        node.accept(1, DIRECT, 2, 2);
        let mut give_up = |range| {
            node.incoming.give_up(&head, DIRECT, range, node.now, &mut node.events);
            node.events.drain(..).count()
        };
        assert_eq!(give_up((1, 3)), 1);
        assert_eq!(give_up((1, 3)), 0);
        // A tail that nothing had told of.
        assert_eq!(give_up((4, 5)), 1);
        assert_eq!(give_up((1, u64::MAX)), 1);
        let other = header("a", 2, DIRECT, 1, 0);
        node.incoming.give_up(&other, DIRECT, (1, 9), node.now, &mut node.events);
        node.incoming.give_up(&head, Stream::To(6), (1, 9), node.now, &mut node.events);
        node.incoming.give_up(&head, Stream::Broadcast, (1, 9), node.now, &mut node.events);
        assert_eq!(node.lost(), []);
    }

    #[test]
    fn after_an_interruption_every_source_is_asked() {
        let mut node = Fixture::new();
        node.accept(1, DIRECT, 1, 3);
        node.accept(1, Stream::Broadcast, 5, 1);
        node.incoming.resynchronise(node.now);
        assert!(!node.incoming.is_synchronised());
        let all = u64::MAX - 1;
        assert_eq!(node.asked(), [(DIRECT, 4, all), (Stream::Broadcast, 6, all)]);
        node.accept(1, DIRECT, 4, 0);
        assert!(!node.incoming.is_synchronised());
        node.accept(1, Stream::Broadcast, 6, 0);
        assert!(node.incoming.is_synchronised());
    }

    #[test]
    fn the_oldest_of_too_many_gaps_is_lost_at_once() {
        let mut node = Fixture::new();
        for number in 1..=STREAM_GAPS as u64 + 2 {
            node.accept(1, DIRECT, 2 * number, 1);
        }
        assert_eq!(node.lost(), [(1, DIRECT, 1, 1), (1, DIRECT, 3, 3)]);
        assert_eq!(node.accept(1, DIRECT, 3, 1), Verdict::Only(vec![]));
    }

    #[test]
    fn sources_are_bounded_and_the_longest_ended_makes_room() {
        let mut node = Fixture::new();
        let names: Vec<_> = (0..=STREAM_SOURCES).map(|n| format!("node-{n}")).collect();
        let mut accept =
            |name: &str| node.incoming.accept(&header(name, 1, DIRECT, 1, 1), node.now, &mut Vec::new());
        let (last, known) = names.split_last().expect("there are some");
        assert!(known.iter().all(|name| accept(name) == Verdict::All));
        assert_eq!(accept(last), Verdict::Refused(Refusal::Crowded));
        node.incoming.forget("node-9", 1, node.now, &mut Vec::new());
        let later = node.now + std::time::Duration::from_secs(1);
        node.incoming.forget("node-3", 1, later, &mut Vec::new());
        let mut accept =
            |name: &str| node.incoming.accept(&header(name, 1, DIRECT, 2, 1), node.now, &mut Vec::new());
        assert_eq!(accept(last), Verdict::All);
        assert_eq!(accept("node-3"), Verdict::Refused(Refusal::Outdated));
        assert_eq!(accept("another"), Verdict::All);
        assert_eq!(accept("one too many"), Verdict::Refused(Refusal::Crowded));
        assert_eq!(node.incoming.sources.len(), STREAM_SOURCES);
    }
}
