//! What a client's thread has to do, and for which session: queues, timers,
//! addresses, events on their way. Only books; the runner acts.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use super::event::Event;
use super::options::Options;
use super::session::{Session, Stage};
use super::summary::Summary;

/// Connections being opened at once.
pub(super) const UNDERWAY_MAX: usize = 256;

/// What there is to do, and for whom.
pub(super) struct Work {
    pub(super) sessions: Vec<Session>,
    /// When each session wants to be called, as it stands in `timers`.
    pub(super) armed: Vec<Option<Instant>>,
    pub(super) timers: BTreeSet<(Instant, usize)>,
    /// Sessions that want to be begun.
    pub(super) queue: VecDeque<usize>,
    /// Sessions that may have something to read, and which those are.
    pub(super) more: VecDeque<usize>,
    pub(super) has_more: Vec<bool>,
    /// Sessions that were given something to send.
    pub(super) unflushed: Vec<usize>,
    pub(super) underway: usize,
    pub(super) ended: usize,
    /// Addresses, and how long they serve.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) addresses_until: Option<Instant>,
    /// The resolver was asked; when it is asked again.
    pub(super) asked_until: Option<Instant>,
    pub(super) events: VecDeque<Event>,
    pub(super) closing: bool,
}

impl Work {
    pub(super) fn new(options: &Options) -> Self {
        let sessions: Vec<Session> =
            (1..=options.connections).map(|number| Session::new(number, options)).collect();
        Work {
            armed: vec![None; sessions.len()],
            timers: BTreeSet::new(),
            queue: (0..sessions.len()).collect(),
            more: VecDeque::new(),
            has_more: vec![false; sessions.len()],
            unflushed: Vec::new(),
            underway: 0,
            ended: 0,
            addresses: Vec::new(),
            addresses_until: None,
            asked_until: None,
            events: VecDeque::new(),
            closing: false,
            sessions,
        }
    }

    pub(super) fn sum(&self, now: Instant) -> Summary {
        let mut sums = Summary::default();
        for session in &self.sessions {
            sums.add(&session.ledger().summary(now));
        }
        sums
    }

    /// A session can be begun, or addresses can be asked for.
    pub(super) fn may_begin(&self) -> bool {
        !self.queue.is_empty() && self.underway < UNDERWAY_MAX && self.asked_until.is_none()
    }

    pub(super) fn note(&mut self, index: usize, before: Stage, after: Stage) {
        if before == after {
            return;
        }
        self.underway -= usize::from(before == Stage::Underway);
        self.underway += usize::from(after == Stage::Underway);
        self.ended += usize::from(after == Stage::Ended);
        if after == Stage::Queued {
            self.queue.push_back(index);
        }
    }

    /// A session may have something to read; the waker's token is none.
    pub(super) fn note_readable(&mut self, index: usize) {
        if let Some(noted) = self.has_more.get_mut(index)
            && !std::mem::replace(noted, true)
        {
            self.more.push_back(index);
        }
    }

    pub(super) fn arm(&mut self, index: usize, deadline: Option<Instant>) {
        let armed = &mut self.armed[index];
        if *armed != deadline {
            if let Some(at) = armed.take() {
                self.timers.remove(&(at, index));
            }
            if let Some(at) = deadline {
                self.timers.insert((at, index));
            }
            *armed = deadline;
        }
    }
}
