//! Taking clients in.

use std::io::Write;
use std::net::SocketAddr;

use mio::Interest;
use mio::net::TcpStream;

use super::pair::{Pair, Side, Step};
use super::{LISTENER, Reactor};
use crate::balancer::config::ProxyProtocol;
use crate::balancer::metrics::Counter;
use crate::http::Response;
use crate::limits::{ACCEPTS_PER_TURN, SPARE_CONNECTIONS};
use crate::reactor::door::{Accepted, accept, turn_away};

impl Reactor {
    /// Accepts until nobody waits or the budget is used up.
    pub(super) fn accept_waiting(&mut self) {
        if self.is_shut {
            self.has_callers = false;
        }
        if !self.has_callers {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            match accept(&self.listener) {
                Accepted::Stream(stream, peer) => self.take(stream, peer),
                Accepted::Failed => self.count(Counter::AcceptErrors, 1),
                Accepted::None => {
                    self.has_callers = false;
                    return;
                }
                Accepted::NoDescriptors => {
                    self.count(Counter::AcceptErrors, 1);
                    let tls = self.tls.identity.is_some();
                    if !self.spare.lend(&self.listener, |stream| refuse(stream, tls)) {
                        // Whoever ends gives a descriptor back; until then this must not spin.
                        self.has_callers = false;
                        self.callers_left = true;
                        return;
                    }
                    self.count(Counter::RefusedCapacity, 1);
                }
            }
        }
    }

    /// Begins to accept; who waits already is an event. False if that cannot be.
    pub(super) fn open_door(&mut self) -> bool {
        let registered = self.poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE);
        if let Err(error) = &registered {
            log::error!("reactor {} cannot watch its listener: {error}", self.me.0);
        }
        registered.is_ok()
    }

    /// Stops accepting, for good: who waits, and who comes yet, is left to the
    /// next process that has this listener.
    pub(super) fn shut_door(&mut self) {
        self.is_shut = true;
        // Closing our descriptor alone would not end the events: others have the socket open.
        if let Err(error) = self.poll.registry().deregister(&mut self.listener) {
            log::warn!("a listener could not be taken out of the epoll: {error}");
        }
    }

    fn take(&mut self, mut stream: TcpStream, peer: SocketAddr) {
        self.count(Counter::Accepted, 1);
        let step = if self.config.proxy_protocol_in == ProxyProtocol::V2 { Step::Proxy } else { Step::Head };
        // Who is behind a header is not known yet.
        if step == Step::Head && !self.admits_handshake(peer.ip()) {
            return turn_away(stream);
        }
        let sockets_max = self.config.max_connections.saturating_add(SPARE_CONNECTIONS);
        if self.table.len() >= sockets_max || !self.table.has_room() {
            self.count(Counter::RefusedCapacity, 1);
            return refuse(&mut stream, self.tls.identity.is_some());
        }
        let slot = self.table.insert(Pair::accepted(stream, step, peer));
        let Some(pair) = self.table.get(slot) else { return };
        // Edge-triggered, so that WRITABLE is silent until the socket was full.
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = super::token(slot, Side::Client);
        if let Err(error) = self.poll.registry().register(&mut pair.client, token, interest) {
            log::warn!("a connection could not be watched: {error}");
            return self.table.bury(slot);
        }
        self.set_due_in(slot, self.config.handshake_timeout);
        if step == Step::Head {
            self.begin_client_tls(slot, Vec::new());
        }
    }
}

/// Best effort: the answer fits a fresh socket's buffer. Who speaks TLS would
/// not understand it before a handshake, which is what there is no room for.
fn refuse(stream: &mut TcpStream, tls: bool) {
    if tls {
        return;
    }
    let mut answer = Vec::new();
    Response::error(503, "the balancer has as many connections as it can hold")
        .with("Retry-After", "5")
        .write_to(&mut answer, false, false);
    let _ = stream.write(&answer);
}
