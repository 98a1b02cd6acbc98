//! From a client's first byte to a pair that pumps: the request is read, a
//! backend picked, connected to and asked. One that fails is replaced by
//! another before the client notices.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::Interest;
use mio::net::TcpStream;

use super::Reactor;
use super::pair::{Client, End, KnownBy, Opening, Side, Stage, Step};
use super::pump::{Gulp, gulp};
use super::timers::Millis;
use crate::balancer::config::ProxyProtocol;
use crate::balancer::director::Observed;
use crate::balancer::ended::Ended;
use crate::balancer::head::{self, Answer, Asked, Parsed, Request, Via};
use crate::balancer::metrics::Counter;
use crate::balancer::pick::{Key, Picked};
use crate::balancer::proxy_protocol;
use crate::balancer::roster::Backend;
use crate::http::Response;
use crate::reactor::door::is_exhausted;

/// Interim answers (1xx) to one request that are passed on.
const INTERIM_ANSWERS_MAX: u8 = 16;

/// Why a backend was not reached or did not serve.
enum Failure<'a> {
    /// No connection came about.
    Connect(&'a str),
    /// It did not answer the request as it should.
    Handshake(&'a str),
    /// It answered that it takes nobody at present, which is no fault.
    Unwilling,
    /// Nothing was tried: the balancer lacks a descriptor, a port or memory.
    Ours,
}

impl Reactor {
    /// The client has sent something, or ended its direction.
    pub(super) fn read_request(&mut self, slot: u32) {
        while let Some(pair) = self.table.get(slot) {
            let is_reading = matches!(pair.step(), Some(Step::Proxy | Step::Head));
            if !is_reading || !pair.client_end.readable {
                return;
            }
            match gulp(pair, Side::Client, &mut self.buffer) {
                Gulp::Bytes(count) => {
                    if let Some(opening) = pair.opening() {
                        opening.request.extend_from_slice(&self.buffer[..count]);
                    }
                    self.take_request(slot);
                }
                Gulp::End => return self.end(slot, Ended::ClientLeft),
                Gulp::Nothing => return,
                Gulp::Broken(_) => return self.end(slot, Ended::ClientBroke),
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
        let via = Via { peer: peer.ip(), trusted: &config.trusted_proxies, tls: false };
        match head::read_request(&bytes, &via) {
            Ok(Parsed::Partial) => self.put_back(slot, bytes),
            Ok(Parsed::Complete(request)) => {
                let body = &bytes[request.head_len..];
                let is_whole = body.len() >= request.head.content_length;
                if !self.is_own(&request) {
                    self.pass_on(slot, &request, &bytes, &via);
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
                true
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
            proxy_protocol::write_v2(&mut opening.forward, peer, destination);
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
        pair.info = Some(client(request, SocketAddr::new(request.address, port)));
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

    /// Picks a backend for an opening pair and begins to connect.
    pub(super) fn pick(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        let address = pair.info.as_ref().map_or(self.shared.address.ip(), |info| info.address.ip());
        let Stage::Opening(opening) = &mut pair.stage else { return };
        let key = Key { address, user: opening.user.as_deref() };
        match self.picker.pick(&self.directory, &key, &opening.tried) {
            Picked::Backend(index) => {
                let backend = self.directory.backends[index].clone();
                if backend.try_take() { self.connect(slot, backend) } else { self.enqueue(slot) }
            }
            Picked::Full => self.enqueue(slot),
            Picked::Nobody => self.give_up(slot),
        }
    }

    /// No backend could be had.
    fn give_up(&mut self, slot: u32) {
        self.count(Counter::RefusedNoBackend, 1);
        let refusal = Response::error(503, "no backend is available").with("Retry-After", "1");
        self.answer(slot, &refusal, false);
    }

    /// All backends are full: the pair waits for a place, if the queue has one.
    fn enqueue(&mut self, slot: u32) {
        let now = self.now;
        let max = self.config.queue_connections;
        let Some(pair) = self.table.get(slot) else { return };
        let generation = pair.generation;
        let Some(opening) = pair.opening() else { return };
        let (is_queued, until) = (opening.step == Step::Queued, opening.queued_until);
        if !is_queued {
            if until <= now || self.shared.queued.fetch_add(1, Ordering::AcqRel) >= max {
                if until > now {
                    self.shared.queued.fetch_sub(1, Ordering::AcqRel);
                }
                return self.refuse_queued(slot);
            }
            opening.step = Step::Queued;
            self.set_due(slot, until);
        }
        self.queue.push_back((slot, generation));
    }

    fn refuse_queued(&mut self, slot: u32) {
        self.count(Counter::RefusedQueueFull, 1);
        let refusal = Response::error(503, "all backends are full").with("Retry-After", "2");
        self.answer(slot, &refusal, false);
    }

    /// The pair waits no more, if it did.
    pub(super) fn leave_queue(&mut self, slot: u32) {
        if let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening())
            && opening.step == Step::Queued
        {
            opening.step = Step::Head;
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Tries those who wait again, in their order, until one does not get a place.
    pub(super) fn serve_queue(&mut self) {
        for _ in 0..self.queue.len() {
            let Some((slot, generation)) = self.queue.pop_front() else { return };
            let is_waiting = self
                .table
                .get(slot)
                .is_some_and(|pair| pair.generation == generation && pair.step() == Some(Step::Queued));
            if !is_waiting {
                continue;
            }
            let before = self.queue.len();
            self.pick(slot);
            if self.queue.len() > before {
                // It went to the back; it was the first and is to stay so.
                self.queue.rotate_right(1);
                return;
            }
        }
    }

    /// Begins a connection to a backend, where a place was taken.
    fn connect(&mut self, slot: u32, backend: Arc<Backend>) {
        self.leave_queue(slot);
        backend.total.fetch_add(1, Ordering::Relaxed);
        let connecting = TcpStream::connect(backend.address);
        let Some(pair) = self.table.get(slot) else { return backend.release() };
        pair.at = Some(backend);
        let mut stream = match connecting {
            Ok(stream) => stream,
            Err(error) => return self.connect_failed(slot, &error),
        };
        // A socket that refuses the option works without it.
        let _ = stream.set_nodelay(true);
        let token = super::token(slot, Side::Backend);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
            return self.connect_failed(slot, &error);
        }
        pair.backend = Some(stream);
        pair.backend_end = End::default();
        if let Some(opening) = pair.opening() {
            opening.step = Step::Connecting;
            opening.forwarded = 0;
            opening.answer.clear();
        }
        self.set_due_in(slot, self.config.connect_timeout);
    }

    fn connect_failed(&mut self, slot: u32, error: &std::io::Error) {
        match is_ours(error) {
            true => {
                log::warn!("no connection to a backend can be made: {error}");
                self.backend_failed(slot, &Failure::Ours);
            }
            false => self.backend_failed(slot, &Failure::Connect(&error.to_string())),
        }
    }

    /// The backend's socket is ready in some way.
    pub(super) fn backend_ready(&mut self, slot: u32) {
        match self.table.get(slot).and_then(|pair| pair.step()) {
            Some(Step::Connecting) => self.check_connection(slot),
            Some(Step::Answering) => self.forward(slot),
            _ => return,
        }
        self.read_answer(slot);
    }

    /// Finds out whether a connection came about (connect(2), EINPROGRESS).
    fn check_connection(&mut self, slot: u32) {
        let Some(stream) = self.table.get(slot).and_then(|pair| pair.backend.as_mut()) else { return };
        let connected = match stream.take_error() {
            Ok(None) => stream.peer_addr().map(|_| ()),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match connected {
            Ok(()) => {}
            // An event too early: there will be another.
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => return,
            Err(error) => return self.backend_failed(slot, &Failure::Connect(&error.to_string())),
        }
        if let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) {
            opening.step = Step::Answering;
        }
        self.wait_for_backend(slot);
        self.forward(slot);
    }

    /// From now on the backend is expected to answer; but first the client to
    /// send the rest of its request's body.
    pub(super) fn wait_for_backend(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        let span = match pair.body_left {
            0 => self.config.answer_timeout,
            _ => self.config.answer_timeout.max(self.config.handshake_timeout),
        };
        self.set_due_in(slot, span);
    }

    /// Sends the backend what it has not taken of the request.
    fn forward(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        let (Stage::Opening(opening), Some(stream)) = (&mut pair.stage, pair.backend.as_mut()) else {
            return;
        };
        while opening.forwarded < opening.forward.len() {
            match stream.write(&opening.forward[opening.forwarded..]) {
                Ok(count) => opening.forwarded += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // Perhaps it has said why before it closed: that is read next.
                Err(_) => return,
            }
        }
        // Now the rest of the body, as it comes.
        self.write_held(slot, Side::Backend);
    }

    /// Reads what the backend answers to the request.
    fn read_answer(&mut self, slot: u32) {
        while let Some(pair) = self.table.get(slot) {
            if pair.step() != Some(Step::Answering) || !pair.backend_end.readable {
                return;
            }
            match gulp(pair, Side::Backend, &mut self.buffer) {
                Gulp::Bytes(count) => {
                    if let Some(opening) = pair.opening() {
                        opening.answer.extend_from_slice(&self.buffer[..count]);
                    }
                    self.take_answer(slot);
                }
                Gulp::End => self.handshake_failed(slot, "it closed the connection without an answer"),
                Gulp::Nothing => return,
                Gulp::Broken(error) => self.handshake_failed(slot, &error.to_string()),
            }
        }
    }

    fn take_answer(&mut self, slot: u32) {
        let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) else { return };
        let is_upgrade = opening.asked == Asked::Upgrade;
        match head::read_answer(&opening.answer, opening.asked) {
            Answer::Partial => {}
            Answer::Interim { .. } if opening.interim_answers >= INTERIM_ANSWERS_MAX => {
                self.handshake_failed(slot, "it has too much to say before its answer");
            }
            Answer::Interim { head_len } => {
                opening.interim_answers += 1;
                let interim: Vec<u8> = opening.answer.drain(..head_len).collect();
                self.send(slot, Side::Client, &interim);
                self.take_answer(slot);
            }
            Answer::Switching { head_len } => self.open(slot, head_len),
            Answer::Other { status: 503, .. } if is_upgrade => {
                self.backend_failed(slot, &Failure::Unwilling);
            }
            Answer::Other { status, .. } if is_upgrade && status >= 500 => {
                self.handshake_failed(slot, &format!("it answered {status}"));
            }
            Answer::Other { head_len, .. } => self.relay(slot, head_len),
            Answer::Bad(why) => self.handshake_failed(slot, why),
        }
    }

    /// The backend agreed: from now on bytes are pumped.
    fn open(&mut self, slot: u32, head_len: usize) {
        let Some(answer) = self.start_pumping(slot, head_len) else { return };
        if let Some(backend) = self.table.get(slot).and_then(|pair| pair.at.clone()) {
            self.tell_director(Observed::Connected { backend: backend.id });
        }
        self.watch_idle(slot);
        self.send(slot, Side::Client, &answer);
        self.feed_frames(slot, &answer[head_len..]);
        if self.closing.is_some() {
            self.set_due_in(slot, Duration::ZERO);
        }
        self.pump(slot, Side::Client);
        self.pump(slot, Side::Backend);
    }

    /// Any other answer goes to the client as it is, to its end.
    fn relay(&mut self, slot: u32, head_len: usize) {
        let Some(pair) = self.table.get(slot) else { return };
        if pair.is_websocket {
            // No upgrade, and nothing more may follow on this connection.
            pair.is_websocket = false;
            pair.body_left = 0;
            let shut = pair.backend.as_ref().map(|stream| stream.shutdown(std::net::Shutdown::Write));
            pair.backend_end.shut = shut.is_some();
        }
        let Some(answer) = self.start_pumping(slot, head_len) else { return };
        let mut bytes = Vec::with_capacity(answer.len() + 32);
        head::write_answer(&mut bytes, &answer[..head_len]);
        bytes.extend_from_slice(&answer[head_len..]);
        self.set_due_in(slot, self.config.half_close_timeout);
        self.send(slot, Side::Client, &bytes);
        self.pump(slot, Side::Client);
        self.pump(slot, Side::Backend);
    }

    /// The handshake is over; what the backend has answered, a head of
    /// `head_len` bytes and what follows it, is returned.
    fn start_pumping(&mut self, slot: u32, head_len: usize) -> Option<Vec<u8>> {
        let now = self.now;
        let pair = self.table.get(slot)?;
        let Stage::Opening(opening) = std::mem::replace(&mut pair.stage, Stage::Open) else { return None };
        let Opening { answer, forward, forwarded, follows, early, .. } = *opening;
        pair.active_at = now;
        self.account(slot, Side::Client, follows);
        self.account(slot, Side::Backend, answer.len() - head_len);
        if forwarded < forward.len() {
            // It answered before it had taken the whole request.
            self.send(slot, Side::Backend, &forward[forwarded..]);
        }
        if self.table.get(slot).is_some_and(|pair| pair.is_websocket) && !early.is_empty() {
            self.account(slot, Side::Client, early.len());
            self.send(slot, Side::Backend, &early);
        }
        Some(answer)
    }

    /// A pair that is not open yet took too long.
    pub(super) fn opening_timed_out(&mut self, slot: u32) {
        match self.table.get(slot).and_then(|pair| pair.step()) {
            Some(Step::Proxy) => self.end(slot, Ended::RequestTimeout),
            Some(Step::Head) => self.request_timed_out(slot),
            Some(Step::Queued) => {
                self.leave_queue(slot);
                self.refuse_queued(slot);
            }
            Some(Step::Connecting) => self.backend_failed(slot, &Failure::Connect("no answer in time")),
            Some(Step::Answering) if self.waits_for_body(slot) => {
                self.answer(slot, &Response::error(408, "no whole request in time"), false);
            }
            Some(Step::Answering) => self.handshake_failed(slot, "it did not answer in time"),
            None => {}
        }
    }

    /// Whether it is the client that has not sent all of its request, while the
    /// backend has taken all there is.
    fn waits_for_body(&mut self, slot: u32) -> bool {
        let Some(pair) = self.table.get(slot) else { return false };
        let has_more = pair.body_left > 0 && !pair.client_end.ignored && !pair.holds(Side::Backend);
        pair.opening().is_some_and(|opening| has_more && opening.forwarded == opening.forward.len())
    }

    fn request_timed_out(&mut self, slot: u32) {
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

    /// The backend was reached, but did not serve.
    pub(super) fn handshake_failed(&mut self, slot: u32, why: &str) {
        self.backend_failed(slot, &Failure::Handshake(why));
    }

    /// Another backend is tried, unless there have been enough.
    fn backend_failed(&mut self, slot: u32, failure: &Failure<'_>) {
        let attempts_max = self.config.connect_attempts as usize;
        let Some(pair) = self.table.get(slot) else { return };
        let Some(backend) = pair.at.clone() else { return };
        self.drop_backend(slot);
        self.report_failure(&backend, failure);
        let was_asked = !matches!(failure, Failure::Connect(_) | Failure::Ours);
        let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) else { return };
        opening.tried.push(backend.id);
        let may_repeat = opening.is_repeatable || !was_asked;
        if opening.tried.len() < attempts_max && may_repeat {
            self.count(Counter::Retries, 1);
            self.pick(slot);
        } else if may_repeat {
            self.give_up(slot);
        } else {
            self.answer(slot, &Response::error(502, "the backend did not answer"), false);
        }
    }

    fn report_failure(&mut self, backend: &Backend, failure: &Failure<'_>) {
        let id = backend.id;
        let observed = match failure {
            Failure::Connect(error) => {
                log::debug!("{} cannot be reached: {error}", backend.name);
                Observed::ConnectFailed { backend: id, error: (*error).to_owned() }
            }
            Failure::Handshake(error) => {
                log::debug!("{} failed a handshake: {error}", backend.name);
                Observed::HandshakeFailed { backend: id, error: (*error).to_owned() }
            }
            Failure::Unwilling | Failure::Ours => return,
        };
        backend.failures.fetch_add(1, Ordering::Relaxed);
        self.count(Counter::HandshakesFailed, 1);
        self.tell_director(observed);
    }
}

/// Whether a connect failed for want of something that any other would need
/// too (connect(2), socket(2), epoll_ctl(2)).
fn is_ours(error: &std::io::Error) -> bool {
    is_exhausted(error) || matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENOSPC))
}

/// What is kept of a client.
fn client(request: &Request<'_>, address: SocketAddr) -> Box<Client> {
    let known_by = match &request.client {
        None => KnownBy::Connection,
        id if *id == request.user_id => KnownBy::UserId,
        id if *id == request.name => KnownBy::Name,
        Some(_) => KnownBy::ClientId,
    };
    let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
    Box::new(Client {
        address,
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
