//! The link against a script of what happens to it.

use super::*;

use Connection::{Commands, Subscription};

/// A link with a clock, and what it ordered.
struct Harness {
    link: Link,
    now: Instant,
}

impl Harness {
    fn new() -> Harness {
        let now = Instant::now();
        Harness { link: Link::new(now, 7), now }
    }

    /// One that has become ready; orders so far are taken.
    fn ready() -> Harness {
        let mut harness = Harness::new();
        harness.open_all();
        harness.do_all();
        assert_eq!(harness.link.status(), Status::Ready);
        harness
    }

    fn orders(&mut self) -> Vec<Order> {
        std::iter::from_fn(|| self.link.poll_order()).collect()
    }

    /// Takes the one order there must be to open a connection.
    fn opening(&mut self) -> (Connection, u64) {
        match self.orders()[..] {
            [Order::Open { connection, number }] => (connection, number),
            ref other => panic!("{other:?}"),
        }
    }

    /// Takes the one order there must be to do a step.
    fn doing(&mut self) -> (Step, u64) {
        match self.orders()[..] {
            [Order::Do { step, number }] => (step, number),
            ref other => panic!("{other:?}"),
        }
    }

    fn opened(&mut self, connection: Connection, number: u64, master: &str) {
        let master = (!master.is_empty()).then(|| Address { host: master.to_owned(), port: 1 });
        self.link.handle(Input::Opened { connection, number, master }, self.now);
    }

    fn failed(&mut self, connection: Connection, number: u64, not_master: bool) {
        self.link.handle(Input::Failed { connection, number, not_master }, self.now);
    }

    fn done(&mut self, number: u64, known: bool) {
        self.link.handle(Input::Done { number, known }, self.now);
    }

    /// Opens what the orders say.
    fn open_all(&mut self) {
        for order in self.orders() {
            let Order::Open { connection, number } = order else { panic!("{order:?}") };
            self.opened(connection, number, "m");
        }
    }

    /// Does every step; which they were.
    fn do_all(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while self.link.status() == Status::Resyncing {
            let (step, number) = self.doing();
            steps.push(step);
            self.done(number, true);
        }
        steps
    }

    /// Waits for the link's alarm; for how long.
    fn wait(&mut self) -> Duration {
        let at = self.link.poll_timeout().expect("an alarm");
        let waited = at.saturating_duration_since(self.now);
        self.now += waited;
        self.link.handle_timeout(self.now);
        waited
    }

    /// The number by which a connection was opened.
    fn number(&mut self, connection: Connection) -> u64 {
        match self.link.wire(connection).phase {
            Phase::Open { number, .. } | Phase::Opening { number } => number,
            Phase::Waiting { .. } => panic!("{connection:?} is down"),
        }
    }
}

use Step::{CheckNode, RegisterNode, RegisterUsers, ResyncStreams};

#[test]
fn a_start() {
    let mut harness = Harness::new();
    assert_eq!(harness.link.status(), Status::Connecting);
    let orders = harness.orders();
    let expected = [
        Order::Open { connection: Commands, number: 1 },
        Order::Open { connection: Subscription, number: 2 },
    ];
    assert_eq!(orders, expected);
    harness.opened(Commands, 1, "");
    assert_eq!((harness.link.status(), harness.orders()), (Status::Connecting, vec![]));
    harness.opened(Subscription, 2, "");
    assert_eq!(harness.link.status(), Status::Resyncing);
    assert_eq!(harness.do_all(), [RegisterNode, RegisterUsers, ResyncStreams]);
    assert_eq!((harness.link.status(), harness.link.poll_timeout()), (Status::Ready, None));
}

#[test]
fn what_follows_a_reconnect() {
    let check = |lost: &[Connection], known: bool, expected: &[Step]| {
        let mut harness = Harness::ready();
        for connection in lost {
            let number = harness.number(*connection);
            harness.failed(*connection, number, false);
            assert_eq!(harness.link.status(), Status::Disconnected);
        }
        while harness.link.poll_timeout().is_some() {
            harness.wait();
        }
        harness.open_all();
        let mut steps = Vec::new();
        while harness.link.status() == Status::Resyncing {
            let (step, number) = harness.doing();
            steps.push(step);
            harness.done(number, known);
        }
        assert_eq!(steps, expected, "{lost:?}");
    };
    let all = [RegisterNode, RegisterUsers, ResyncStreams];
    check(&[Commands], true, &all);
    check(&[Commands, Subscription], true, &all);
    check(&[Subscription], true, &[CheckNode, ResyncStreams]);
    check(&[Subscription], false, &[CheckNode, RegisterNode, RegisterUsers, ResyncStreams]);
}

