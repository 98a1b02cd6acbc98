//! When rows are due, without a timer for those that are not.
//!
//! Owns: [`Timers`]. An idle pair has no entry. An entry is not removed when
//! its row is done with it: the row says, when asked, that it is not due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Milliseconds since the balancer started.
pub(super) type Millis = u64;

/// The time of a row that waits for nothing.
pub(super) const NEVER: Millis = Millis::MAX;

/// Entries that may be outdated before they are sorted out: below this it does not pay.
const STALE_MIN: usize = 4096;

/// Rows by when they are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: BinaryHeap<Reverse<(Millis, u32, u32)>>,
}

impl Timers {
    /// Row `slot`, in its present `generation`, is to be looked at.
    pub(super) fn set(&mut self, due: Millis, slot: u32, generation: u32) {
        if due != NEVER {
            self.entries.push(Reverse((due, slot, generation)));
        }
    }

    /// The next row that is due: when it was to be, slot and generation.
    pub(super) fn pop(&mut self, now: Millis) -> Option<(Millis, u32, u32)> {
        self.entries.peek().filter(|Reverse((due, ..))| *due <= now)?;
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// When somebody may be due.
    pub(super) fn next(&self) -> Option<Millis> {
        self.entries.peek().map(|Reverse((due, ..))| *due)
    }

    /// Drops outdated entries when there are many more than `rows`. `is_current`
    /// says whether a row still waits for the time of its entry.
    pub(super) fn tidy(&mut self, rows: usize, mut is_current: impl FnMut(Millis, u32, u32) -> bool) {
        if self.entries.len() > 2 * rows + STALE_MIN {
            self.entries.retain(|Reverse((due, slot, generation))| is_current(*due, *slot, *generation));
            self.entries.shrink_to(2 * self.entries.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_due_in_order_and_not_early() {
        let mut timers = Timers::default();
        for (due, slot) in [(30, 3), (10, 1), (NEVER, 9), (20, 2)] {
            timers.set(due, slot, 7);
        }
        assert_eq!((timers.next(), timers.pop(9)), (Some(10), None));
        let due: Vec<_> = std::iter::from_fn(|| timers.pop(25)).collect();
        assert_eq!(due, [(10, 1, 7), (20, 2, 7)]);
        assert_eq!(timers.next(), Some(30));
    }

    #[test]
    fn outdated_entries_do_not_pile_up() {
        let mut timers = Timers::default();
        for round in 0..10 * STALE_MIN as u64 {
            timers.set(1000 + round, 1, 1);
            timers.tidy(1, |due, _, _| due == 1000 + round);
            assert!(timers.entries.len() <= STALE_MIN + 3);
        }
    }
}
