//! From a client's first byte to what it asks for: a PROXY header perhaps, the
//! head of a request, and whether there is room for who sent it.

use super::Reactor;
use super::pair::{Client, KnownBy, Side, Stage, Step};
use super::pump::Gulp;
use super::timers::Millis;
use crate::balancer::config::ProxyProtocol;
use crate::balancer::ended::Ended;
use crate::balancer::head::{self, Parsed, Request, Via};
use crate::balancer::metrics::Counter;
use crate::balancer::proxy_protocol;
use crate::http::Response;
use crate::limits::BALANCER_BODY_BYTES;
use crate::trace::{TRACEPARENT, TraceId};

impl Reactor {
    /// The client has sent something, or ended its direction.
    pub(super) fn request_is_ready(&mut self, slot: u32) {
        match self.is_in_handshake(slot) {
            true => self.queue_handshake(slot),
            false => self.read_request(slot),
        }
    }

    /// Reads what the client has sent.
    pub(super) fn read_request(&mut self, slot: u32) {
        while let Some(pair) = self.table.get(slot) {
            let is_reading = matches!(pair.step(), Some(Step::Proxy | Step::Head));
            if !is_reading || !pair.client_end.readable {
                return;
            }
            match self.gulp(slot, Side::Client) {
                Gulp::Bytes(count) => {
                    if let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) {
                        opening.request.extend_from_slice(&self.buffer[..count]);
                    }
                    self.take_request(slot);
                }
                Gulp::End => return self.end(slot, Ended::ClientLeft),
                Gulp::Nothing => return,
                Gulp::Broken(error) => return self.end(slot, Ended::of_client(&error)),
            }
        }
    }

    /// Uses what the client has sent so far.
    fn take_request(&mut self, slot: u32) {
        if !self.take_proxy_header(slot) {
            return;
        }
        let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) else { return };
        let (bytes, peer) = (std::mem::take(&mut opening.request), opening.peer);
        let config = self.config.clone();
        let via = Via { peer: peer.ip(), trusted: &config.trusted_proxies, tls: config.tls_cert.is_some() };
        match head::read_request(&bytes, &via) {
            Ok(Parsed::Partial) => self.put_back(slot, bytes),
            Ok(Parsed::Complete(request)) => {
                let body = &bytes[request.head_len..];
                let is_whole = body.len() >= request.head.content_length;
                if !self.is_own(&request) {
                    self.pass_on(slot, &request, &bytes, &via);
                } else if request.head.content_length > BALANCER_BODY_BYTES {
                    self.count(Counter::RefusedBadRequest, 1);
                    self.answer(slot, &Response::error(413, "request body too large"), false);
                } else if is_whole {
                    self.answer_own(slot, &request, &body[..request.head.content_length], peer);
                } else {
                    let is_waiting = request.head.expects_continue && body.is_empty();
                    self.put_back(slot, bytes);
                    if is_waiting {
                        self.invite_body(slot);
                    }
                }
            }
            Err(error) => {
                self.count(Counter::RefusedBadRequest, 1);
                self.answer(slot, &error.into(), false);
            }
        }
    }

    fn put_back(&mut self, slot: u32, bytes: Vec<u8>) {
        if let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) {
            opening.request = bytes;
        }
    }

    /// Tells a client that waits for it to send the body, once: its first
    /// bytes make the request one that nobody waits for.
    fn invite_body(&mut self, slot: u32) {
        if let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening())
            && !std::mem::replace(&mut opening.is_invited, true)
        {
            self.send(slot, Side::Client, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Reads the PROXY header that is to come first. False while it is not there.
    fn take_proxy_header(&mut self, slot: u32) -> bool {
        let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) else { return false };
        if opening.step != Step::Proxy {
            return true;
        }
        match proxy_protocol::read_v2(&opening.request) {
            Ok(None) => false,
            Ok(Some((header, length))) => {
                opening.request.drain(..length);
                opening.step = Step::Head;
                opening.peer = header.source.unwrap_or(opening.peer);
                if self.tls.identity.is_none() {
                    return true;
                }
                let rest = std::mem::take(&mut opening.request);
                // A connection of the proxy's own stands for nobody.
                if let Some(source) = header.source
                    && !self.admits_handshake(source.ip())
                {
                    self.end(slot, Ended::AddressRate);
                    return false;
                }
                self.begin_client_tls(slot, rest)
            }
            Err(error) => {
                log::debug!("{}: {error}", opening.peer);
                self.end(slot, Ended::BadProxyHeader);
                false
            }
        }
    }

    /// A request for a backend: whether there is room for it, and then to which.
    fn pass_on(&mut self, slot: u32, request: &Request<'_>, bytes: &[u8], via: &Via<'_>) {
        let head_only = request.head.method == "HEAD";
        if let Err(refusal) = self.admit(request) {
            return self.answer(slot, &refusal, head_only);
        }
        let config = self.config.clone();
        let Some(pair) = self.table.get(slot) else { return self.shared.release() };
        let Stage::Opening(opening) = &mut pair.stage else { return self.shared.release() };
        let (peer, port) = (opening.peer, opening.peer.port());
        if config.proxy_protocol_out == ProxyProtocol::V2 {
            let destination = pair.client.local_addr().unwrap_or(self.shared.address);
            // Where TLS is spoken it goes before that.
            let to = if config.backend_tls { &mut opening.preface } else { &mut opening.forward };
            proxy_protocol::write_v2(to, peer, destination);
        }
        head::write_request(&mut opening.forward, request, via);
        let follows = &bytes[request.head_len..];
        pair.is_websocket = request.is_upgrade();
        let body = &follows[..follows.len().min(request.head.content_length)];
        opening.forward.extend_from_slice(body);
        opening.follows = body.len();
        if pair.is_websocket {
            // A backend that does not agree would take it for another request.
            opening.early = follows.into();
        }
        opening.user = request.user_id.clone();
        opening.asked = request.asked;
        let body_left = request.head.content_length - body.len();
        // What comes later of a body is not kept.
        opening.is_repeatable = body_left == 0 && matches!(request.head.method, "GET" | "HEAD" | "OPTIONS");
        opening.queued_until = self.now + config.queue_timeout.as_millis() as Millis;
        pair.body_left = body_left as u32;
        pair.info = Some(client(request, port));
        let counter = if pair.is_websocket { Counter::Upgrades } else { Counter::PlainRequests };
        self.pairs += 1;
        self.count(counter, 1);
        self.pick(slot);
    }

    /// Takes a place for a client.
    ///
    /// # Errors
    /// The refusal to be answered with.
    fn admit(&self, request: &Request<'_>) -> Result<(), Response> {
        let later =
            |text: &str, seconds: u32| Response::error(503, text).with("Retry-After", seconds.to_string());
        if self.refuses_clients() {
            self.count(Counter::RefusedDraining, 1);
            return Err(later("the balancer is draining", 1));
        }
        if let Some(rate) = &self.config.connections_per_address {
            let admitted =
                self.shared.limiter.admit(request.address, rate.connections, rate.window, self.now);
            if let Err(seconds) = admitted {
                self.count(Counter::RefusedAddress, 1);
                return Err(Response::error(429, "too many connections from this address")
                    .with("Retry-After", seconds.to_string()));
            }
        }
        if !self.shared.admit(self.config.max_connections) {
            self.count(Counter::RefusedCapacity, 1);
            return Err(later("the balancer has as many connections as it may hold", 5));
        }
        Ok(())
    }

    /// Whether it is the client that has not sent all of its request, while the
    /// backend has taken all there is.
    pub(super) fn waits_for_body(&mut self, slot: u32) -> bool {
        let Some(pair) = self.table.get(slot) else { return false };
        let has_more = pair.body_left > 0 && !pair.client_end.ignored && !pair.holds(Side::Backend);
        pair.opening().is_some_and(|opening| has_more && opening.forwarded == opening.forward.len())
    }

    pub(super) fn request_timed_out(&mut self, slot: u32) {
        let has_begun = self
            .table
            .get(slot)
            .and_then(|pair| pair.opening())
            .is_some_and(|opening| !opening.request.is_empty());
        self.count(Counter::RefusedBadRequest, u64::from(has_begun));
        if has_begun {
            self.answer(slot, &Response::error(408, "no whole request in time"), false);
        } else {
            self.end(slot, Ended::RequestTimeout);
        }
    }
}

/// What is kept of a client.
fn client(request: &Request<'_>, port: u16) -> Box<Client> {
    let known_by = match &request.client {
        None => KnownBy::Connection,
        id if *id == request.user_id => KnownBy::UserId,
        id if *id == request.name => KnownBy::Name,
        Some(_) => KnownBy::ClientId,
    };
    let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
    Box::new(Client {
        ip: request.address,
        port,
        trace: request.head.header(TRACEPARENT).and_then(TraceId::of),
        since: unix_millis(),
        id: boxed(&request.client),
        user_id: boxed(&request.user_id).filter(|_| known_by != KnownBy::UserId),
        name: boxed(&request.name).filter(|_| known_by != KnownBy::Name),
        known_by,
    })
}

/// Now, in milliseconds since the Unix epoch.
pub(super) fn unix_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}
