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
