//! The connections of one reactor: a slab whose slots carry a generation and
//! are freed last.
//!
//! Owns: [`ConnTable`]. A slot is freed at the end of a turn only, because a
//! later event of the same batch may still name it.

use slab::Slab;

use crate::ids::{ConnId, ReactorId};

/// What a table asks of its rows.
pub trait Row {
    /// Which use of its slot the row is.
    fn generation(&self) -> u32;
    /// Called once, when the row is put into the table.
    fn set_generation(&mut self, generation: u32);
    /// Whether it is over, and only its slot is not free yet.
    fn is_dead(&self) -> bool;
    /// Marks it so.
    fn bury(&mut self);
}

/// Rows by slot. Not thread-safe: it belongs to one reactor.
pub struct ConnTable<R> {
    reactor: ReactorId,
    rows: Slab<R>,
    /// One past the highest slot ever used since the table was last shrunk.
    high_water: u32,
    /// The most rows since then.
    most: usize,
    next_generation: u32,
    dead: Vec<u32>,
}

impl<R: Row> ConnTable<R> {
    /// A table with room for `rows` before it has to grow.
    pub fn with_capacity(reactor: ReactorId, rows: usize) -> Self {
        ConnTable {
            reactor,
            rows: Slab::with_capacity(rows),
            high_water: 0,
            most: 0,
            next_generation: 1,
            dead: Vec::new(),
        }
    }

    /// Rows in use, the dead of this turn included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row is in use.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Slots below this may be in use.
    pub fn high_water(&self) -> u32 {
        self.high_water
    }

    /// Whether another row has a slot that fits a [`ConnId`].
    pub fn has_room(&self) -> bool {
        self.rows.len() < 1 << ConnId::SLOT_BITS
    }

    /// Adds a row and names its slot. The caller has asked [`ConnTable::has_room`].
    pub fn insert(&mut self, mut row: R) -> u32 {
        row.set_generation(self.next_generation);
        self.next_generation = self.next_generation.wrapping_add(1);
        let slot = self.rows.insert(row) as u32;
        self.high_water = self.high_water.max(slot + 1);
        self.most = self.most.max(self.rows.len());
        slot
    }

    /// The row in a slot, unless it is vacant or dead.
    pub fn get(&mut self, slot: u32) -> Option<&mut R> {
        self.rows.get_mut(slot as usize).filter(|row| !row.is_dead())
    }

    /// The row in a slot, dead ones included.
    pub fn any(&mut self, slot: u32) -> Option<&mut R> {
        self.rows.get_mut(slot as usize)
    }

    /// The slot of a connection that may have ended in the meantime.
    pub fn find(&mut self, id: ConnId) -> Option<u32> {
        debug_assert_eq!(id.reactor(), self.reactor);
        let slot = id.slot();
        self.get(slot).filter(|row| row.generation() == id.generation()).map(|_| slot)
    }

    /// The id of the connection in a slot.
    pub fn id(&self, slot: u32) -> Option<ConnId> {
        let row = self.rows.get(slot as usize)?;
        Some(ConnId::new(self.reactor, slot, row.generation()))
    }

    /// Marks a row dead; its slot is freed by [`ConnTable::reap`].
    pub fn bury(&mut self, slot: u32) {
        if let Some(row) = self.get(slot) {
            row.bury();
            self.dead.push(slot);
        }
    }

    /// Frees the slots of the dead, closing their sockets.
    pub fn reap(&mut self) {
        for slot in self.dead.drain(..) {
            self.rows.try_remove(slot as usize);
        }
    }

    /// Gives memory back when far fewer rows are in use than there were;
    /// whether it did. One that stays may have any slot: how many there were
    /// counts, not where they are.
    pub fn shrink(&mut self) -> bool {
        let crowd_left = self.dead.is_empty() && self.rows.len() < self.most / 8;
        if crowd_left {
            self.most = self.rows.len();
            self.rows.shrink_to_fit();
            self.high_water = self.rows.iter().next_back().map_or(0, |(slot, _)| slot as u32 + 1);
        }
        crowd_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;
    use crate::reactor::connection::Connection;

    fn table() -> ConnTable<Connection<()>> {
        ConnTable::with_capacity(ReactorId(3), 4)
    }

    fn row() -> Connection<()> {
        Connection::accepted((), Tick(0), false)
    }

    #[test]
    fn an_id_that_outlived_its_connection_names_nothing() {
        let mut table = table();
        let slot = table.insert(row());
        let old = table.id(slot).unwrap();
        assert_eq!(table.find(old), Some(slot));
        table.bury(slot);
        assert_eq!(table.find(old), None, "dead at once");
        table.reap();
        assert_eq!(table.insert(row()), slot, "the slot is used again");
        assert_eq!(table.find(old), None);
        assert_ne!(table.id(slot), Some(old));
    }

    #[test]
    fn slots_are_freed_at_the_end_of_the_turn() {
        let mut table = table();
        let slot = table.insert(row());
        table.bury(slot);
        table.bury(slot);
        assert_ne!(table.insert(row()), slot, "a dead row still holds its slot");
        table.reap();
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_table_that_was_large_is_shrunk() {
        let mut table = table();
        let slots: Vec<_> = (0..1000).map(|_| table.insert(row())).collect();
        for slot in &slots[1..] {
            table.bury(*slot);
        }
        table.reap();
        assert!(table.shrink());
        assert!(!table.shrink(), "there is no more to give back");
        assert_eq!((table.high_water(), table.len()), (1, 1));
        assert!(table.get(slots[0]).is_some());
    }

    #[test]
    fn one_that_stays_in_a_high_slot_is_no_crowd() {
        let mut table = table();
        let slots: Vec<_> = (0..1000).map(|_| table.insert(row())).collect();
        for slot in &slots[..999] {
            table.bury(*slot);
        }
        table.reap();
        assert!(table.shrink());
        assert!(!table.shrink(), "what could be given back has been");
        assert_eq!((table.high_water(), table.len()), (1000, 1));
    }
}
