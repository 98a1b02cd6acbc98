//! The health of one backend: whether it takes new connections, how many, and why.
//!
//! Owns: [`Health`], a state machine that is told what checks found, what
//! became of connections and what operators want. Never: when to check, sockets,
//! clocks; it sees of the other backends what [`Scene`] says.
//!
//! # What counts
//!
//! * Checks: the first decides at once; then `fall` failures in a row take the
//!   backend down and `rise` good ones bring it up. Not ready (503) means that
//!   it is leaving: it takes nothing new at once, its connections stay.
//! * Connections: a connect that fails ejects at once, and so does a check that
//!   is refused; handshakes that fail and connections that break young do when
//!   they are several and outweigh those that succeed. An ejection lasts its
//!   time and then until a check or a connection succeeds. The next soon after
//!   it lasts twice as long. The only backend that takes connections is never
//!   ejected: a bad chance is better than none.
//! * Operators: a backend that is drained, or no longer listed, takes nothing
//!   new, whatever else happens.
//!
//! Who comes to take connections while others have been doing so for a while
//! begins with a tenth of its weight.

mod ejections;
mod evidence;
mod words;

use std::time::{Duration, Instant};

use fastrand::Rng;

use self::ejections::Ejections;
use self::evidence::Evidence;

pub use self::words::{Checked, Passed, Scene, State, TIME_MAX, Timings};

/// What the checks amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Unknown,
    Ready,
    NotReady,
    Failed,
}

/// One backend's health.
#[derive(Clone, Debug)]
pub struct Health {
    verdict: Verdict,
    good: u32,
    bad: u32,
    last_error: String,
    ejections: Ejections,
    evidence: Evidence,
    drained: bool,
    unlisted: bool,
    /// Since when it takes connections, ejections not counted as an interruption.
    taking_since: Option<Instant>,
    slow: bool,
}

/// What of its weight a backend has at the start of its slow start, in percent.
const SLOW_PERCENT: u32 = 10;

/// The steps of a slow start, in percent: weights stay round.
const STEP_PERCENT: u32 = 5;

impl Health {
    /// One that nobody has checked.
    pub fn new(now: Instant) -> Health {
        Health {
            verdict: Verdict::Unknown,
            good: 0,
            bad: 0,
            last_error: String::new(),
            ejections: Ejections::default(),
            evidence: Evidence::new(now),
            drained: false,
            unlisted: false,
            taking_since: None,
            slow: false,
        }
    }

    /// Takes what a check found.
    pub fn handle_check(&mut self, checked: &Checked, scene: &Scene<'_>, rng: &mut Rng) {
        match checked {
            Checked::Status(200..=299) => self.passed(scene),
            Checked::Status(503) => self.not_ready(),
            Checked::Status(status) => self.failed(format!("answered {status}"), scene),
            Checked::Failed(why) => self.failed(why.clone(), scene),
            Checked::NotMade(_) => {}
            Checked::Refused => {
                self.failed("connection refused".to_owned(), scene);
                if self.verdict == Verdict::Ready {
                    self.eject("a check was refused".to_owned(), scene, rng);
                }
            }
        }
        self.settle(scene);
    }

    /// Takes what became of connections.
    pub fn handle_passed(&mut self, passed: &Passed, scene: &Scene<'_>, rng: &mut Rng) {
        let now = scene.now;
        match passed {
            Passed::Connected => {
                self.evidence.succeeded(now);
                self.ejections.pardon(now);
            }
            Passed::ConnectFailed(error) => self.eject(format!("a connect failed: {error}"), scene, rng),
            Passed::HandshakeFailed(error) => {
                if let Some(count) = self.evidence.failed(1, now) {
                    self.eject(
                        format!("{count} handshakes or connections failed, the last: {error}"),
                        scene,
                        rng,
                    );
                }
            }
            Passed::Lost(clients, age) if *age < evidence::YOUNG => {
                if let Some(count) = self.evidence.failed(*clients, now) {
                    self.eject(format!("{count} handshakes or young connections broke"), scene, rng);
                }
            }
            Passed::Lost(..) => {}
        }
        self.settle(scene);
    }

    /// An operator takes it out of use, or in again, which forgives ejections.
    pub fn set_drained(&mut self, drained: bool, scene: &Scene<'_>) {
        self.drained = drained;
        if !drained {
            self.ejections = Ejections::default();
        }
        self.settle(scene);
    }

    /// It vanished from where it was listed, or is there again.
    pub fn set_unlisted(&mut self, unlisted: bool, scene: &Scene<'_>) {
        self.unlisted = unlisted;
        self.settle(scene);
    }

    /// To be called at [`Health::poll_timeout`].
    pub fn handle_timeout(&mut self, scene: &Scene<'_>) {
        if self.percent(scene.now, scene.timings) == 100 {
            self.slow = false;
        }
    }

