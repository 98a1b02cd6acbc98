//! Names for reactors and connections that may travel between threads.
//!
//! Owns: [`ReactorId`], [`ConnId`]. Never: a raw slab index outside a reactor.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// Number of a reactor within its node, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReactorId(pub u8);

impl ReactorId {
    /// The reactor's place in an array of reactors.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A connection of this node, for as long as it lives.
///
/// Slots are used again; the generation is not (it wraps after 2³² uses of one
/// slot), so a `ConnId` that outlived its connection names nothing rather than
/// a stranger. It is eight bytes: 8 bits reactor, 24 bits slot, 32 bits
/// generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    /// Bits that name the slot; bounds a reactor to 16 777 216 connections.
    pub const SLOT_BITS: u32 = 24;

    /// Packs the three parts. `slot` must be below 2²⁴.
    pub fn new(reactor: ReactorId, slot: u32, generation: u32) -> Self {
        debug_assert!(slot < 1 << Self::SLOT_BITS, "slot {slot} does not fit a ConnId");
        ConnId(u64::from(reactor.0) << 56 | u64::from(slot) << 32 | u64::from(generation))
    }

    /// The eight bytes, for another node to give back.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// What [`ConnId::as_u64`] gave.
    pub fn from_u64(bits: u64) -> Self {
        ConnId(bits)
    }

    /// The reactor that owns the connection.
    pub fn reactor(self) -> ReactorId {
        ReactorId((self.0 >> 56) as u8)
    }

    /// The row in that reactor's table.
    pub fn slot(self) -> u32 {
        (self.0 >> 32) as u32 & ((1 << Self::SLOT_BITS) - 1)
    }

    /// Which use of the row is meant.
    pub fn generation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({self})")
    }
}

impl FromStr for ConnId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(ConnId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_packing_and_text() {
        let cases = [(0, 0, 0), (255, (1 << 24) - 1, u32::MAX), (3, 19_000, 7)];
        for (reactor, slot, generation) in cases {
            let id = ConnId::new(ReactorId(reactor), slot, generation);
            assert_eq!((id.reactor().0, id.slot(), id.generation()), (reactor, slot, generation));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
