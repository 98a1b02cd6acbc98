//! One connection that is kept: opened, used, lost, opened again.
//!
//! Owns: [`Session`], its [`Phase`] and what moves it from one to the next.
//! [`attempt`] is about getting open, [`open`] about what happens then,
//! [`incoming`] about what the server says, [`outgoing`] about what is sent.
//! Never blocks and never polls: the runner calls it when there is something to do.

mod attempt;
mod incoming;
mod link;
mod open;
mod outgoing;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use mio::{Registry, Token};

use self::attempt::Attempt;
use self::open::Open;
use super::backoff::Backoff;
use super::business::Business;
use super::event::{Event, What};
use super::gate::Gate;
use super::ledger::Ledger;
use super::options::Options;
use super::refusal::{Closed, Failure, Outlook};
use super::tls::Tls;

pub(super) use self::outgoing::Outgoing;

/// What a session works with while it is called.
pub(super) struct Context<'a> {
    pub(super) registry: &'a Registry,
    pub(super) token: Token,
    pub(super) options: &'a Options,
    pub(super) tls: Option<&'a Tls>,
    pub(super) gate: &'a Gate,
    pub(super) now: Instant,
    pub(super) events: &'a mut VecDeque<Event>,
}

/// Where a session is, as far as the runner has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for its time to try again.
    Waiting,
    /// Wants to be begun.
    Queued,
    /// Is being opened.
    Underway,
    /// Is open.
    Open,
    /// Is over for good.
    Ended,
}

/// One connection that is kept.
pub(super) struct Session {
    /// From 1.
    number: u32,
    path: String,
    phase: Phase,
    backoff: Backoff,
    ledger: Ledger,
    business: Option<Business>,
    /// Attempts since it was open last.
    attempts: u32,
    /// It is not to be opened again.
    leaving: bool,
}

enum Phase {
    Waiting { until: Instant },
    Queued,
    Underway(Box<Attempt>),
    Open(Box<Open>),
    Ended,
}

impl Session {
    /// The session with this number, which wants to be begun.
    pub(super) fn new(number: u32, options: &Options) -> Self {
        let name = options.name_of(number).unwrap_or_else(|| format!("connection-{number}"));
        Session {
            number,
            path: options.path_of(number),
            phase: Phase::Queued,
            backoff: Backoff::new(options.backoff),
            ledger: Ledger::new(),
            business: options.business.map(|plan| Business::new(plan, name)),
            attempts: 0,
            leaving: false,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.phase {
            Phase::Waiting { .. } => Stage::Waiting,
            Phase::Queued => Stage::Queued,
            Phase::Underway(_) => Stage::Underway,
            Phase::Open(_) => Stage::Open,
            Phase::Ended => Stage::Ended,
        }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { until } => Some(*until),
            Phase::Underway(attempt) => Some(attempt.until),
            Phase::Open(open) => Some(open.deadline(self.business.as_ref())),
            Phase::Queued | Phase::Ended => None,
        }
    }

    /// Its socket may be read or written. Whether there may be more to read.
    pub(super) fn handle_ready(&mut self, context: &mut Context<'_>) -> bool {
        if matches!(self.phase, Phase::Underway(_)) {
            self.advance(context);
        }
        // With the answer to the handshake the first messages may have come.
        matches!(self.phase, Phase::Open(_)) && self.read(context)
    }

    /// The deadline has come.
    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        match &self.phase {
            Phase::Waiting { until } if *until <= context.now => self.phase = Phase::Queued,
            Phase::Underway(attempt) if attempt.until <= context.now => self.attempt_timed_out(context),
            Phase::Open(_) => self.open_timeout(context),
            _ => {}
        }
    }

    /// Ends it: an open connection by a closing handshake, after what is not
    /// confirmed yet has had its time.
    pub(super) fn close(&mut self, context: &mut Context<'_>) {
        self.leaving = true;
        match self.phase {
            Phase::Open(_) => self.leave(context),
            Phase::Ended => {}
            _ => self.end(context, Closed::without_frame("it was not connected"), 0),
        }
    }

    /// An attempt, or what it takes to make one, failed.
    pub(super) fn fail(&mut self, context: &mut Context<'_>, failure: Failure) {
        self.ledger.failed();
        let renewable = context.options.token.as_ref().is_some_and(|token| token.is_renewable());
        // A token, or a server's certificate, that was good once has expired: there will be another.
        let was_good = self.ledger.was_open();
        let lasts = match failure.outlook {
            Outlook::Passing => false,
            Outlook::Unauthorized => !(renewable && was_good),
            Outlook::Untrusted => !was_good,
            Outlook::Lasting => true,
        };
        if lasts && !context.options.keep_trying {
            return self.refuse(context, failure.why);
        }
        let retry_in = self.backoff.next(failure.advice, fastrand::f64());
        self.wait(context, retry_in);
        self.tell(context, What::Failed { why: failure.why, retry_in });
    }

    fn refuse(&mut self, context: &mut Context<'_>, why: String) {
        self.ledger.refused();
        self.phase = Phase::Ended;
        self.tell(context, What::Refused { why });
    }

    fn end(&mut self, context: &mut Context<'_>, closed: Closed, lost: u64) {
        self.phase = Phase::Ended;
        self.tell(context, What::Closed { closed, lost });
    }

    fn wait(&mut self, context: &Context<'_>, span: Duration) {
        self.phase = Phase::Waiting { until: context.now + span };
    }

    fn tell(&self, context: &mut Context<'_>, what: What) {
        context.events.push_back(Event { connection: self.number, at: SystemTime::now(), what });
    }
}