#[test]
fn waits_grow_to_a_bound_and_are_random() {
    let mut harness = Harness::new();
    let first = harness.orders();
    let Order::Open { number: mut commands, .. } = first[0] else { panic!("{first:?}") };
    harness.opened(Subscription, 2, "");
    let mut waits = Vec::new();
    for _ in 0..40 {
        harness.failed(Commands, commands, false);
        waits.push(harness.wait());
        commands = harness.opening().1;
    }
    for (index, wait) in waits.iter().enumerate() {
        let bound = BACKOFF_MIN.saturating_mul(1 << index.min(16)).min(BACKOFF_MAX);
        assert!(*wait <= bound, "wait {index} is {wait:?}, more than {bound:?}");
    }
    let long = waits[6..].iter().filter(|wait| **wait > BACKOFF_MAX / 2).count();
    assert!((5..30).contains(&long), "{long} of 34 waits are long: {waits:?}");
    // A connection that does not last is no success; one that lasts is.
    let check = |lasting: Duration, harness: &mut Harness, number: u64| {
        harness.opened(Commands, number, "");
        harness.orders();
        harness.now += lasting;
        harness.failed(Commands, number, false);
        let failures = harness.link.commands.failures;
        harness.wait();
        (failures, harness.opening().1)
    };
    let (failures, number) = check(BACKOFF_MAX - Duration::from_millis(1), &mut harness, commands);
    assert_eq!(failures, 41);
    assert_eq!(check(BACKOFF_MAX, &mut harness, number).0, 1);
}

#[test]
fn two_nodes_do_not_wait_alike() {
    let wait = |seed| backoff(10, &mut fastrand::Rng::with_seed(seed));
    assert_ne!(wait(1), wait(2));
}

#[test]
fn late_news_are_passed_over() {
    let mut harness = Harness::ready();
    let (commands, subscription) = (harness.number(Commands), harness.number(Subscription));
    harness.failed(Commands, commands + 100, false);
    harness.opened(Subscription, subscription, "other");
    harness.done(commands, false);
    assert_eq!((harness.link.status(), harness.orders()), (Status::Ready, vec![]));

    harness.failed(Commands, commands, false);
    harness.failed(Commands, commands, false);
    assert_eq!(harness.link.commands.failures, 1);
    harness.wait();
    let (_, number) = harness.opening();
    harness.failed(Commands, commands, false);
    harness.opened(Commands, commands, "m");
    assert_eq!(harness.link.status(), Status::Connecting);
    harness.opened(Commands, number, "m");
    // A step that was under way when the connection went is not done by it.
    let (step, first) = harness.doing();
    harness.failed(Subscription, subscription, false);
    harness.done(first, true);
    harness.wait();
    let (_, number) = harness.opening();
    harness.opened(Subscription, number, "m");
    let (again, second) = harness.doing();
    assert_eq!((step, again), (RegisterNode, RegisterNode));
    harness.done(first, true);
    assert_eq!(harness.orders(), []);
    harness.done(second, true);
    assert_eq!(harness.doing().0, RegisterUsers);
}

#[test]
fn a_master_that_is_none_any_more_costs_both_connections() {
    for lost in [Commands, Subscription] {
        let mut harness = Harness::ready();
        let number = harness.number(lost);
        harness.failed(lost, number, true);
        assert_eq!(harness.orders(), [Order::Close(lost.other())]);
        while harness.link.poll_timeout().is_some() {
            harness.wait();
        }
        harness.open_all();
        assert_eq!(harness.do_all(), [RegisterNode, RegisterUsers, ResyncStreams]);
    }
}

#[test]
fn both_connections_end_at_the_same_master() {
    let mut harness = Harness::ready();
    let number = harness.number(Commands);
    harness.failed(Commands, number, false);
    harness.wait();
    let (_, number) = harness.opening();
    harness.opened(Commands, number, "new");
    assert_eq!(harness.orders(), [Order::Close(Subscription)]);
    harness.wait();
    let (connection, number) = harness.opening();
    assert_eq!(connection, Subscription);
    harness.opened(Subscription, number, "new");
    assert_eq!(harness.do_all(), [RegisterNode, RegisterUsers, ResyncStreams]);
}

