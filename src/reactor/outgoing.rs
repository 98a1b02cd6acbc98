//! What a turn has produced and nobody has been sent yet.
//!
//! Owns: [`Outgoing`], the layout of one turn's output. Private frames stand
//! in one arena, broadcasts once in a buffer that the whole audience shares; a
//! connection that owes nothing else is sent that buffer by one write and
//! has no entry here at all. Only what a socket does not take is moved to the
//! connection's own [`Outbound`](super::outbound::Outbound) queue. Never decides who is sent what.

mod layout;
mod writing;

use std::io::{self, Write};

use bytes::Bytes;

use super::connection::{Audience, Connection};
use super::transport::{Direct, Transport};
use crate::limits::{ARENA_BYTES, IOVECS_MAX, SHARED_BYTES};
use crate::ws::frame::Frame;
use layout::Layout;

const NONE: u32 = u32::MAX;

/// Frames from this size on are referenced rather than copied into the arena.
const HELD_BYTES: usize = 16 * 1024;

/// Entries of its lists that a layout keeps room for between busy times.
const KEPT_ENTRIES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Arena,
    Held(u32),
    Plain,
    Deflated,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    source: Source,
    start: usize,
    len: usize,
    next: u32,
}

/// What one connection is owed this turn, in order: a list of pieces, then
/// the broadcasts from `shared_from` on when it belongs to an audience.
#[derive(Clone, Copy, Debug)]
struct Debt {
    slot: u32,
    head: u32,
    tail: u32,
    bytes: usize,
    shared_from: u32,
}

impl Debt {
    fn nothing(slot: u32, shared_from: u32) -> Self {
        Debt { slot, head: NONE, tail: NONE, bytes: 0, shared_from }
    }
}

/// What came of writing a connection's debt.
#[derive(Debug, Default)]
pub struct Settled {
    /// Bytes the socket took.
    pub written: usize,
    /// Broadcast frames dropped because more than the bound was owed already.
    pub dropped: u32,
    /// Bytes are left over; they are in the connection's outbound queue.
    pub owing: bool,
    /// The socket is broken.
    pub error: Option<io::Error>,
}

/// The output of one turn. Not thread-safe: it belongs to one reactor.
#[derive(Default)]
pub struct Outgoing {
    arena: Vec<u8>,
    held: Vec<Bytes>,
    plain: Layout,
    deflated: Layout,
    pieces: Vec<Piece>,
    debts: Vec<Debt>,
    /// The pieces of the connection being settled.
    owed: Vec<Piece>,
}

impl Outgoing {
    /// Whether the turn has laid out as much as it should before writing it out.
    pub fn is_full(&self, shared_bytes_max: usize) -> bool {
        self.arena.len() >= ARENA_BYTES || self.plain.bytes.len() >= shared_bytes_max.min(SHARED_BYTES)
    }

    /// Whether there are broadcasts for the audience.
    pub fn has_broadcasts(&self) -> bool {
        !self.plain.ends.is_empty()
    }

    /// Broadcast frames laid out since the last [`Outgoing::clear`].
    pub fn broadcasts(&self) -> u32 {
        self.plain.ends.len() as u32
    }

    /// Bytes laid out this turn for this connection alone, and the broadcasts it is due.
    pub fn owed<S>(&self, row: &Connection<S>) -> usize {
        let (bytes, from) = match self.debts.get(row.debt as usize) {
            Some(debt) => (debt.bytes, debt.shared_from),
            None => (0, 0),
        };
        bytes + self.layout(row.audience).map_or(0, |layout| layout.bytes.len() - layout.start_of(from))
    }

    /// Appends whatever `write` writes to what the connection is owed.
    pub fn push<S>(&mut self, row: &mut Connection<S>, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let index = self.debt_of(row, slot);
        self.catch_up(row, index);
        let start = self.arena.len();
        write(&mut self.arena);
        let len = self.arena.len() - start;
        self.append(index, Source::Arena, start, len);
    }

    /// Appends an encoded frame, by reference when it is large.
    pub fn push_frame<S>(&mut self, row: &mut Connection<S>, slot: u32, frame: &Frame) {
        if frame.len() < HELD_BYTES {
            return self.push(row, slot, |arena| arena.extend_from_slice(frame.wire()));
        }
        let index = self.debt_of(row, slot);
        self.catch_up(row, index);
        let held = self.held.len() as u32;
        self.held.push(frame.bytes().clone());
        self.append(index, Source::Held(held), 0, frame.len());
    }

    /// Lays out one frame for the whole audience: plain, and compressed for those who agreed to it.
    pub fn broadcast(&mut self, plain: &[u8], deflated: impl FnOnce(&mut Vec<u8>)) {
        self.plain.push(|bytes| bytes.extend_from_slice(plain));
        self.deflated.push(deflated);
    }

    /// From here on the connection is sent broadcasts, not those already laid out.
    pub fn join_audience<S>(&mut self, row: &mut Connection<S>, slot: u32, audience: Audience) {
        let index = self.debt_of(row, slot);
        row.audience = audience;
        self.debts[index].shared_from = self.broadcasts();
    }

    /// Takes the broadcasts it is due into its own list, then takes it out of the audience.
    pub fn leave_audience<S>(&mut self, row: &mut Connection<S>, slot: u32) {
        if row.audience != Audience::None && self.has_broadcasts() {
            let index = self.debt_of(row, slot);
            self.catch_up(row, index);
        }
        row.audience = Audience::None;
    }

    /// The slots that have a debt of their own, in the order they came to it.
    pub fn debtors(&self) -> usize {
        self.debts.len()
    }

