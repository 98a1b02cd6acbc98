//! What may stand behind the body of a request: nothing that changes what is
//! to be done, so that a node which does not know it passes over it.
//!
//! ```text
//! aside  nothing · or bits u8 · probe (two u32) if bit 0 · trace (16 bytes) if bit 1
//! ```
//!
//! What later versions add has further bits, and stands behind.

use super::body::{Fields, put_u32};
use std::time::Duration;

use crate::stamp::Micros;
use crate::trace::TraceId;

const PROBE: u8 = 0b01;
const TRACE: u8 = 0b10;

/// What may be known of a request beside what is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// The source wants to know how long it was on its way.
    pub probe: Option<Probe>,
    /// The trace it belongs to.
    pub trace: Option<TraceId>,
}

/// Moments by the source's clock; nobody else's can be compared with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When the message was taken in.
    pub taken: Micros,
    /// When it was laid out for the other node.
    pub sent: Micros,
}

impl Probe {
    /// How long it took until it was written, when the source hears at `back`
    /// that it was `held` until then and had `stayed` when that was told. Of the
    /// time in flight, there and back, half is taken, as NTP does (RFC 5905,
    /// section 8). What cannot be is cut down to what passed at the source.
    pub fn way(&self, held: Duration, stayed: Duration, back: Micros) -> Duration {
        let round = back.since(self.sent);
        let stayed = stayed.min(round);
        self.sent.since(self.taken) + held.min(stayed) + (round - stayed) / 2
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_u32(out, self.taken.as_u32());
        put_u32(out, self.sent.as_u32());
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Probe> {
        let (taken, sent) = (fields.u32()?, fields.u32()?);
        Some(Probe { taken: Micros::from_u32(taken), sent: Micros::from_u32(sent) })
    }
}

impl Aside {
    /// Appends it, if there is anything to say.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let bits = self.probe.map_or(0, |_| PROBE) | self.trace.map_or(0, |_| TRACE);
        if bits == 0 {
            return;
        }
        out.push(bits);
        if let Some(probe) = &self.probe {
            probe.write(out);
        }
        if let Some(trace) = &self.trace {
            out.extend_from_slice(trace.as_bytes());
        }
    }

    /// Reads what stands behind a body. What is cut short is not known: the
    /// request stands without it.
    pub(super) fn read(fields: &mut Fields<'_>) -> Aside {
        Self::try_read(fields).unwrap_or_default()
    }

    fn try_read(fields: &mut Fields<'_>) -> Option<Aside> {
        let bits = fields.u8()?;
        let mut aside = Aside::default();
        if bits & PROBE != 0 {
            aside.probe = Some(Probe::read(fields)?);
        }
        if bits & TRACE != 0 {
            aside.trace = TraceId::from_bytes(fields.array()?);
        }
        Some(aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Option<Probe> {
        Some(Probe { taken: Micros::from_u32(7), sent: Micros::from_u32(300) })
    }

    fn trace() -> Option<TraceId> {
        TraceId::from_bytes(*b"0123456789abcdef")
    }

    #[test]
    fn what_is_written_is_read_and_what_is_cut_short_is_nothing() {
        for (aside, bytes) in [
            (Aside::default(), 0),
            (Aside { probe: probe(), trace: None }, 9),
            (Aside { probe: None, trace: trace() }, 17),
            (Aside { probe: probe(), trace: trace() }, 25),
        ] {
            let mut out = Vec::new();
            aside.write(&mut out);
            assert_eq!(out.len(), bytes, "{aside:?}");
            assert_eq!(Aside::read(&mut Fields(&out)), aside);
            for end in 0..out.len() {
                assert_eq!(Aside::read(&mut Fields(&out[..end])), Aside::default(), "{aside:?} cut at {end}");
            }
        }
    }

    #[test]
    fn half_of_the_flight_is_on_the_way_there() {
        let check = |held: u64, stayed: u64, back: u32, expected: u64| {
            let [held, stayed, expected] = [held, stayed, expected].map(Duration::from_micros);
            let probe = Probe { taken: Micros::from_u32(100), sent: Micros::from_u32(300) };
            assert_eq!(
                probe.way(held, stayed, Micros::from_u32(back)),
                expected,
                "{held:?} {stayed:?} {back}"
            );
        };
        check(50, 400, 1300, 200 + 50 + 300);
        check(0, 0, 300, 200);
        // What no clock can have shown.
        check(9_000_000, 9_000_000, 1300, 200 + 1000);
        check(500, 400, 1300, 200 + 400 + 300);
        check(50, 400, 200, 200);
    }

    #[test]
    fn what_is_not_known_does_not_hide_what_is() {
        let mut out = Vec::new();
        Aside { probe: probe(), trace: trace() }.write(&mut out);
        out[0] |= 0b1111_1100;
        out.extend_from_slice(b"later");
        assert_eq!(Aside::read(&mut Fields(&out)), Aside { probe: probe(), trace: trace() });
        let no_id = [&[TRACE][..], &[0; 16]].concat();
        assert_eq!(Aside::read(&mut Fields(&no_id)), Aside::default());
    }
}
