//! When failures of connections are more than chance.
//!
//! Owns: [`Evidence`], successes and failures within a window. A single failed
//! handshake says little: a client's odd request can cause it. Several that
//! outweigh the successes say that the backend is broken.

use std::time::{Duration, Instant};

/// A connection that breaks younger than this speaks against its backend.
pub(super) const YOUNG: Duration = Duration::from_secs(5);

/// What is older is forgotten, all at once.
const WINDOW: Duration = Duration::from_secs(10);

/// Failures that are more than chance.
const FAILURES: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct Evidence {
    began: Instant,
    successes: u32,
    failures: u32,
}

impl Evidence {
    pub(super) fn new(now: Instant) -> Evidence {
        Evidence { began: now, successes: 0, failures: 0 }
    }

    pub(super) fn succeeded(&mut self, now: Instant) {
        self.forget(now);
        self.successes = self.successes.saturating_add(1);
    }

    /// Counts failures; if they are more than chance, how many there were.
    pub(super) fn failed(&mut self, count: u32, now: Instant) -> Option<u32> {
        self.forget(now);
        self.failures = self.failures.saturating_add(count);
        (self.failures >= FAILURES && self.failures >= self.successes).then_some(self.failures)
    }

    fn forget(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began) >= WINDOW {
            *self = Evidence::new(now);
        }
    }
}
