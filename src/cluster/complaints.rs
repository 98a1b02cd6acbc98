//! What the log has been told of a failure that goes on.
//!
//! Owns [`Complaints`]. Never: a clock, or what is logged. An attempt that is
//! made again every moment and fails each time is to be seen in the log, with
//! the reason it fails for by now, but not every moment.

use std::time::{Duration, Instant};

/// So long after one reason another one is said. What ends before needs no
/// second line: a server that restarts is unreachable in several ways.
const CHANGE: Duration = Duration::from_secs(5);

/// So long after a reason was said it is said again.
const REMINDER: Duration = Duration::from_secs(60);

/// What was said last, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Option<(String, Instant)>,
}

impl Complaints {
    /// The failure began, and this was said of it.
    pub(super) fn said(&mut self, reason: String, now: Instant) {
        self.last = Some((reason, now));
    }

    /// It failed, again or for the first time. Whether to say so; then it is
    /// taken to have been said.
    pub(super) fn is_news(&mut self, reason: &str, now: Instant) -> bool {
        let is_news = match &self.last {
            None => true,
            Some((last, at)) => {
                let age = now.saturating_duration_since(*at);
                age >= REMINDER || age >= CHANGE && last != reason
            }
        };
        if is_news {
            self.said(reason.to_owned(), now);
        }
        is_news
    }

    /// It does not fail any more.
    pub(super) fn clear(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_said_at_once_its_new_reason_soon_and_the_same_seldom() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let mut check = |after: f64, reason: &str, expected: bool| {
            let now = start + Duration::from_secs_f64(after);
            assert_eq!(complaints.is_news(reason, now), expected, "{reason} after {after} s");
        };
        check(0.0, "lost", true);
        check(0.1, "refused", false);
        check(4.9, "wrong password", false);
        check(5.0, "wrong password", true);
        check(10.0, "wrong password", false);
        check(64.9, "wrong password", false);
        check(65.0, "wrong password", true);
        check(66.0, "lost", false);
        check(70.0, "lost", true);
    }

    #[test]
    fn what_was_said_elsewhere_counts_until_it_is_over() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        complaints.said("lost".to_owned(), start);
        assert!(!complaints.is_news("lost", start + CHANGE));
        complaints.clear();
        assert!(complaints.is_news("lost", start + CHANGE));
    }
}
