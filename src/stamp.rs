//! When a message whose way is timed was taken in.
//!
//! Owns: [`Micros`], a moment as four bytes can say it, and [`Stamp`], what a
//! frame carries of it. Never reads a clock.

use std::num::NonZeroU32;
use std::time::Duration;

/// Bits of a moment: it wraps after 17 minutes, spans of up to half of that compare correctly.
const BITS: u32 = 30;
const MASK: u32 = (1 << BITS) - 1;

/// Microseconds since the node's start, modulo 2³⁰.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Micros(u32);

impl Micros {
    /// The moment `elapsed` after the node's start.
    pub fn at(elapsed: Duration) -> Micros {
        // Both may wrap, and so does the sum.
        let seconds = (elapsed.as_secs() as u32).wrapping_mul(1_000_000);
        Micros(seconds.wrapping_add(elapsed.subsec_micros()) & MASK)
    }

    /// From `earlier` to `self`; nothing when `earlier` is in the future.
    pub fn since(self, earlier: Micros) -> Duration {
        let span = self.0.wrapping_sub(earlier.0) & MASK;
        Duration::from_micros(if span > MASK / 2 { 0 } else { u64::from(span) })
    }

    /// For another node to give back.
    pub fn as_u32(self) -> u32 {
        self.0
    }

    /// What [`Micros::as_u32`] gave; of anything else the bits that fit.
    pub fn from_u32(bits: u32) -> Micros {
        Micros(bits & MASK)
    }
}

/// What a frame carries whose way is timed, in four bytes that are never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(NonZeroU32);

/// What a [`Stamp`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// A client or a caller of this node sent it, taken in at this moment.
    Taken(Micros),
    /// Another node sent it and wants to know when it was written; which of its
    /// probes, modulo 2³⁰.
    Probe(u32),
}

/// The two bits above a moment say what the stamp is.
const TAKEN: NonZeroU32 = kind(0b01);
const PROBE: NonZeroU32 = kind(0b10);

const fn kind(bits: u32) -> NonZeroU32 {
    match NonZeroU32::new(bits << BITS) {
        Some(kind) => kind,
        None => NonZeroU32::MIN,
    }
}

impl Stamp {
    /// For a message taken in at this moment.
    pub fn taken(at: Micros) -> Stamp {
        Stamp(TAKEN | at.0)
    }

    /// For a message of another node that is its probe of this name.
    pub fn probe(name: u32) -> Stamp {
        Stamp(PROBE | (name & MASK))
    }

    /// What it says.
    pub fn timed(self) -> Timed {
        let bits = self.0.get();
        match bits & PROBE.get() {
            0 => Timed::Taken(Micros(bits & MASK)),
            _ => Timed::Probe(bits & MASK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_the_wrap_and_never_run_backwards() {
        let wrap = Duration::from_micros(1 << BITS);
        for (earlier, later, expected) in [
            (Duration::ZERO, Duration::from_micros(7), 7),
            (Duration::from_secs(5_000_000), Duration::from_secs(5_000_001), 1_000_000),
            (wrap - Duration::from_micros(3), wrap + Duration::from_micros(4), 7),
            (Duration::from_micros(9), Duration::from_micros(7), 0),
        ] {
            let span = Micros::at(later).since(Micros::at(earlier));
            assert_eq!(span, Duration::from_micros(expected), "{earlier:?} -> {later:?}");
        }
    }

    #[test]
    fn a_stamp_says_what_it_was_made_of() {
        for bits in [0, 1, 12_345, MASK] {
            let at = Micros::from_u32(bits);
            assert_eq!(at.as_u32(), bits);
            assert_eq!(Stamp::taken(at).timed(), Timed::Taken(at));
            assert_eq!(Stamp::probe(bits).timed(), Timed::Probe(bits));
        }
        assert_eq!(Stamp::probe(u32::MAX).timed(), Timed::Probe(MASK));
        assert_eq!(Micros::from_u32(u32::MAX), Micros(MASK));
        assert_eq!(size_of::<Option<Stamp>>(), 4);
    }
}
