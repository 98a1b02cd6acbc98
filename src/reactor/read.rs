//! From readiness to bytes.

use std::io::{self, Read as _};

use mio::event::Event;
use mio::net::TcpStream;

use super::connection::{Connection, Flag, Phase};
use super::{Reactor, Reader};
use crate::limits::{READ_BUDGET_BYTES, READ_BUFFER_BYTES};
use crate::metrics::Counter;
use crate::tls::Read;
use crate::ws::close::CloseReason;

/// Which end of a connection's input is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// A short read means there is no more: the next byte raises a new event
    /// (epoll(7), on edge-triggered stream sockets).
    Short,
    /// Read until the socket says so: the end of file may be there already,
    /// or an event was left unanswered.
    WouldBlock,
}

impl Reactor {
    pub(super) fn ready(&mut self, event: &Event) {
        let slot = event.token().0 as u32;
        let closed = event.is_read_closed() || event.is_error();
        if event.is_writable() || event.is_write_closed() {
            self.writable(slot);
        }
        if event.is_readable() || closed {
            self.readable(slot, if closed { Until::WouldBlock } else { Until::Short });
        }
    }

    pub(super) fn readable(&mut self, slot: u32, until: Until) {
        if self.is_in_handshake(slot) {
            return self.queue_handshake(slot);
        }
        if let Some(mut reader) = self.reader.take() {
            self.read(slot, &mut reader, until);
            self.reader = Some(reader);
        }
    }

    /// Goes on with a connection in the next turn, or later in this one.
    pub(super) fn resume(&mut self, slot: u32) {
        let Some(row) = self.table.get(slot) else { return };
        row.set(Flag::ReadPaused, false);
        if !row.is(Flag::ReadAgain) {
            row.set(Flag::ReadAgain, true);
            self.read_again.push(slot);
        }
    }

    /// Reads those that used up their budget or had been paused: first what
    /// was kept back, then the socket.
    pub(super) fn read_leftovers(&mut self) {
        let mut slots = std::mem::take(&mut self.read_again);
        for slot in slots.drain(..) {
            self.read_leftover(slot);
        }
        // Those that asked for yet another turn were pushed meanwhile.
        slots.append(&mut self.read_again);
        self.read_again = slots;
    }

    /// Reads one of them; false if it has ended, or was read since.
    pub(super) fn read_leftover(&mut self, slot: u32) -> bool {
        let Some(row) = self.table.get(slot).filter(|row| row.is(Flag::ReadAgain)) else { return false };
        row.set(Flag::ReadAgain, false);
        let phase = row.phase;
        if let Some(mut reader) = self.reader.take() {
            match phase {
                Phase::Http => self.resume_requests(slot, &mut reader),
                Phase::Open | Phase::CloseSent => self.resume_frames(slot, &mut reader),
                Phase::Flushing | Phase::Lingering | Phase::Dead => {}
            }
            self.read(slot, &mut reader, Until::WouldBlock);
            self.reader = Some(reader);
        }
        true
    }

    fn read(&mut self, slot: u32, reader: &mut Reader, until: Until) {
        for _ in 0..READ_BUDGET_BYTES / READ_BUFFER_BYTES {
            let Some(row) = self.table.get(slot).filter(|row| may_read(row)) else { return };
            let received = match self.sessions.get(slot) {
                None => read_plain(&mut row.stream, &mut reader.buffer),
                Some(_) => self.read_sealed(slot, &mut reader.buffer),
            };
            match received {
                Ok(Read { count, more, closed }) => {
                    if count > 0 {
                        self.count(Counter::BytesReceived, count as u64);
                        self.records.received(slot, count);
                        self.take_in(slot, reader, count);
                        self.flush_when_full();
                        self.send_unsent(slot);
                    }
                    if closed && count == 0 {
                        return self.peer_done(slot);
                    }
                    // The end that came with the last bytes is read again, when those have been taken in: an
                    // answer may have to wait.
                    if closed {
                        continue;
                    }
                    if !more && until == Until::Short {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return self.tls_failed(slot, &error);
                }
                Err(_) => return self.end(slot, CloseReason::SocketError),
            }
        }
        // The last bytes may have made it wait: then it is resumed by what it waits for.
        if self.table.get(slot).is_some_and(|row| may_read(row)) {
            self.resume(slot);
        }
    }

    fn take_in(&mut self, slot: u32, reader: &mut Reader, count: usize) {
        let now = self.now;
        let Some(row) = self.table.get(slot) else { return };
        match row.phase {
            Phase::Http => self.take_request(slot, reader, count),
            Phase::Open => {
                row.seen(now);
                self.take_frames(slot, &mut reader.buffer[..count], &mut reader.inflater);
            }
            Phase::CloseSent => self.take_frames(slot, &mut reader.buffer[..count], &mut reader.inflater),
            Phase::Flushing | Phase::Lingering | Phase::Dead => {}
        }
    }

    /// The peer will send no more.
    fn peer_done(&mut self, slot: u32) {
        let Some(row) = self.table.get(slot) else { return };
        row.set(Flag::PeerDone, true);
        match row.phase {
            Phase::Http => self.finish(slot, CloseReason::HttpDone),
            Phase::Open => self.finish(slot, CloseReason::PeerVanished),
            Phase::CloseSent | Phase::Lingering => self.end(slot, CloseReason::PeerVanished),
            // What is owed is still sent: the peer may have shut one direction only.
            Phase::Flushing | Phase::Dead => {}
        }
    }
}

/// Whether what a connection sends may be looked at now: it waits for nothing,
/// and is not to be read later anyway.
fn may_read(row: &Connection) -> bool {
    !row.is(Flag::ReadPaused) && !row.is(Flag::Awaiting) && !row.is(Flag::ReadAgain)
}

fn read_plain(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Read> {
    let count = socket.read(buffer)?;
    Ok(Read { count, more: count == buffer.len(), closed: count == 0 })
}
