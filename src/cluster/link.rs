//! The link to Redis: when to connect, and what is to be done before the node
//! can rely on it again. Pure: time is passed in, orders are handed out.
//!
//! ```text
//!              both open            all steps done
//! Disconnected ─► Connecting ─► Resyncing ─► Ready
//!      ▲               │             │          │
//!      └───────────────┴─────────────┴──────────┘ either connection fails
//! ```
//!
//! The subscription is in effect before the node is registered, so that nobody
//! sends to a node that does not listen. What is to be done after a reconnect:
//!
//! * of the commands: register the node and all its users again, as this may
//!   be another Redis, or one that has lost them; then resynchronise streams.
//! * of the subscription alone: ask whether the node is still registered, as
//!   Redis may have been restarted, and do the above if not; then
//!   resynchronise streams, as messages may have been lost.
//!
//! Never does any of it: it hands out [`Order`]s, and is told what became of
//! them. Every order has a number, by which late news of an earlier attempt are
//! told apart and passed over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::target::Address;

/// The longest first wait after a failure.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait after any failure. A connection that lasted for as long
/// was a success: the next wait is a first one again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// For commands.
    Commands,
    /// For what other nodes publish.
    Subscription,
}

/// What is done over both connections before they are relied on, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask whether the registry still knows this node.
    CheckNode,
    /// Register this node.
    RegisterNode,
    /// Register every user that is connected here.
    RegisterUsers,
    /// Ask every source for what may have been lost, and tell every
    /// destination how far this node's streams are.
    ResyncStreams,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Open a connection; answered by [`Input::Opened`] or [`Input::Failed`].
    Open {
        /// Which.
        connection: Connection,
        /// The number of this order.
        number: u64,
    },
    /// Drop a connection; there is no answer.
    Close(Connection),
    /// Carry out a step; answered by [`Input::Done`], [`Input::Postponed`], or
    /// [`Input::Failed`] if it was the connection that failed.
    Do {
        /// Which.
        step: Step,
        /// The number of this order.
        number: u64,
    },
}

/// What became of an order, or happened by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A connection is open.
    Opened {
        /// Which.
        connection: Connection,
        /// The number of the order.
        number: u64,
        /// The master at the other end, if there is only one.
        master: Option<Address>,
    },
    /// A connection could not be opened, or was lost.
    Failed {
        /// Which.
        connection: Connection,
        /// The number of the order that it was opened by.
        number: u64,
        /// Whether the server is not the master any more: then the other
        /// connection is given up too, as it may not notice.
        not_master: bool,
    },
    /// A step is done.
    Done {
        /// The number of the order.
        number: u64,
        /// Whether the registry knows this node: what [`Step::CheckNode`]
        /// asks; after other steps `true`.
        known: bool,
    },
    /// A step cannot be done now, though the connection is sound: Redis is
    /// loading, or its cluster is incomplete. It is tried again.
    Postponed {
        /// The number of the order.
        number: u64,
    },
    /// The registry does not know this node any more: it was declared dead, or
    /// Redis has lost it.
    Forgotten,
}

/// How far the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A connection is missing, and the next attempt is being waited for.
    Disconnected,
    /// A connection is being opened.
    Connecting,
    /// Both are open, and steps are left.
    Resyncing,
    /// Other nodes can be relied on to hear this one, and it to hear them.
    Ready,
}

/// The link of one node.
#[derive(Debug)]
pub struct Link {
    commands: Wire,
    subscription: Wire,
    progress: Progress,
    /// Whether node and users were registered over the present connection for
    /// commands, as far as is known.
    is_registered: bool,
    /// Failures of steps in a row.
    postponed: u32,
    orders: VecDeque<Order>,
    /// The number of the last order.
    number: u64,
    random: fastrand::Rng,
}

/// One connection as the link sees it.
#[derive(Debug)]
struct Wire {
    phase: Phase,
    /// Failures in a row.
    failures: u32,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Instant },
    Opening { number: u64 },
    Open { number: u64, since: Instant, master: Option<Address> },
}

/// How far the steps are; meaningful while both connections are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting { step: Step, until: Instant },
    Doing { step: Step, number: u64 },
    Done,
}

impl Link {
    /// A link that connects at once. `seed` is that of the waits' randomness,
    /// which keeps nodes apart that lost Redis at the same moment.
    pub fn new(now: Instant, seed: u64) -> Link {
        let wire = || Wire { phase: Phase::Waiting { until: now }, failures: 0 };
        let mut link = Link {
            commands: wire(),
            subscription: wire(),
            progress: Progress::Done,
            is_registered: false,
            postponed: 0,
            orders: VecDeque::new(),
            number: 0,
            random: fastrand::Rng::with_seed(seed),
        };
        link.handle_timeout(now);
        link
    }

    /// How far the link is.
    pub fn status(&self) -> Status {
        let wires = [&self.commands, &self.subscription];
        if wires.iter().all(|wire| wire.is_open()) {
            if self.progress == Progress::Done { Status::Ready } else { Status::Resyncing }
        } else if wires.iter().any(|wire| matches!(wire.phase, Phase::Opening { .. })) {
            Status::Connecting
        } else {
            Status::Disconnected
        }
    }

