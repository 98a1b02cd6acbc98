//! TLS on a connection: where a reactor's bytes are sealed and opened.
//!
//! A connection that speaks TLS has a session beside its row. Everything above
//! sees the plain bytes; what is here is where the two differ.

use std::io;

use mio::net::TcpStream;

use super::Reactor;
use super::connection::{Flag, Phase};
use super::transport::Transport;
use crate::limits::{EVENTS_PER_TURN, TLS_HANDSHAKES_PER_TURN};
use crate::metrics::Counter;
use crate::tls::{Channel, Read, Scratch, Session};
use crate::ws::close::CloseReason;

/// The way of bytes to a socket that speaks TLS.
pub(super) struct Sealed<'s> {
    pub(super) session: &'s mut Session,
    pub(super) scratch: &'s mut Scratch,
}

impl Transport<TcpStream> for Sealed<'_> {
    type Writer<'a>
        = Channel<'a, TcpStream>
    where
        Self: 'a;

    fn to<'a>(&'a mut self, socket: &'a mut TcpStream) -> Channel<'a, TcpStream> {
        Channel { session: self.session, socket, scratch: self.scratch }
    }
}

impl Reactor {
    /// The connection that was just accepted speaks TLS.
    pub(super) fn begin_tls(&mut self, slot: u32) {
        match self.identity.clone().map(Session::server) {
            Some(Ok(session)) => self.sessions.insert(slot, session),
            Some(Err(error)) => {
                log::warn!("a connection cannot speak TLS: {error}");
                self.end(slot, CloseReason::TlsFailed);
            }
            None => self.end(slot, CloseReason::TlsFailed),
        }
    }

    /// Whether the connection speaks TLS and its handshake is not over.
    pub(super) fn is_in_handshake(&mut self, slot: u32) -> bool {
        self.sessions.get(slot).is_some_and(|(session, _)| !session.is_established())
    }

    /// Goes on with a handshake when it is its turn.
    pub(super) fn queue_handshake(&mut self, slot: u32) {
        let Some(row) = self.table.get(slot).filter(|row| !row.is(Flag::ReadAgain)) else { return };
        row.set(Flag::ReadAgain, true);
        self.handshakes.push_back(slot);
    }

    /// Goes on with the handshakes that have waited longest.
    pub(super) fn go_on_with_handshakes(&mut self) {
        let mut left = TLS_HANDSHAKES_PER_TURN;
        while left > 0
            && let Some(slot) = self.handshakes.pop_front()
        {
            left -= usize::from(self.read_leftover(slot));
        }
        if self.handshakes.is_empty() {
            // What a crowd took is given back.
            self.handshakes.shrink_to(EVENTS_PER_TURN);
        }
    }

    /// Reads from a connection that speaks TLS: plain bytes, as from any other.
    pub(super) fn read_sealed(&mut self, slot: u32, plain: &mut [u8]) -> io::Result<Read> {
        let gone = io::ErrorKind::WouldBlock;
        let row = self.table.get(slot).ok_or(gone)?;
        let (session, scratch) = self.sessions.get(slot).ok_or(gone)?;
        let (was_established, before) = (session.is_established(), session.unsent_bytes());
        let mut channel = Channel { session, socket: &mut row.stream, scratch };
        let read = channel.read(plain);
        // What follows at the end of the turn takes this with it.
        let waits = matches!(&read, Ok(read) if read.count > 0);
        let sent = if waits { Ok(true) } else { channel.send_unsent() };
        let (is_established, is_resumed) = (channel.session.is_established(), channel.session.is_resumed());
        self.outbound_bytes = self.outbound_bytes - before + channel.session.unsent_bytes();
        if is_established && !was_established {
            self.count(if is_resumed { Counter::TlsResumed } else { Counter::TlsFull }, 1);
        }
        let read = read?;
        if !sent? {
            self.arm_writable(slot);
        }
        Ok(read)
    }

    /// The plain bytes of a turn have been taken in and caused no answer that
    /// would take the protocol's own with it.
    pub(super) fn send_unsent(&mut self, slot: u32) {
        let before = self.sessions.unsent_bytes(slot);
        if before == 0 || self.owed(slot) > before {
            return;
        }
        let Some(row) = self.table.get(slot) else { return };
        let Some((session, scratch)) = self.sessions.get(slot) else { return };
        let sent = Channel { session, socket: &mut row.stream, scratch }.send_unsent();
        self.outbound_bytes = self.outbound_bytes - before + self.sessions.unsent_bytes(slot);
        match sent {
            Ok(true) => {}
            Ok(false) => self.arm_writable(slot),
            Err(_) => self.end(slot, CloseReason::SocketError),
        }
    }

    /// The peer broke the protocol; it has been told.
    pub(super) fn tls_failed(&mut self, slot: u32, error: &io::Error) {
        log::debug!("{}: TLS: {error}", self.name(slot));
        self.count(Counter::TlsFailed, 1);
        self.end(slot, CloseReason::TlsFailed);
    }

    /// Says that we will send no more, to who speaks TLS; whether that is sent,
    /// or nobody has to be told. If not, an event says when to try again.
    pub(super) fn says_farewell(&mut self, slot: u32) -> bool {
        let Some(row) = self.table.get(slot).filter(|row| row.phase == Phase::Flushing) else { return true };
        let Some((session, scratch)) = self.sessions.get(slot) else { return true };
        let before = session.unsent_bytes();
        let sent = Channel { session, socket: &mut row.stream, scratch }.close();
        self.outbound_bytes = self.outbound_bytes - before + self.sessions.unsent_bytes(slot);
        if let Ok(false) = sent {
            self.arm_writable(slot);
        }
        // A broken socket is noticed by who goes on with it.
        !matches!(sent, Ok(false))
    }

    /// Best effort, for who is left although nothing is wrong: without it the
    /// end of TLS looks like an attack (RFC 8446, section 6.1). Not to who is
    /// owed something that will not come.
    pub(super) fn says_last_word(&mut self, slot: u32) {
        if self.owed(slot) > 0 {
            return;
        }
        let Some(row) = self.table.get(slot) else { return };
        let Some((session, scratch)) = self.sessions.get(slot) else { return };
        // Whatever comes of it, the connection ends now.
        let _ = Channel { session, socket: &mut row.stream, scratch }.close();
        self.outbound_bytes += self.sessions.unsent_bytes(slot);
    }
}
