//! How long to wait before the next attempt: exponential back-off with full
//! jitter, and what the server says about it.
//!
//! Never reads a clock and draws no random numbers: both are passed in.

use std::time::Duration;

/// The longest advice of a server that is taken.
pub const ADVICE_MAX: Duration = Duration::from_secs(3600);

/// The shape of the waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The longest wait after the first failure; doubled by each further one.
    pub first: Duration,
    /// What the doubling ends at.
    pub max: Duration,
    /// A connection that was open for so long shows that all is well: the next
    /// failure is a first one.
    pub steady: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { first: Duration::from_secs(1), max: Duration::from_secs(30), steady: Duration::from_secs(5) }
    }
}

/// What the server said about coming back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    None,
    /// Come back after this: the server has drawn the time, so that not all
    /// clients come at once.
    After(Duration),
    /// Not before this, said to everybody alike: `Retry-After`.
    NotBefore(Duration),
}

/// The state of one connection's waiting.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: Policy,
    failures: u32,
    /// An advised return was granted since a connection was steady. A server
    /// that sends everybody away at once is not to be hammered.
    granted: bool,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(policy: Policy) -> Self {
        Backoff { policy, failures: 0, granted: false }
    }

    /// A connection ended that had been open for `span`.
    pub fn lived(&mut self, span: Duration) {
        if span >= self.policy.steady {
            self.failures = 0;
            self.granted = false;
        }
    }

    /// How long to wait now. `random` is evenly drawn from `0.0..1.0`.
    pub fn next(&mut self, advice: Advice, random: f64) -> Duration {
        match advice {
            Advice::After(span) if !self.granted => {
                self.granted = true;
                span.min(ADVICE_MAX)
            }
            Advice::After(span) | Advice::NotBefore(span) => span.min(ADVICE_MAX) + self.jittered(random),
            Advice::None => self.jittered(random),
        }
    }

    /// Full jitter: anything up to the bound that has been reached.
    fn jittered(&mut self, random: f64) -> Duration {
        let doubled = self.policy.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.policy.max).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff() -> Backoff {
        Backoff::new(Policy::default())
    }

    #[test]
    fn the_bound_doubles_from_one_second_to_thirty() {
        let mut highest = backoff();
        let waits: Vec<u64> = (0..100).map(|_| highest.next(Advice::None, 1.0).as_secs()).collect();
        assert_eq!(waits[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert!(waits[7..].iter().all(|wait| *wait == 30));
    }

    #[test]
    fn jitter_is_full() {
        for random in [0.0, 0.25, 0.999] {
            let mut some = backoff();
            some.next(Advice::None, 0.5);
            assert_eq!(some.next(Advice::None, random), (2 * SECOND).mul_f64(random));
        }
    }

    #[test]
    fn a_steady_connection_forgets_the_failures() {
        let mut backoff = backoff();
        for _ in 0..5 {
            backoff.next(Advice::None, 1.0);
        }
        backoff.lived(SECOND);
        assert_eq!(backoff.next(Advice::None, 1.0), 30 * SECOND, "too short to show anything");
        backoff.lived(5 * SECOND);
        assert_eq!(backoff.next(Advice::None, 1.0), SECOND);
    }

    #[test]
    fn the_first_return_is_when_the_server_says() {
        let mut backoff = backoff();
        assert_eq!(backoff.next(Advice::After(7 * SECOND), 1.0), 7 * SECOND, "to the moment");
        assert_eq!(backoff.next(Advice::None, 1.0), SECOND, "then it is a first failure");
        assert_eq!(backoff.next(Advice::After(7 * SECOND), 1.0), 9 * SECOND, "and no privilege twice");
        backoff.lived(SECOND * 60);
        assert_eq!(backoff.next(Advice::After(Duration::ZERO), 1.0), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_the_least() {
        let mut backoff = backoff();
        assert_eq!(backoff.next(Advice::NotBefore(5 * SECOND), 0.0), 5 * SECOND);
        assert_eq!(backoff.next(Advice::NotBefore(5 * SECOND), 0.5), 6 * SECOND, "spread wider each time");
        let far = Advice::NotBefore(Duration::MAX);
        assert!(backoff.next(far, 1.0) <= ADVICE_MAX + 30 * SECOND);
    }
}
