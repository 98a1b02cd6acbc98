//! From a request to a backend that has it: one is picked, connected to and
//! asked, and replaced by another if it fails, before the client notices.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::Interest;
use mio::net::TcpStream;

use super::pair::{End, Side, Stage, Step};
use super::{Reactor, pump};
use crate::balancer::director::Observed;
use crate::balancer::ended::Ended;
use crate::balancer::metrics::Counter;
use crate::balancer::pick::{Key, Picked};
use crate::balancer::roster::Backend;
use crate::http::Response;
use crate::reactor::door::is_exhausted;

/// Why a backend was not reached or did not serve.
pub(super) enum Failure<'a> {
    /// No connection came about.
    Connect(&'a str),
    /// It did not answer the request as it should.
    Handshake(&'a str),
    /// It does not serve this request, which is no fault: it takes nobody at
    /// present, or has waited long enough for the rest.
    Unwilling,
    /// Nothing was tried: the balancer lacks a descriptor, a port or memory.
    Ours,
}

impl Reactor {
    /// Picks a backend for an opening pair and begins to connect.
    pub(super) fn pick(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        let address = pair.info.as_ref().map_or(self.shared.address.ip(), |info| info.ip);
        let Stage::Opening(opening) = &mut pair.stage else { return };
        let key = Key { address, user: opening.user.as_deref() };
        let is_retry = !opening.tried.is_empty();
        match self.picker.pick(&self.directory, &key, &opening.tried) {
            Picked::Backend(index) => {
                let backend = self.directory.backends[index].clone();
                if !backend.try_take() {
                    return self.enqueue(slot);
                }
                self.count(Counter::Retries, u64::from(is_retry));
                self.connect(slot, backend);
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
        let was_established = self.is_established(slot, Side::Backend);
        self.read_answer(slot);
        if !was_established && self.is_established(slot, Side::Backend) {
            self.forward(slot);
        }
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
        if let Err(why) = self.begin_backend_tls(slot) {
            return self.backend_failed(slot, &Failure::Connect(&why));
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
        if !self.is_established(slot, Side::Backend) {
            return;
        }
        let Some(pair) = self.table.get(slot) else { return };
        let Stage::Opening(opening) = &mut pair.stage else { return };
        let (forward, begun) = (std::mem::take(&mut opening.forward), opening.forwarded);
        let written = pump::write(pair, Side::Backend, &forward[begun..], self.tls.get(slot, Side::Backend));
        let Some(opening) = pair.opening() else { return };
        opening.forward = forward;
        // Perhaps it has said why before it closed: that is read next.
        opening.forwarded += written.unwrap_or(0);
        if opening.forwarded < opening.forward.len() {
            return;
        }
        // Now the rest of the body, as it comes.
        self.write_held(slot, Side::Backend);
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

    /// The backend was reached, but did not serve. One that has only a part of
    /// the request may give up on it: that is its client's doing.
    pub(super) fn handshake_failed(&mut self, slot: u32, why: &str) {
        let is_whole = self.table.get(slot).is_some_and(|pair| pair.body_left == 0);
        let failure = if is_whole { Failure::Handshake(why) } else { Failure::Unwilling };
        self.backend_failed(slot, &failure);
    }

    /// Another backend is tried, unless there have been enough.
    pub(super) fn backend_failed(&mut self, slot: u32, failure: &Failure<'_>) {
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
