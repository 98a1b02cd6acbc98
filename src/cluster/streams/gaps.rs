//! Which numbers of one stream have been received: all below `next`, save for
//! a bounded number of gaps.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use crate::limits::{STREAM_GAPS, STREAM_REPAIR_INTERVAL, STREAM_REPAIR_TIMEOUT};

/// Numbers from the first up to, not including, the last.
pub(super) type Numbers = Range<u64>;

/// Since when something is waited for and when it was last asked for.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    asked: Option<Instant>,
}

impl Wait {
    fn from(now: Instant) -> Self {
        Wait { since: now, asked: None }
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.since + STREAM_REPAIR_TIMEOUT
    }

    /// Whether to ask now; if so, not again before an interval has passed.
    fn ask(&mut self, now: Instant) -> bool {
        let due = self.asked.is_none_or(|asked| now >= asked + STREAM_REPAIR_INTERVAL);
        if due {
            self.asked = Some(now);
        }
        due
    }

    fn deadline(&self) -> Instant {
        let ask = self.asked.map_or(self.since, |asked| asked + STREAM_REPAIR_INTERVAL);
        ask.min(self.since + STREAM_REPAIR_TIMEOUT)
    }
}

/// Numbers that were sent and have not come.
#[derive(Debug)]
struct Gap {
    numbers: Numbers,
    /// Begins anew when a part of the gap is filled: there is progress.
    wait: Wait,
}

/// What is to be done about missing numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask for them.
    Ask(Numbers),
    /// They are not expected any more.
    Lost(Numbers),
}

/// Invariant: gaps are not empty, are sorted, do not overlap, begin at or above
/// `begin` and end at or below `next`.
#[derive(Debug)]
pub(super) struct Received {
    /// Nothing below is expected.
    begin: u64,
    next: u64,
    gaps: VecDeque<Gap>,
    /// Present while it has to be asked what was sent from `next` on.
    unheard: Option<Wait>,
}

impl Received {
    /// Nothing below `begin` is expected.
    pub(super) fn from(begin: u64) -> Self {
        Received { begin, next: begin, gaps: VecDeque::new(), unheard: None }
    }

    /// Learns that the stream begins no later than with `number`: what it has
    /// from there on and has not come is missing.
    pub(super) fn begin_by(&mut self, number: u64, now: Instant) {
        if number < self.begin {
            self.gaps.push_front(Gap { numbers: number..self.begin, wait: Wait::from(now) });
            self.begin = number;
        }
        self.check_invariants();
    }

