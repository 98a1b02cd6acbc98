//! Coarse time that fits a connection's row.
//!
//! Owns: [`Tick`], the node's unit for marks and deadlines. Never reads a
//! clock: a reactor does that once per turn and hands the result down.

use std::time::Duration;

/// Ticks of 10 ms since the reactor started.
///
/// The counter wraps after 497 days; comparisons use wrapping arithmetic, so
/// spans of up to 248 days compare correctly across the wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick(pub u32);

impl Tick {
    /// Milliseconds in one tick.
    pub const MS: u32 = 10;

    /// The tick that holds a moment `elapsed` after the start.
    pub fn at(elapsed: Duration) -> Tick {
        Tick((elapsed.as_millis() / u128::from(Self::MS)) as u32)
    }

    /// Ticks in `span`, rounded up so that nothing is due early; at most 248 days.
    pub fn count(span: Duration) -> u32 {
        let ticks = span.as_millis().div_ceil(u128::from(Self::MS));
        ticks.min(i32::MAX as u128) as u32
    }

    /// Ticks passed from `earlier` to `self`; 0 when `earlier` is in the future.
    pub fn since(self, earlier: Tick) -> u32 {
        let span = self.0.wrapping_sub(earlier.0);
        if span > i32::MAX as u32 { 0 } else { span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_the_wrap_and_never_run_backwards() {
        let cases = [(0, 5, 5), (u32::MAX, 4, 5), (7, 7, 0), (9, 7, 0)];
        for (earlier, later, expected) in cases {
            assert_eq!(Tick(later).since(Tick(earlier)), expected, "{earlier} -> {later}");
        }
    }

    #[test]
    fn spans_are_rounded_up() {
        let cases = [(0, 0), (1, 1), (10, 1), (11, 2), (30_000, 3000)];
        for (ms, expected) in cases {
            assert_eq!(Tick::count(Duration::from_millis(ms)), expected, "{ms} ms");
        }
        assert_eq!(Tick::count(Duration::MAX), i32::MAX as u32);
    }
}
