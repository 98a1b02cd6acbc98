//! The thread that all connections of a client run on: one poll, no locks.
//!
//! Owns: [`Runner`]: which session is called when, how many are opened at
//! once, and the handing over of events. If the program does not take them,
//! nothing more is read, so the servers notice.

mod begin;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Sender, TrySendError};
use mio::{Events, Poll, Token};

use super::event::{Event, What};
use super::gate::Gate;
use super::options::Options;
use super::resolve::Resolver;
use super::session::{Context, Outgoing, Session};
use super::summary::Summary;
use super::tls::Tls;
use super::work::Work;
use crate::reactor::mailbox::{Inbox, Weigh};

/// The waker's token; a session's is its index.
pub(super) const WAKER: Token = Token(usize::MAX);

/// Events that wait for room in the program's queue before nothing more is read.
const EVENTS_WAITING_MAX: usize = 256;

/// Between two looks whether the program has taken events.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Socket events taken from the kernel at once.
const POLL_EVENTS: usize = 1024;

/// What the client's thread is asked to do.
pub(super) enum Order {
    Send { index: usize, message: Outgoing },
    Probe { index: usize },
    Resolved(Result<Vec<SocketAddr>, String>),
    Sum(Sender<Summary>),
}

impl Weigh for Order {
    fn weight(&self) -> usize {
        match self {
            Order::Send { message, .. } => message.len(),
            _ => 0,
        }
    }
}

/// What the handle asks for without a queue.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Close all connections with a handshake, and end.
    pub(super) close: AtomicBool,
    /// End at once.
    pub(super) abort: AtomicBool,
    /// Nobody takes events any more.
    pub(super) unheard: AtomicBool,
}

pub(super) struct Runner {
    pub(super) poll: Poll,
    pub(super) inbox: Inbox<Order>,
    pub(super) options: Options,
    pub(super) tls: Option<Tls>,
    pub(super) gates: Arc<[Gate]>,
    pub(super) resolver: Resolver,
    pub(super) control: Arc<Control>,
    pub(super) sender: Sender<Event>,
    pub(super) work: Work,
}

impl Runner {
    /// Runs until no connection is left to keep.
    pub(super) fn run(mut self) -> Summary {
        let mut events = Events::with_capacity(POLL_EVENTS);
        while self.work.ended < self.work.sessions.len() && !self.is_asked(|control| &control.abort) {
            let timeout = self.timeout(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("the client cannot wait for its sockets: {error}");
                break;
            }
            let now = Instant::now();
            for event in &events {
                self.work.note_readable(event.token().0);
            }
            self.turn(now);
        }
        self.finish()
    }

    fn turn(&mut self, now: Instant) {
        self.take_orders(now);
        self.close_if_asked(now);
        self.run_timers(now);
        if !self.is_blocked() {
            self.begin_sessions(now);
            self.read_sessions(now);
        }
        for index in std::mem::take(&mut self.work.unflushed) {
            self.call(index, now, |session, context| session.flush(context));
        }
        self.publish();
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.is_blocked() {
            return Some(LOOK_AGAIN);
        }
        if !self.work.more.is_empty() || self.work.may_begin() {
            return Some(Duration::ZERO);
        }
        let timer = self.work.timers.first().map(|(at, _)| *at);
        let asked = self.work.asked_until.filter(|_| !self.work.queue.is_empty());
        let waiting = (!self.work.events.is_empty()).then_some(now + LOOK_AGAIN);
        let next = [timer, asked, waiting].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// The program does not take its events.
    fn is_blocked(&self) -> bool {
        self.work.events.len() >= EVENTS_WAITING_MAX
    }

    fn is_asked(&self, what: impl Fn(&Control) -> &AtomicBool) -> bool {
        what(&self.control).load(Ordering::Acquire)
    }

    fn take_orders(&mut self, now: Instant) {
        for _ in 0..self.inbox.begin() {
            match self.inbox.pop() {
                Some(Order::Send { index, message }) => {
                    self.call(index, now, |session, context| session.send(context, message));
                    self.work.unflushed.push(index);
                }
                Some(Order::Probe { index }) => {
                    self.call(index, now, |session, _| session.probe());
                    self.work.unflushed.push(index);
                }
                Some(Order::Resolved(found)) => self.resolved(found, now),
                // Who asked may have gone.
                Some(Order::Sum(reply)) => drop(reply.try_send(self.work.sum(now))),
                None => break,
            }
        }
    }

    fn close_if_asked(&mut self, now: Instant) {
        if self.is_asked(|control| &control.close) && !std::mem::replace(&mut self.work.closing, true) {
            for index in 0..self.work.sessions.len() {
                self.call(index, now, |session, context| session.close(context));
            }
        }
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some((at, index)) = self.work.timers.first().copied()
            && at <= now
        {
            // Taken out so that a session that wants to be called at once again is, in the next turn.
            self.work.timers.pop_first();
            self.work.armed[index] = None;
            self.call(index, now, |session, context| session.handle_timeout(context));
            if self.work.armed[index].is_some_and(|again| again <= now) {
                break;
            }
        }
    }

    fn read_sessions(&mut self, now: Instant) {
        for _ in 0..self.work.more.len() {
            if self.is_blocked() {
                break;
            }
            let Some(index) = self.work.more.pop_front() else { break };
            self.work.has_more[index] = false;
            let mut more = false;
            self.call(index, now, |session, context| more = session.handle_ready(context));
            if more {
                self.work.note_readable(index);
            }
        }
    }

    /// Calls a session, and notes what it wants next.
    fn call(&mut self, index: usize, now: Instant, what: impl FnOnce(&mut Session, &mut Context<'_>)) {
        let work = &mut self.work;
        let Some(session) = work.sessions.get_mut(index) else { return };
        let before = session.stage();
        let mut context = Context {
            registry: self.poll.registry(),
            token: Token(index),
            options: &self.options,
            tls: self.tls.as_ref(),
            gate: &self.gates[index],
            now,
            events: &mut work.events,
        };
        what(session, &mut context);
        let (after, deadline) = (session.stage(), session.deadline());
        work.note(index, before, after);
        work.arm(index, deadline);
    }

    /// Hands events over as far as there is room.
    fn publish(&mut self) {
        if self.is_asked(|control| &control.unheard) {
            self.work.events.clear();
        }
        while let Some(event) = self.work.events.pop_front() {
            if let Err(TrySendError::Full(event)) = self.sender.try_send(event) {
                self.work.events.push_front(event);
                break;
            }
        }
    }

    /// The last events are handed over unless nobody wants them.
    fn finish(mut self) -> Summary {
        for gate in self.gates.iter() {
            gate.set_open(false);
        }
        let sums = self.work.sum(Instant::now());
        let what = What::Finished(Box::new(sums.clone()));
        self.work.events.push_back(Event { connection: 0, at: SystemTime::now(), what });
        self.publish();
        while !self.work.events.is_empty() && !self.is_asked(|control| &control.abort) {
            std::thread::sleep(LOOK_AGAIN);
            self.take_orders(Instant::now());
            self.publish();
        }
        sums
    }
}
