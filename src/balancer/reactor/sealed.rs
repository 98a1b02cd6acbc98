//! TLS on either side of a pair.
//!
//! Owns: [`Tls`], the sessions of a reactor. A side that speaks TLS has a
//! session beside its row; pumping sees plain bytes on both sides, and what is
//! here is where the two differ.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ServerConfig;

use super::Reactor;
use super::pair::{Pair, Side, Step};
use super::pump::Gulp;
use crate::balancer::ended::Ended;
use crate::balancer::metrics::Counter;
use crate::limits::{EVENTS_PER_TURN, TLS_HANDSHAKES_PER_TURN};
use crate::tls::{Channel, Peers, Scratch, Session, Sessions};

/// The sessions of a reactor, and what new ones are made with.
#[derive(Default)]
pub(super) struct Tls {
    clients: Sessions,
    backends: Sessions,
    /// Who we are to clients; `None`: no TLS is spoken with them.
    pub(super) identity: Option<Arc<ServerConfig>>,
    /// Who backends have to be; `None`: no TLS is spoken with them.
    pub(super) peers: Option<Peers>,
}

impl Tls {
    /// The session of a side; `None` when that side speaks no TLS, or not yet.
    pub(super) fn get(&mut self, slot: u32, side: Side) -> Option<(&mut Session, &mut Scratch)> {
        match side {
            Side::Client => self.clients.get(slot),
            Side::Backend => self.backends.get(slot),
        }
    }

    /// A side is over.
    pub(super) fn remove(&mut self, slot: u32, side: Side) {
        match side {
            Side::Client => self.clients.remove(slot),
            Side::Backend => self.backends.remove(slot),
        }
    }

    /// Sealed bytes that a side's socket has not taken.
    pub(super) fn unsent_bytes(&self, slot: u32, side: Side) -> usize {
        match side {
            Side::Client => self.clients.unsent_bytes(slot),
            Side::Backend => self.backends.unsent_bytes(slot),
        }
    }

    /// Gives back what slots from `high_water` on took.
    pub(super) fn shrink(&mut self, high_water: u32) {
        self.clients.shrink(high_water);
        self.backends.shrink(high_water);
    }
}

impl Reactor {
    /// Whether a client at this address may begin a handshake, if TLS is spoken
    /// at all; counted if not.
    pub(super) fn admits_handshake(&self, peer: IpAddr) -> bool {
        let (rate, trusted) = (self.config.connections_per_address, &self.config.trusted_proxies);
        let admitted =
            self.tls.identity.is_none() || self.shared.handshakes.admits(peer, rate, trusted, self.now);
        self.count(Counter::TlsRefusedAddress, u64::from(!admitted));
        admitted
    }