#[test]
fn a_forgotten_node_registers_anew() {
    let mut harness = Harness::ready();
    harness.link.handle(Input::Forgotten, harness.now);
    assert_eq!(harness.link.status(), Status::Resyncing);
    // Once more while it is at it changes nothing.
    harness.link.handle(Input::Forgotten, harness.now);
    assert_eq!(harness.do_all(), [RegisterNode, RegisterUsers, ResyncStreams]);

    // In the midst of the users it begins again.
    harness.link.handle(Input::Forgotten, harness.now);
    let (_, number) = harness.doing();
    harness.done(number, true);
    let (step, stale) = harness.doing();
    assert_eq!(step, RegisterUsers);
    harness.link.handle(Input::Forgotten, harness.now);
    harness.done(stale, true);
    assert_eq!(harness.do_all(), [RegisterNode, RegisterUsers, ResyncStreams]);

    // While a connection is missing it is remembered.
    let number = harness.number(Subscription);
    harness.failed(Subscription, number, false);
    harness.link.handle(Input::Forgotten, harness.now);
    assert_eq!(harness.orders(), []);
    harness.wait();
    harness.open_all();
    assert_eq!(harness.do_all(), [RegisterNode, RegisterUsers, ResyncStreams]);
}

#[test]
fn a_step_that_is_postponed_is_tried_again_with_backoff() {
    let mut harness = Harness::new();
    harness.open_all();
    for round in 0..20 {
        let (step, number) = harness.doing();
        assert_eq!(step, RegisterNode);
        harness.link.handle(Input::Postponed { number }, harness.now);
        harness.link.handle(Input::Postponed { number }, harness.now);
        assert_eq!((harness.link.status(), harness.orders()), (Status::Resyncing, vec![]));
        assert!(harness.wait() <= BACKOFF_MIN.saturating_mul(1 << round.min(16)).min(BACKOFF_MAX));
    }
    assert_eq!(harness.do_all(), [RegisterNode, RegisterUsers, ResyncStreams]);

    // A wait for a step ends with its connection.
    harness.link.handle(Input::Forgotten, harness.now);
    let (_, number) = harness.doing();
    harness.link.handle(Input::Postponed { number }, harness.now);
    let number = harness.number(Commands);
    harness.failed(Commands, number, false);
    harness.wait();
    assert_eq!(harness.opening().0, Commands);
}

/// Any sequence of events, with the truth kept beside it: the link never
/// reports ready unless every step was done over both present connections, and
/// always has an order or an alarm left while it is not.
#[test]
fn whatever_happens() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut harness = Harness::new();
        let mut pending: Vec<Order> = Vec::new();
        let mut history: Vec<Step> = Vec::new();
        for _ in 0..200 {
            pending.extend(harness.orders());
            if harness.link.status() != Status::Ready {
                let idle = pending.is_empty() && harness.link.poll_timeout().is_none();
                assert!(!idle, "seed {seed}: stuck in {:?}", harness.link);
            } else {
                let ends_whole = history.ends_with(&[RegisterNode, RegisterUsers, ResyncStreams])
                    || history.ends_with(&[CheckNode, ResyncStreams]);
                assert!(ends_whole, "seed {seed}: ready after {history:?}");
            }
            match random.u8(0..10) {
                0 => drop(harness.link.poll_timeout().map(|_| harness.wait())),
                1 => harness.link.handle(Input::Forgotten, harness.now),
                2 => {
                    let connection = if random.bool() { Commands } else { Subscription };
                    let number = random.u64(0..=harness.link.number);
                    harness.failed(connection, number, random.bool());
                }
                _ if pending.is_empty() => drop(harness.link.poll_timeout().map(|_| harness.wait())),
                _ => match pending.remove(random.usize(0..pending.len())) {
                    Order::Open { connection, number } if random.u8(0..4) > 0 => {
                        harness.opened(connection, number, if random.u8(0..8) > 0 { "a" } else { "b" });
                    }
                    Order::Open { connection, number } => harness.failed(connection, number, false),
                    Order::Close(_) => {}
                    Order::Do { number, .. } if random.u8(0..6) == 0 => {
                        harness.link.handle(Input::Postponed { number }, harness.now);
                    }
                    Order::Do { step, number } => {
                        let is_current = harness.link.doing(number).is_some();
                        harness.done(number, random.u8(0..4) > 0);
                        if is_current {
                            history.push(step);
                        }
                    }
                },
            }
        }
    }
}