    /// What is to be done next, if anything.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When [`Link::handle_timeout`] is to be called, if no input comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wire = |wire: &Wire| match wire.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Opening { .. } | Phase::Open { .. } => None,
        };
        let step = match self.progress {
            Progress::Waiting { until, .. } if self.is_open() => Some(until),
            _ => None,
        };
        [wire(&self.commands), wire(&self.subscription), step].into_iter().flatten().min()
    }

    /// Ends the waits that are over.
    pub fn handle_timeout(&mut self, now: Instant) {
        for connection in [Connection::Commands, Connection::Subscription] {
            if matches!(self.wire(connection).phase, Phase::Waiting { until } if until <= now) {
                let number = self.next_number();
                self.wire(connection).phase = Phase::Opening { number };
                self.orders.push_back(Order::Open { connection, number });
            }
        }
        if let Progress::Waiting { step, until } = self.progress
            && until <= now
            && self.is_open()
        {
            self.start(step);
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Opened { connection, number, master } => self.opened(connection, number, master, now),
            Input::Failed { connection, number, not_master } => {
                self.failed(connection, number, not_master, now);
            }
            Input::Done { number, known } => self.done(number, known),
            Input::Postponed { number } => self.postpone(number, now),
            Input::Forgotten => self.forgotten(),
        }
    }

    fn opened(&mut self, connection: Connection, number: u64, master: Option<Address>, now: Instant) {
        let wire = self.wire(connection);
        if !matches!(wire.phase, Phase::Opening { number: current } if current == number) {
            return;
        }
        wire.phase = Phase::Open { number, since: now, master };
        // Two masters: the connection that was opened earlier is to one that
        // has been replaced.
        if self.is_at_two_masters() {
            self.give_up(connection.other(), now);
        }
        if self.is_open() {
            self.start(if self.is_registered { Step::CheckNode } else { Step::RegisterNode });
        }
    }

    fn failed(&mut self, connection: Connection, number: u64, not_master: bool, now: Instant) {
        let is_current = match self.wire(connection).phase {
            Phase::Waiting { .. } => false,
            Phase::Opening { number: current } | Phase::Open { number: current, .. } => current == number,
        };
        if !is_current {
            return;
        }
        self.lose(connection, now);
        if not_master && self.wire(connection.other()).is_open() {
            self.give_up(connection.other(), now);
        }
    }

    fn done(&mut self, number: u64, known: bool) {
        let Some(step) = self.doing(number) else { return };
        self.postponed = 0;
        match step {
            Step::CheckNode if known => self.start(Step::ResyncStreams),
            Step::CheckNode => self.start(Step::RegisterNode),
            Step::RegisterNode => self.start(Step::RegisterUsers),
            Step::RegisterUsers => {
                self.is_registered = true;
                self.start(Step::ResyncStreams);
            }
            Step::ResyncStreams => self.progress = Progress::Done,
        }
    }

    fn postpone(&mut self, number: u64, now: Instant) {
        let Some(step) = self.doing(number) else { return };
        let until = now + backoff(self.postponed, &mut self.random);
        self.postponed = self.postponed.saturating_add(1);
        self.progress = Progress::Waiting { step, until };
    }

    fn forgotten(&mut self) {
        self.is_registered = false;
        let under_way = matches!(
            self.progress,
            Progress::Doing { step: Step::RegisterNode, .. }
                | Progress::Waiting { step: Step::RegisterNode, .. }
        );
        if self.is_open() && !under_way {
            self.start(Step::RegisterNode);
        }
    }

    /// Hands out a step; one that was handed out before is none any more.
    fn start(&mut self, step: Step) {
        let number = self.next_number();
        self.progress = Progress::Doing { step, number };
        self.orders.retain(|order| !matches!(order, Order::Do { .. }));
        self.orders.push_back(Order::Do { step, number });
    }

    fn give_up(&mut self, connection: Connection, now: Instant) {
        self.orders.push_back(Order::Close(connection));
        self.lose(connection, now);
    }

    fn lose(&mut self, connection: Connection, now: Instant) {
        if connection == Connection::Commands {
            self.is_registered = false;
        }
        self.progress = Progress::Done;
        self.postponed = 0;
        self.orders.retain(|order| !matches!(order, Order::Do { .. }));
        let wire = self.wire(connection);
        if matches!(wire.phase, Phase::Open { since, .. } if now.duration_since(since) >= BACKOFF_MAX) {
            wire.failures = 0;
        }
        let failures = wire.failures;
        wire.failures = failures.saturating_add(1);
        let until = now + backoff(failures, &mut self.random);
        self.wire(connection).phase = Phase::Waiting { until };
    }

    /// The step that this order is about, if it is the present one.
    fn doing(&self, number: u64) -> Option<Step> {
        match self.progress {
            Progress::Doing { step, number: current } if current == number && self.is_open() => Some(step),
            _ => None,
        }
    }

    fn is_open(&self) -> bool {
        self.commands.is_open() && self.subscription.is_open()
    }

    fn is_at_two_masters(&self) -> bool {
        match (&self.commands.phase, &self.subscription.phase) {
            (Phase::Open { master: Some(one), .. }, Phase::Open { master: Some(other), .. }) => one != other,
            _ => false,
        }
    }

    fn wire(&mut self, connection: Connection) -> &mut Wire {
        match connection {
            Connection::Commands => &mut self.commands,
            Connection::Subscription => &mut self.subscription,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

impl Wire {
    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }
}

impl Connection {
    fn other(self) -> Connection {
        match self {
            Connection::Commands => Connection::Subscription,
            Connection::Subscription => Connection::Commands,
        }
    }
}

/// How long to wait after so many failures before: anything up to a bound that
/// doubles (full jitter).
fn backoff(failures: u32, random: &mut fastrand::Rng) -> Duration {
    let bound = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    bound.mul_f64(random.f64())
}

#[cfg(test)]
mod tests;
