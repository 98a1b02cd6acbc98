//! When to try again to reach Redis.
//!
//! Owns [`Backoff`]. Never: a clock, chance; both are passed in.

use std::time::Duration;

/// The longest wait at first, and at most; each is jittered.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A link that did not last so long is another failure: what broke it will
/// break the next, for which all users are registered again.
const LASTING: Duration = Duration::from_secs(5);

/// Counts attempts that failed, one after another.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A link broke after `span`.
    pub(super) fn lasted(&mut self, span: Duration) {
        if span >= LASTING {
            self.failures = 0;
        }
    }

    /// How long to wait before the next attempt. `chance` is from 0 to 1: full
    /// jitter, so that nodes do not come back in step; never at once.
    pub(super) fn wait(&mut self, chance: f64) -> Duration {
        let bound = WAIT.0.saturating_mul(1 << self.failures.min(10)).min(WAIT.1);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(chance).max(WAIT.0 / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_are_never_nothing() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..7).map(|_| backoff.wait(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.wait(0.0).as_millis(), 50);
    }

    #[test]
    fn only_a_link_that_lasted_ends_the_growth() {
        let mut backoff = Backoff::default();
        backoff.wait(1.0);
        backoff.lasted(LASTING / 2);
        assert_eq!(backoff.wait(1.0).as_millis(), 200);
        backoff.lasted(LASTING);
        assert_eq!(backoff.wait(1.0).as_millis(), 100);
    }
}