    /// When its share changes next.
    pub fn poll_timeout(&self, now: Instant, timings: &Timings) -> Option<Instant> {
        let since = self.taking_since.filter(|_| self.slow)?;
        let next = (self.percent(now, timings) + STEP_PERCENT).min(100);
        let part = timings.slow_start * (next - SLOW_PERCENT) / (100 - SLOW_PERCENT);
        // A little late, so that the step is not missed by rounding.
        Some(since + part + Duration::from_millis(1))
    }

    /// Whether it takes connections, and if not why.
    pub fn state(&self) -> State {
        match self.verdict {
            Verdict::Failed => State::Down,
            _ if self.drained || self.unlisted => State::Draining,
            Verdict::Unknown => State::Checking,
            Verdict::NotReady => State::Draining,
            Verdict::Ready if self.ejections.until().is_some() => State::Ejected,
            Verdict::Ready if self.slow => State::SlowStart,
            Verdict::Ready => State::Up,
        }
    }

    /// The share of its weight that it is given, in percent.
    pub fn share(&self, now: Instant, timings: &Timings) -> u32 {
        if self.state().takes() { self.percent(now, timings) } else { 0 }
    }

    /// What the state comes from, for operators.
    pub fn why(&self) -> String {
        match self.state() {
            State::Checking => "not checked yet".to_owned(),
            State::Up | State::SlowStart => match self.good {
                0 => "connections to it succeed".to_owned(),
                1 => "a check passed".to_owned(),
                good => format!("{good} checks passed"),
            },
            State::Draining => self.hold().to_owned(),
            State::Ejected => self.ejections.why().to_owned(),
            State::Down if self.bad > 1 => {
                format!("{} checks failed, the last: {}", self.bad, self.last_error)
            }
            State::Down => format!("a check failed: {}", self.last_error),
        }
    }

    /// Why it would take nothing new even if checks are good.
    pub fn hold(&self) -> &'static str {
        match (self.unlisted, self.drained) {
            (true, _) => "no longer listed",
            (_, true) => "drained by an operator",
            _ => "it says that it is not ready (503)",
        }
    }

    /// Whether an operator has drained it.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Whether it has vanished from where it was listed.
    pub fn is_unlisted(&self) -> bool {
        self.unlisted
    }

    /// Whether it takes connections and the last check said nothing against it.
    pub fn is_sound(&self) -> bool {
        self.state().takes() && self.bad == 0
    }

    /// Whether it has taken its full share for as long as a slow start lasts.
    pub fn is_warm(&self, now: Instant, timings: &Timings) -> bool {
        let warm = |since: Instant| now.saturating_duration_since(since) >= timings.slow_start;
        self.state() == State::Up && self.taking_since.is_some_and(warm)
    }

    /// When an ejection has lasted its time: a check can end it from then on.
    pub fn ejected_until(&self) -> Option<Instant> {
        self.ejections.until()
    }

    fn passed(&mut self, scene: &Scene<'_>) {
        (self.good, self.bad) = (self.good.saturating_add(1), 0);
        if self.verdict == Verdict::Unknown || self.good >= scene.timings.rise {
            self.verdict = Verdict::Ready;
        }
        self.ejections.pardon(scene.now);
    }

    fn not_ready(&mut self) {
        (self.good, self.bad) = (0, 0);
        self.verdict = Verdict::NotReady;
    }

    fn failed(&mut self, error: String, scene: &Scene<'_>) {
        (self.good, self.bad) = (0, self.bad.saturating_add(1));
        self.last_error = error;
        if self.verdict == Verdict::Unknown || self.bad >= scene.timings.fall {
            self.verdict = Verdict::Failed;
            self.ejections.end();
        }
    }

    /// What fails while it is ejected was under way before and counts for nothing.
    fn eject(&mut self, why: String, scene: &Scene<'_>, rng: &mut Rng) {
        if !self.state().takes() || !scene.another_takes {
            return;
        }
        self.ejections.begin(why, scene, rng);
        self.evidence = Evidence::new(scene.now);
    }

    /// Notices that it came to take connections, or ceased to.
    fn settle(&mut self, scene: &Scene<'_>) {
        match self.state() {
            State::Up | State::SlowStart if self.taking_since.is_none() => {
                self.taking_since = Some(scene.now);
                self.slow = scene.another_is_warm && !scene.timings.slow_start.is_zero();
            }
            State::Up | State::SlowStart | State::Ejected => {}
            State::Checking | State::Draining | State::Down => {
                self.taking_since = None;
                self.slow = false;
            }
        }
    }

    fn percent(&self, now: Instant, timings: &Timings) -> u32 {
        let Some(since) = self.taking_since.filter(|_| self.slow) else { return 100 };
        let part = now.saturating_duration_since(since).as_secs_f64() / timings.slow_start.as_secs_f64();
        let percent = SLOW_PERCENT + (f64::from(100 - SLOW_PERCENT) * part.min(1.0)) as u32;
        percent / STEP_PERCENT * STEP_PERCENT
    }
}

#[cfg(test)]
mod tests;