    /// Whether, as far as is known, nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.gaps.is_empty() && self.unheard.is_none()
    }

    /// Notes that batches may have been missed: what follows is to be asked
    /// for, and what was missing before waited for anew.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.unheard = Some(Wait::from(now));
        self.gaps.iter_mut().for_each(|gap| gap.wait = Wait::from(now));
    }

    /// Stops waiting for `numbers`, whether they came or are lost. All numbers
    /// before them were sent, so what of those has not come is missing.
    /// Returns which of `numbers` were not known to be received or lost.
    pub(super) fn settle(&mut self, numbers: &Numbers, now: Instant) -> Vec<Numbers> {
        self.unheard = None;
        if numbers.start > self.next {
            self.gaps.push_back(Gap { numbers: self.next..numbers.start, wait: Wait::from(now) });
            self.next = numbers.start;
        }
        let mut settled = self.settle_gaps(numbers, now);
        if numbers.end > self.next {
            settled.push(self.next..numbers.end);
            self.next = numbers.end;
        }
        self.check_invariants();
        settled
    }

    fn settle_gaps(&mut self, numbers: &Numbers, now: Instant) -> Vec<Numbers> {
        let mut settled = Vec::new();
        if numbers.is_empty() {
            // It tells what was sent and is no progress of the gap it points into.
            return settled;
        }
        let mut at = self.gaps.partition_point(|gap| gap.numbers.end <= numbers.start);
        while self.gaps.get(at).is_some_and(|gap| gap.numbers.start < numbers.end) {
            let Some(Gap { numbers: gap, wait }) = self.gaps.remove(at) else { break };
            let hit = gap.start.max(numbers.start)..gap.end.min(numbers.end);
            for rest in [gap.start..hit.start, hit.end..gap.end] {
                if !rest.is_empty() {
                    self.gaps.insert(at, Gap { numbers: rest, wait: Wait { since: now, ..wait } });
                    at += 1;
                }
            }
            settled.push(hit);
        }
        settled
    }

    /// Gives up the oldest gap if there are too many.
    pub(super) fn overflow(&mut self) -> Option<Numbers> {
        if self.gaps.len() <= STREAM_GAPS {
            return None;
        }
        self.gaps.pop_front().map(|gap| gap.numbers)
    }

    /// What is due now, one thing at a time; `None` when that was all.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Due> {
        if let Some(at) = self.gaps.iter().position(|gap| gap.wait.is_over(now)) {
            return self.gaps.remove(at).map(|gap| Due::Lost(gap.numbers));
        }
        if self.unheard.is_some_and(|wait| wait.is_over(now)) {
            // Its next batch, if ever one comes, tells what was missed.
            self.unheard = None;
        }
        if self.unheard.as_mut().is_some_and(|wait| wait.ask(now)) {
            return Some(Due::Ask(self.next..u64::MAX));
        }
        let gap = self.gaps.iter_mut().find_map(|gap| gap.wait.ask(now).then_some(&gap.numbers))?;
        Some(Due::Ask(gap.clone()))
    }

    /// When [`Self::poll`] has something to say, if nothing comes until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.gaps.iter().map(|gap| &gap.wait).chain(&self.unheard).map(Wait::deadline).min()
    }

    /// Gives up waiting for anything. Returns what was waited for.
    pub(super) fn into_missing(self) -> impl Iterator<Item = Numbers> {
        self.gaps.into_iter().map(|gap| gap.numbers)
    }

    fn check_invariants(&self) {
        let starts = self.gaps.iter().skip(1).map(|gap| gap.numbers.start).chain([self.next]);
        let mut pairs = self.gaps.iter().zip(starts);
        debug_assert!(
            self.gaps.front().is_none_or(|gap| self.begin <= gap.numbers.start)
                && pairs.all(|(gap, next)| gap.numbers.start < gap.numbers.end && gap.numbers.end <= next),
            "{self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The numbers that were missing after `steps`, and what each step settled.
    fn play(steps: &[Numbers]) -> (Vec<Numbers>, Vec<Vec<Numbers>>) {
        let now = Instant::now();
        let mut received = Received::from(1);
        let settled = steps.iter().map(|numbers| received.settle(numbers, now)).collect();
        (received.into_missing().collect(), settled)
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "lists of ranges, some of them of one")]
    fn each_number_is_settled_once() {
        let check = |steps: &[Numbers], missing: &[Numbers], last: &[Numbers]| {
            let (found, settled) = play(steps);
            assert_eq!(found, missing, "missing after {steps:?}");
            assert_eq!(settled.last().map(Vec::as_slice), Some(last), "settled by the last of {steps:?}");
        };
        check(&[1..4], &[], &[1..4]);
        check(&[1..4, 4..6], &[], &[4..6]);
        check(&[1..4, 1..4], &[], &[]);
        check(&[1..4, 3..6], &[], &[4..6]);
        check(&[3..4], &[1..3], &[3..4]);
        check(&[3..3], &[1..3], &[]);
        check(&[9..9, 5..5], &[1..9], &[]);
        check(&[9..9, 3..5], &[1..3, 5..9], &[3..5]);
        check(&[9..9, 1..9], &[], &[1..9]);
        check(&[9..9, 1..3], &[3..9], &[1..3]);
        check(&[9..9, 7..12], &[1..7], &[7..9, 9..12]);
        check(&[3..4, 6..7, 2..9], &[1..2], &[2..3, 4..6, 7..9]);
        check(&[3..4, 6..7, 1..7], &[], &[1..3, 4..6]);
        check(&[u64::MAX - 2..u64::MAX], &[1..u64::MAX - 2], &[u64::MAX - 2..u64::MAX]);
    }

    #[test]
    fn a_gap_is_asked_for_once_per_interval_until_its_time_is_over() {
        let start = Instant::now();
        let mut received = Received::from(1);
        received.settle(&(5..6), start);
        assert_eq!(received.deadline(), Some(start));
        let mut asked = 0;
        let mut now = start;
        while now < start + STREAM_REPAIR_TIMEOUT {
            assert_eq!(received.poll(now), Some(Due::Ask(1..5)));
            assert_eq!(received.poll(now + STREAM_REPAIR_INTERVAL / 2), None);
            asked += 1;
            now = received.deadline().expect("the gap is still there");
            assert!(now <= start + asked * STREAM_REPAIR_INTERVAL);
        }
        assert_eq!(received.poll(now), Some(Due::Lost(1..5)));
        assert_eq!((received.poll(now), received.deadline()), (None, None));
        assert!(received.is_whole());
        assert_eq!(received.settle(&(1..5), now), [], "lost is never received");
    }

    #[test]
    fn progress_gives_a_gap_more_time() {
        let start = Instant::now();
        let mut received = Received::from(1);
        received.settle(&(5..6), start);
        let nearly = start + STREAM_REPAIR_TIMEOUT - Duration::from_millis(1);
        received.settle(&(1..2), nearly);
        assert_eq!(received.poll(start + STREAM_REPAIR_TIMEOUT), Some(Due::Ask(2..5)));
        assert_eq!(received.poll(nearly + STREAM_REPAIR_TIMEOUT), Some(Due::Lost(2..5)));
    }

    #[test]
    fn a_doubt_is_asked_about_until_something_is_heard_or_it_is_too_late() {
        let start = Instant::now();
        let mut received = Received::from(4);
        received.doubt(start);
        assert!(!received.is_whole());
        assert_eq!(received.poll(start), Some(Due::Ask(4..u64::MAX)));
        assert_eq!(received.poll(start), None);
        received.settle(&(4..4), start);
        assert!(received.is_whole());
        received.doubt(start);
        assert_eq!(received.poll(start + STREAM_REPAIR_TIMEOUT), None);
        assert!(received.is_whole());
    }

    #[test]
    fn a_doubt_gives_gaps_their_full_time_again() {
        let start = Instant::now();
        let mut received = Received::from(1);
        received.settle(&(5..6), start);
        let back = start + 2 * STREAM_REPAIR_TIMEOUT;
        received.doubt(back);
        assert_eq!(received.poll(back), Some(Due::Ask(6..u64::MAX)));
        assert_eq!(received.poll(back), Some(Due::Ask(1..5)));
        assert_eq!(received.poll(back), None);
    }

    #[test]
    fn what_was_sent_from_its_beginning_on_is_missing() {
        let now = Instant::now();
        let mut received = Received::from(9);
        received.settle(&(9..12), now);
        received.begin_by(10, now);
        assert!(received.is_whole(), "it began before");
        received.begin_by(7, now);
        received.begin_by(7, now);
        assert_eq!(received.poll(now), Some(Due::Ask(7..9)));
        assert_eq!(received.settle(&(5..8), now).pop(), Some(7..8));
        assert_eq!(received.into_missing().next(), Some(8..9));
    }

    #[test]
    fn gaps_are_bounded() {
        let now = Instant::now();
        let mut received = Received::from(1);
        for number in 1..=STREAM_GAPS as u64 {
            received.settle(&(2 * number..2 * number + 1), now);
            assert_eq!(received.overflow(), None);
        }
        received.settle(&(u64::MAX - 1..u64::MAX), now);
        assert_eq!(received.overflow(), Some(1..2));
        assert_eq!(received.overflow(), None);
    }
}
