//! The end of a turn: what was laid out is written, one system call per
//! connection that can take it.

use std::io;

use super::Reactor;
use super::connection::{Audience, Connection, Flag, Phase};
use super::outgoing::Settled;
use super::tls::Sealed;
use super::transport::{Direct, Transport};
use crate::config::SlowConsumer;
use crate::limits::READ_PAUSE_BYTES;
use crate::metrics::Counter;
use crate::ws::close::CloseReason;
use mio::net::TcpStream;
use mio::{Interest, Token};

impl Reactor {
    /// Writes out everything laid out so far and starts a new layout.
    pub(super) fn flush(&mut self) {
        if self.outgoing.has_broadcasts() {
            self.flush_audience();
        }
        let mut index = 0;
        // Settling may close a connection, which adds a debtor.
        while index < self.outgoing.debtors() {
            self.flush_one(self.outgoing.debtor(index));
            index += 1;
        }
        for index in 0..self.outgoing.debtors() {
            if let Some(row) = self.table.any(self.outgoing.debtor(index)) {
                row.debt = Connection::<mio::net::TcpStream>::CLEAN;
            }
        }
        self.outgoing.clear();
    }

    pub(super) fn flush_when_full(&mut self) {
        if self.outgoing.is_full(self.config.outbound_bytes_max) {
            self.flush();
        }
    }

    /// Broadcasts for those that are owed nothing else.
    fn flush_audience(&mut self) {
        for slot in 0..self.table.high_water() {
            let concerned = self.table.get(slot).is_some_and(|row| {
                row.audience != Audience::None && row.debt == Connection::<mio::net::TcpStream>::CLEAN
            });
            if concerned {
                self.settle(slot);
            }
        }
    }

    /// Writes what one connection is owed by now, without waiting for the end of the turn.
    pub(super) fn flush_one(&mut self, slot: u32) {
        if let Some(row) = self.table.get(slot) {
            self.outgoing.note(row, slot);
        }
        self.settle(slot);
        // Settling a slow consumer may have queued its close frame.
        if self.table.get(slot).is_some_and(|row| self.outgoing.owed(row) > 0) {
            self.settle(slot);
        }
    }

    fn settle(&mut self, slot: u32) {
        let bytes_max = self.config.outbound_bytes_max;
        let Some(row) = self.table.get(slot) else { return };
        let before = row.outbound_bytes();
        let settled = match self.sessions.get(slot) {
            None => self.outgoing.settle(row, slot, bytes_max),
            Some((session, scratch)) => {
                let unsent = session.unsent_bytes();
                let mut sealed = Sealed { session, scratch };
                let settled = self.outgoing.settle_through(row, slot, bytes_max, &mut sealed);
                self.outbound_bytes = self.outbound_bytes - unsent + sealed.session.unsent_bytes();
                Settled { owing: settled.owing || sealed.session.unsent_bytes() > 0, ..settled }
            }
        };
        let phase = row.phase;
        self.outbound_bytes = self.outbound_bytes - before + row.outbound_bytes();
        self.count(Counter::BytesSent, settled.written as u64);
        self.records.sent(slot, settled.written);
        if settled.error.is_some() {
            return self.end(slot, CloseReason::SocketError);
        }
        if settled.owing {
            self.arm_writable(slot);
        } else if phase == Phase::Flushing {
            self.flushed(slot);
        }
        if settled.dropped > 0 {
            self.count(Counter::DroppedSlowConsumer, u64::from(settled.dropped));
            if self.config.slow_consumer == SlowConsumer::Disconnect {
                self.close(slot, CloseReason::SlowConsumer, "");
            }
        }
    }

    /// Asks for an event when the socket takes bytes again. It stays armed:
    /// edge-triggered, it is silent until the socket was full and is not, and
    /// disarming would be one more system call.
    pub(super) fn arm_writable(&mut self, slot: u32) {
        let Some(row) = self.table.get(slot) else { return };
        if row.is(Flag::WritableArmed) {
            return;
        }
        row.set(Flag::WritableArmed, true);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let armed = self.poll.registry().reregister(&mut row.stream, Token(slot as usize), interest);
        if let Err(error) = armed {
            log::warn!("a connection could not be watched: {error}");
            self.end(slot, CloseReason::SocketError);
        }
    }

    /// The socket may take bytes again.
    pub(super) fn writable(&mut self, slot: u32) {
        let now = self.now;
        if let Some((session, _)) = self.sessions.get(slot) {
            session.has_room();
        }
        let before = self.held(slot);
        if before == 0 {
            return;
        }
        let written = self.write_held(slot);
        let held = self.held(slot);
        self.outbound_bytes = self.outbound_bytes - before + held;
        let Ok(written) = written else { return self.end(slot, CloseReason::SocketError) };
        let Some(row) = self.table.get(slot) else { return };
        if held < before {
            // A peer that reads what it is owed is alive: a ping stands behind all that,
            // so its answer may be long in coming. One that closes makes progress.
            row.seen(now);
        }
        let (phase, paused) = (row.phase, row.is(Flag::ReadPaused));
        self.count(Counter::BytesSent, written as u64);
        self.records.sent(slot, written);
        if held > 0 {
            return;
        }
        if phase == Phase::Flushing && self.owed(slot) == 0 {
            self.flushed(slot);
        } else if paused {
            self.resume(slot);
        }
    }

    /// Writes what is held for a connection, as far as its socket takes it; the
    /// bytes of its own queue among them.
    fn write_held(&mut self, slot: u32) -> io::Result<usize> {
        let Some(row) = self.table.get(slot) else { return Ok(0) };
        let Some((session, scratch)) = self.sessions.get(slot) else {
            return write_outbound(row, &mut Direct);
        };
        let mut sealed = Sealed { session, scratch };
        sealed.to(&mut row.stream).send_unsent()?;
        write_outbound(row, &mut sealed)
    }

    /// Bytes held for a connection beyond what its socket took.
    pub(super) fn held(&mut self, slot: u32) -> usize {
        self.table.get(slot).map_or(0, |row| row.outbound_bytes()) + self.sessions.unsent_bytes(slot)
    }

    /// Whether a connection's own input has to wait, because it does not read
    /// the answers to it (or has ended).
    pub(super) fn pauses_reading(&mut self, slot: u32) -> bool {
        if self.owed(slot) <= READ_PAUSE_BYTES {
            return false;
        }
        self.flush_one(slot);
        let Some(row) = self.table.get(slot) else { return true };
        if row.outbound.is_none() && self.sessions.unsent_bytes(slot) == 0 {
            return false;
        }
        row.set(Flag::ReadPaused, true);
        self.count(Counter::ReadsPaused, 1);
        true
    }
}

/// Writes what is in a connection's queue, as far as its socket takes it; the bytes written.
fn write_outbound<T: Transport<TcpStream>>(row: &mut Connection, transport: &mut T) -> io::Result<usize> {
    let Some(outbound) = &mut row.outbound else { return Ok(0) };
    let written = outbound.write_to(&mut transport.to(&mut row.stream))?;
    if outbound.is_empty() {
        row.outbound = None;
    }
    Ok(written)
}