    /// From the client's next byte on TLS is spoken, `received` being what has
    /// come already. False when it ended of that.
    pub(super) fn begin_client_tls(&mut self, slot: u32, mut received: Vec<u8>) -> bool {
        let Some(session) = self.tls.identity.clone().map(Session::server) else { return true };
        let mut plain = vec![0; received.len()];
        let begun = session.and_then(|mut session| {
            let opened = session.open(&mut received, &mut plain);
            self.tls.clients.insert(slot, session);
            opened
        });
        match &begun {
            Ok(opened) => {
                plain.truncate(opened.plain);
                if let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) {
                    opening.request = plain;
                }
            }
            Err(error) => {
                log::debug!("a client broke the protocol of TLS: {error}");
                self.count(Counter::TlsFailed, 1);
            }
        }
        self.send_unsent(slot, Side::Client);
        if begun.is_err() {
            self.end(slot, Ended::TlsFailed);
        }
        begun.is_ok()
    }

    /// Whether the client is to speak TLS and its handshake is not over.
    pub(super) fn is_in_handshake(&mut self, slot: u32) -> bool {
        let is_to_come = self.table.get(slot).and_then(|pair| pair.step()) == Some(Step::Proxy);
        match &self.tls.identity {
            Some(_) if is_to_come => true,
            _ => !self.is_established(slot, Side::Client),
        }
    }

    /// Goes on with a client's handshake when it is its turn.
    pub(super) fn queue_handshake(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot).filter(|pair| !pair.is_waiting) else { return };
        pair.is_waiting = true;
        self.handshakes.push_back((slot, pair.generation));
    }

    /// Goes on with the handshakes that have waited longest.
    pub(super) fn go_on_with_handshakes(&mut self) {
        let mut left = TLS_HANDSHAKES_PER_TURN;
        while left > 0
            && let Some((slot, generation)) = self.handshakes.pop_front()
        {
            let Some(pair) = self.table.get(slot).filter(|pair| pair.generation == generation) else {
                continue;
            };
            pair.is_waiting = false;
            left -= 1;
            self.read_request(slot);
        }
        if self.handshakes.is_empty() {
            // What a crowd took is given back.
            self.handshakes.shrink_to(EVENTS_PER_TURN);
        }
    }

    /// From the first byte on TLS is spoken with the backend, if it is to be,
    /// and before that what is not sealed is sent.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn begin_backend_tls(&mut self, slot: u32) -> Result<(), String> {
        let Some(peers) = self.tls.peers.clone() else { return Ok(()) };
        let Some(pair) = self.table.get(slot) else { return Ok(()) };
        let Some(name) = pair.at.as_ref().map(|at| &at.name) else { return Ok(()) };
        let (config, server) =
            peers.of(name).ok_or_else(|| format!("{name:?} is no name for a certificate"))?;
        let session = Session::client(config, server).map_err(|error| error.to_string())?;
        let preface = pair.opening().map(|opening| opening.preface.clone()).unwrap_or_default();
        if let Some(stream) = pair.backend.as_mut().filter(|_| !preface.is_empty()) {
            // The empty buffer of a socket that was just connected takes these few bytes.
            let sent = stream.write(&preface).map_err(|error| error.to_string())?;
            if sent < preface.len() {
                return Err("its socket took no PROXY header".to_owned());
            }
        }
        self.tls.backends.insert(slot, session);
        self.send_unsent(slot, Side::Backend);
        Ok(())
    }

    /// Whether a side that speaks TLS can be sent something.
    pub(super) fn is_established(&mut self, slot: u32, side: Side) -> bool {
        self.tls.get(slot, side).is_none_or(|(session, _)| session.is_established())
    }

    /// A side's socket takes bytes again.
    pub(super) fn has_room(&mut self, slot: u32, side: Side) {
        if let Some((session, _)) = self.tls.get(slot, side) {
            session.has_room();
            self.send_unsent(slot, side);
        }
    }

    /// Sends the protocol's own bytes; what is not taken now is when an event says so.
    fn send_unsent(&mut self, slot: u32, side: Side) {
        let Some(socket) = self.table.get(slot).and_then(|pair| pair.stream(side)) else { return };
        let Some((session, scratch)) = self.tls.get(slot, side) else { return };
        // A socket that is broken is found out by the next read.
        let _ = Channel { session, socket, scratch }.send_unsent();
    }

    /// Reads from a side that speaks TLS: plain bytes, as from any other.
    pub(super) fn gulp_sealed(&mut self, slot: u32, from: Side) -> Gulp {
        let Some(pair) = self.table.get(slot) else { return Gulp::Nothing };
        let Some((session, scratch)) = self.tls.get(slot, from) else { return Gulp::Nothing };
        let was_established = session.is_established();
        let gulp = read(pair, from, session, scratch, &mut self.buffer);
        let (is_established, is_resumed) = (session.is_established(), session.is_resumed());
        if from == Side::Client {
            if is_established && !was_established {
                self.count(if is_resumed { Counter::TlsResumed } else { Counter::TlsFull }, 1);
            }
            if matches!(&gulp, Gulp::Broken(error) if error.kind() == io::ErrorKind::InvalidData) {
                self.count(Counter::TlsFailed, 1);
            }
        }
        gulp
    }

    /// Says that a side will be sent no more; false while its socket does not take that.
    pub(super) fn says_farewell(&mut self, slot: u32, to: Side) -> bool {
        let Some(socket) = self.table.get(slot).and_then(|pair| pair.stream(to)) else { return true };
        let Some((session, scratch)) = self.tls.get(slot, to) else { return true };
        !matches!(Channel { session, socket, scratch }.close(), Ok(false))
    }
}

/// Reads until there are plain bytes, or nothing is there.
fn read(
    pair: &mut Pair,
    from: Side,
    session: &mut Session,
    scratch: &mut Scratch,
    buffer: &mut [u8],
) -> Gulp {
    let is_closing = pair.end(from).closing;
    if session.peer_has_closed() {
        pair.end(from).readable = false;
        return Gulp::End;
    }
    let (gulp, readable) = loop {
        let Some(socket) = pair.stream(from) else { break (Gulp::Nothing, false) };
        let mut channel = Channel { session, socket, scratch };
        let read = channel.read(buffer);
        // What answers the peer's own part of the protocol does not wait for anything.
        let _ = channel.send_unsent();
        match read {
            Ok(read) if read.count > 0 => {
                break (Gulp::Bytes(read.count), read.more || read.closed || is_closing);
            }
            Ok(read) if read.closed => break (Gulp::End, false),
            Ok(read) if read.more || is_closing => {}
            Ok(_) => break (Gulp::Nothing, false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break (Gulp::Nothing, false),
            Err(error) => break (Gulp::Broken(error), false),
        }
    };
    pair.end(from).readable = readable;
    gulp
}