    /// The slot of the `index`th debtor.
    pub fn debtor(&self, index: usize) -> u32 {
        self.debts[index].slot
    }

    /// Makes a note of what a member of an audience has been sent, if it is to
    /// be settled before the turn ends: later broadcasts are all it is due then.
    pub fn note<S>(&mut self, row: &mut Connection<S>, slot: u32) {
        if row.audience != Audience::None && self.has_broadcasts() {
            self.debt_of(row, slot);
        }
    }

    /// Writes what the connection is owed; what its socket does not take goes
    /// to its outbound queue, broadcasts only as far as `bytes_max` allows.
    ///
    /// A connection without a debt of its own is taken to be settled at the end
    /// of the turn, unless something is left over; see [`Outgoing::note`].
    pub fn settle<S: Write>(&mut self, row: &mut Connection<S>, slot: u32, bytes_max: usize) -> Settled {
        self.settle_through(row, slot, bytes_max, &mut Direct)
    }

    /// As [`Outgoing::settle`], where bytes get to the socket in another way.
    pub fn settle_through<S, T: Transport<S>>(
        &mut self,
        row: &mut Connection<S>,
        slot: u32,
        bytes_max: usize,
        transport: &mut T,
    ) -> Settled {
        let debt = self.take_debt(row, slot);
        self.list(&debt, row.audience);
        let mut settled = Settled::default();
        if row.outbound.is_none() {
            match self.write(&mut transport.to(&mut row.stream)) {
                Ok(written) => settled.written = written,
                Err(error) => settled.error = Some(error),
            }
            if settled.error.is_some() || settled.written == self.listed_bytes() {
                return settled;
            }
        }
        self.note(row, slot);
        self.take_debt(row, slot);
        let mut outbound = row.outbound.take().unwrap_or_default();
        settled.dropped = self.enqueue(settled.written, &mut outbound, bytes_max);
        settled.owing = !outbound.is_empty();
        row.outbound = settled.owing.then_some(outbound);
        settled
    }

    /// Forgets the turn. Everyone has been settled; rows no longer point here.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.held.clear();
        self.pieces.clear();
        self.debts.clear();
        self.plain.clear();
        self.deflated.clear();
        if self.arena.capacity() > 2 * ARENA_BYTES {
            self.shrink();
        }
    }

    /// Gives back what an unusual turn needed. For between turns.
    pub fn shrink(&mut self) {
        debug_assert!(self.debts.is_empty(), "between turns nothing is owed");
        self.arena.shrink_to(SHARED_BYTES);
        self.held.shrink_to(IOVECS_MAX);
        self.pieces.shrink_to(KEPT_ENTRIES);
        self.debts.shrink_to(KEPT_ENTRIES);
        self.owed.shrink_to(IOVECS_MAX);
        self.plain.shrink();
        self.deflated.shrink();
    }

    fn layout(&self, audience: Audience) -> Option<&Layout> {
        match audience {
            Audience::None => None,
            Audience::Plain => Some(&self.plain),
            Audience::Deflated => Some(&self.deflated),
        }
    }

    fn debt_of<S>(&mut self, row: &mut Connection<S>, slot: u32) -> usize {
        if row.debt == Connection::<S>::CLEAN {
            row.debt = self.debts.len() as u32;
            self.debts.push(Debt::nothing(slot, 0));
        }
        row.debt as usize
    }

    /// What is owed, leaving a debt of nothing behind: the broadcasts so far count as sent.
    fn take_debt<S>(&mut self, row: &Connection<S>, slot: u32) -> Debt {
        let broadcasts = self.broadcasts();
        match self.debts.get_mut(row.debt as usize) {
            Some(debt) => std::mem::replace(debt, Debt::nothing(slot, broadcasts)),
            None => Debt::nothing(slot, 0),
        }
    }

    /// Puts the broadcasts laid out so far before what comes next, so that order is kept.
    fn catch_up<S>(&mut self, row: &Connection<S>, index: usize) {
        let from = self.debts[index].shared_from;
        let to = self.broadcasts();
        if let Some((source, start, len)) = self.broadcasts_from(row.audience, from) {
            self.append(index, source, start, len);
        }
        self.debts[index].shared_from = to;
    }

    fn broadcasts_from(&self, audience: Audience, from: u32) -> Option<(Source, usize, usize)> {
        let layout = self.layout(audience)?;
        let start = layout.start_of(from);
        let source = if audience == Audience::Deflated { Source::Deflated } else { Source::Plain };
        (start < layout.bytes.len()).then(|| (source, start, layout.bytes.len() - start))
    }

    fn append(&mut self, index: usize, source: Source, start: usize, len: usize) {
        let debt = &mut self.debts[index];
        debt.bytes += len;
        if let Some(last) = self.pieces.get_mut(debt.tail as usize)
            && last.source == source
            && last.start + last.len == start
            && !matches!(source, Source::Held(_))
        {
            last.len += len;
            return;
        }
        let place = self.pieces.len() as u32;
        self.pieces.push(Piece { source, start, len, next: NONE });
        match self.pieces.get_mut(debt.tail as usize) {
            Some(last) => last.next = place,
            None => debt.head = place,
        }
        debt.tail = place;
    }

    /// Lists what is owed, in order, into `self.owed`.
    fn list(&mut self, debt: &Debt, audience: Audience) {
        self.owed.clear();
        let mut at = debt.head;
        while let Some(piece) = self.pieces.get(at as usize) {
            self.owed.push(*piece);
            at = piece.next;
        }
        if let Some((source, start, len)) = self.broadcasts_from(audience, debt.shared_from) {
            self.owed.push(Piece { source, start, len, next: NONE });
        }
    }
}

#[cfg(test)]
mod tests;
