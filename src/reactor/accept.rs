//! Taking connections in.

use std::io::Write;
use std::net::IpAddr;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::connection::Connection;
use super::door::{Accepted, accept, turn_away};
use super::{Door, Reactor, ending};
use crate::http::Response;
use crate::limits::{ACCEPTS_PER_TURN, SPARE_CONNECTIONS};
use crate::metrics::Counter;

impl Reactor {
    pub(super) fn accept_waiting(&mut self) {
        for door in 0..self.doors.len() {
            if self.doors[door].waiting {
                self.accept_from(door);
            }
        }
    }

    /// Accepts until nobody waits or the budget is used up; what is left stays marked as waiting.
    fn accept_from(&mut self, door: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            match accept(&self.doors[door].listener) {
                Accepted::Stream(stream, peer) => self.take(stream, peer.ip(), door),
                Accepted::Failed => self.count(Counter::AcceptErrors, 1),
                Accepted::None => {
                    self.doors[door].waiting = false;
                    return;
                }
                Accepted::NoDescriptors => {
                    self.count(Counter::AcceptErrors, 1);
                    let Door { listener, tls, .. } = &self.doors[door];
                    if !self.spare.lend(listener, |stream| refuse(stream, *tls)) {
                        // Nothing can be done until a descriptor is freed; the
                        // sweep looks again, so that this does not spin.
                        self.doors[door].waiting = false;
                        return;
                    }
                    self.count(Counter::CapacityRefused, 1);
                }
            }
        }
    }

    /// Stops accepting, for good: who waits, and who comes yet, is left to the
    /// next process that has these listeners.
    pub(super) fn shut_doors(&mut self) {
        for mut door in self.doors.drain(..) {
            // Closing our descriptor alone would not end the events: others have the socket open.
            if let Err(error) = self.poll.registry().deregister(&mut door.listener) {
                log::warn!("a listener could not be taken out of the epoll: {error}");
            }
        }
    }

    fn take(&mut self, mut stream: TcpStream, peer: IpAddr, door: usize) {
        let Door { any_path, tls, .. } = self.doors[door];
        self.count(Counter::Accepted, 1);
        if tls && !self.admits_handshake(peer) {
            self.count(Counter::TlsAddressRefused, 1);
            return turn_away(stream);
        }
        let sockets_max = self.config.max_connections.saturating_add(SPARE_CONNECTIONS);
        if self.table.len() >= sockets_max || !self.table.has_room() {
            self.count(Counter::CapacityRefused, 1);
            return refuse(&mut stream, tls);
        }
        let slot = self.table.insert(Connection::accepted(stream, self.now, any_path));
        let Some(row) = self.table.get(slot) else { return };
        self.records.begin(ending::all_are_logged(), slot, row.generation, self.now);
        let registered =
            self.poll.registry().register(&mut row.stream, Token(slot as usize), Interest::READABLE);
        if let Err(error) = registered {
            log::warn!("a connection could not be watched: {error}");
            return self.table.bury(slot);
        }
        if tls {
            self.begin_tls(slot);
        }
    }

    fn admits_handshake(&self, peer: IpAddr) -> bool {
        let (rate, trusted) = (self.config.connections_per_address, &self.config.trusted_proxies);
        self.shared.handshakes.admits(peer, rate, trusted, self.began.as_millis() as u64)
    }
}

/// Best effort: the answer fits a fresh socket's buffer. Who speaks TLS would
/// not understand it before a handshake, which is what there is no room for.
fn refuse(stream: &mut TcpStream, tls: bool) {
    if tls {
        return;
    }
    let mut answer = Vec::new();
    Response::error(503, "the node has as many connections as it can hold")
        .with("Retry-After", "5")
        .write_to(&mut answer, false, false);
    let _ = stream.write(&answer);
}
