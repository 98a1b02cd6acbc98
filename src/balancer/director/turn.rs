//! The director's thread: one turn after the other.

mod intake;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Sender;
use mio::{Events, Poll, Token};

use super::checks::Checks;
use super::files::Watch;
use super::overview::Overview;
use super::plan::Plan;
use super::resolve::Resolver;
use super::{Audience, Observed, Order};
use crate::balancer::roster::{
    AdminDone, AdminError, BackendId, Directory, Effect, LiveEvent, LiveUpdate, Moment, Origin, Roster, Spec,
};
use crate::reactor::mailbox::Inbox;

/// The token of the waker; those above it are checks'.
pub(super) const WAKE: Token = Token(0);

/// How often the file is looked at, names whose turn it is are asked for and
/// backends without pairs are forgotten.
const TICK: Duration = Duration::from_millis(500);

/// How often watchers are told when nothing happens.
const NEWS: Duration = Duration::from_secs(1);

/// Observations taken in one turn before anything else is done.
const OBSERVED_PER_TURN: usize = 4096;

/// Readiness events taken from the kernel in one turn.
const EVENTS_PER_TURN: usize = 256;

type Reply = (Sender<Result<AdminDone, AdminError>>, Result<AdminDone, AdminError>);

/// What the thread is connected to.
pub(super) struct Links {
    pub(super) poll: Poll,
    pub(super) checks: Checks,
    pub(super) inbox: Inbox<Observed>,
    pub(super) orders: Inbox<Order>,
    pub(super) resolver: Resolver,
    pub(super) audience: Arc<dyn Audience>,
    pub(super) overview: Arc<Overview>,
}

/// What lives on the director's thread.
pub(super) struct Thread {
    plan: Plan,
    links: Links,
    roster: Roster,
    watch: Option<Watch>,
    directory: Arc<Directory>,
    /// What happened and is not told yet.
    events: Vec<LiveEvent>,
    /// What operators are told when everybody else was.
    replies: Vec<Reply>,
    next_tick: Instant,
    next_news: Instant,
    /// Mail was left over.
    busy: bool,
}

impl Thread {
    /// The roster of the plan, and of the file if there is one.
    pub(super) fn new(plan: Plan, links: Links, file: Option<(Watch, Vec<Spec>)>) -> Thread {
        let at = moment();
        let mut roster = Roster::new(plan.settings(), fastrand::u64(..));
        roster.handle_list(Origin::Flag, plan.backends.clone(), at);
        let (watch, listed) = file.unzip();
        roster.handle_list(Origin::File, listed.unwrap_or_default(), at);
        roster.handle_dns(plan.backends_dns.clone(), at);
        Thread {
            plan,
            links,
            roster,
            watch,
            directory: Arc::default(),
            events: Vec::new(),
            replies: Vec::new(),
            next_tick: at.now,
            next_news: at.now,
            busy: false,
        }
    }

    /// The backends at the start, which nobody else is told of.
    pub(super) fn begin(&mut self) -> Arc<Directory> {
        while let Some(effect) = self.roster.poll_effect() {
            match effect {
                Effect::Publish(directory) => self.directory = directory,
                Effect::Event(event) => self.note(event),
                Effect::Close(..) => debug_assert!(false, "nobody has pairs yet"),
            }
        }
        let records = self.roster.records().into();
        self.links.overview.show(&self.directory, &records);
        Arc::clone(&self.directory)
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut ready = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            if let Err(error) = self.links.poll.poll(&mut ready, Some(self.patience()))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return log::error!("the director cannot wait for events: {error}");
            }
            let at = moment();
            for event in &ready {
                self.links.checks.handle_event(event.token(), at.now);
            }
            if self.take_orders(at) {
                return;
            }
            self.take_mail(at);
            self.take_answers(at);
            self.take_checks(at);
            if at.now >= self.next_tick {
                self.tick(at);
            }
            if self.roster.poll_timeout(at.now).is_some_and(|due| due <= at.now) {
                self.roster.handle_timeout(at);
            }
            self.start_checks(at);
            self.carry_out();
            self.tell(at);
        }
    }

    /// How long there is nothing to do unless something happens.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        let roster = self.roster.poll_timeout(now);
        // Without room for another check the end of one is waited for.
        let roster = roster.filter(|due| *due > now || self.links.checks.has_room());
        let deadlines =
            [Some(self.next_tick), Some(self.next_news), roster, self.links.checks.poll_timeout()];
        let next = deadlines.into_iter().flatten().min().filter(|_| !self.busy);
        next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    fn start_checks(&mut self, at: Moment) {
        while self.links.checks.has_room() {
            let Some(order) = self.roster.poll_check(at.now) else { break };
            self.links.checks.start(&order, &self.plan, at.now);
        }
        // Checks that failed at once are among them.
        self.take_checks(at);
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.roster.poll_effect() {
            match effect {
                Effect::Publish(directory) => {
                    self.directory = Arc::clone(&directory);
                    self.links.audience.directory(directory);
                }
                Effect::Close(backend, why) => self.links.audience.backend_down(backend, why),
                Effect::Event(event) => self.note(event),
            }
        }
    }

    fn note(&mut self, event: LiveEvent) {
        let backend = event.backend.map(|id: BackendId| format!("{id} ")).unwrap_or_default();
        log::log!(event.kind.level(), "{backend}{}", event.text);
        self.events.push(event);
    }

    /// Tells watchers and then operators, who may ask for what they have done.
    fn tell(&mut self, at: Moment) {
        if self.events.is_empty() && self.replies.is_empty() && at.now < self.next_news {
            return;
        }
        self.next_news = at.now + NEWS;
        let backends: Arc<[_]> = self.roster.records().into();
        self.links.overview.show(&self.directory, &backends);
        let events = std::mem::take(&mut self.events);
        self.links.audience.news(Arc::new(LiveUpdate { at: at.wall, backends, events }));
        for (reply, done) in self.replies.drain(..) {
            // Who does not wait any more does not care.
            drop(reply.try_send(done));
        }
    }
}

fn moment() -> Moment {
    Moment { now: Instant::now(), wall: SystemTime::now() }
}
