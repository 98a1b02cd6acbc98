//! What the balancer answers itself: its API, its page, its events.

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
use crossbeam_channel::{Receiver, TryRecvError, bounded};

use super::Reactor;
use super::message::ReactorMessage;
use super::pair::{Side, Stage};
use super::survey::{Survey, Wanted};
use crate::admin::api::Caller;
use crate::balancer::api::{self, Answer, Snapshot};
use crate::balancer::config::ProxyProtocol;
use crate::balancer::director::Observed;
use crate::balancer::ended::Ended;
use crate::balancer::head::Request;
use crate::balancer::metrics::Counter;
use crate::balancer::roster::{AdminCommand, AdminDone, AdminError};
use crate::balancer::view::stream_head;
use crate::drain::Phase;
use crate::forwarded;
use crate::http::Response;
use crate::ids::{ConnId, ReactorId};
use crate::limits::{ANSWER_TIMEOUT, CLOSE_HANDSHAKE};
use crate::page;

/// Bytes a listener to events may be behind; then it is cut off.
const LISTENER_BYTES_MAX: usize = 1024 * 1024;

/// Listeners to events of one reactor.
const LISTENERS_MAX: usize = 256;

/// A request the director has not answered.
pub(super) struct Pending {
    asker: ConnId,
    head_only: bool,
    command: AdminCommand,
    outcome: Receiver<Result<AdminDone, AdminError>>,
}

impl Reactor {
    /// Whether a request is for the balancer itself.
    pub(super) fn is_own(&self, request: &Request<'_>) -> bool {
        !request.is_upgrade() && api::is_own(&request.head)
    }

    /// Answers a request for the balancer itself. `peer` is the other end of the
    /// connection, by its socket or its PROXY header.
    pub(super) fn answer_own(&mut self, slot: u32, request: &Request<'_>, body: &[u8], peer: SocketAddr) {
        self.count(Counter::OwnRequests, 1);
        let head_only = request.head.method == "HEAD";
        let (shared, config) = (self.shared.clone(), self.config.clone());
        // What a PROXY header says is no more than what other headers say: whoever reaches the port may send one.
        let is_proxied = config.proxy_protocol_in == ProxyProtocol::V2;
        let caller = Caller {
            peer: peer.ip().to_canonical(),
            forwarded: is_proxied || forwarded::has_forwarding_header(&request.head),
        };
        let backends = shared.backends();
        let snapshot = Snapshot {
            service_name: &config.service_name,
            version: env!("CARGO_PKG_VERSION"),
            strategy: config.strategy.name(),
            phase: shared.phase().name(),
            ready: shared.phase() == Phase::Serving && shared.directory().available() > 0,
            at: SystemTime::now(),
            connections: shared.connections(),
            queued: shared.queued(),
            backends: &backends,
            metrics: &shared.metrics,
            admin_token: config.admin_token.as_ref().map(|token| token.expose()),
        };
        match api::answer(&request.head, body, &caller, &snapshot) {
            Answer::Now(response) => self.answer(slot, &response, head_only),
            Answer::Clients { limit, after, q: text, backend } => {
                let from = after.unwrap_or_default();
                self.begin_survey(slot, Wanted::Page { text, backend, from, limit }, head_only);
            }
            Answer::Query { client_id } => self.begin_survey(slot, Wanted::Client(client_id), head_only),
            Answer::Admin(command) => self.ask_director(slot, command, head_only),
            Answer::Events => self.listen(slot),
            Answer::Page => self.answer(slot, &page::BALANCER.response(), head_only),
            // What is passed on does not come here.
            Answer::PassOn => self.answer(slot, &Response::error(404, "no such path"), head_only),
        }
    }

    /// Answers a client and ends the connection when it has the answer.
    pub(super) fn answer(&mut self, slot: u32, response: &Response, head_only: bool) {
        let mut bytes = Vec::new();
        response.write_to(&mut bytes, false, head_only);
        self.leave_queue(slot);
        self.drop_backend(slot);
        let Some(pair) = self.table.get(slot) else { return };
        pair.stage = Stage::Parting;
        pair.parting = Ended::Answered;
        pair.client_end.ignored = true;
        self.set_due_in(slot, CLOSE_HANDSHAKE);
        self.send(slot, Side::Client, &bytes);
        self.after_flush(slot, Side::Client);
        self.pump(slot, Side::Client);
    }

    /// What is asked for has to be found out first.
    fn wait_for_answer(&mut self, slot: u32) -> Option<ConnId> {
        let pair = self.table.get(slot)?;
        pair.stage = Stage::Asking;
        pair.client_end.ignored = true;
        self.set_due_in(slot, ANSWER_TIMEOUT);
        self.table.id(slot)
    }

    fn begin_survey(&mut self, slot: u32, wanted: Wanted, head_only: bool) {
        let Some(asker) = self.wait_for_answer(slot) else { return };
        self.post(ReactorId(0), ReactorMessage::Survey(Survey::new(asker, head_only, wanted)));
    }

    /// All reactors have been asked.
    pub(super) fn answer_surveyed(&mut self, survey: &Survey) {
        self.answer_asker(survey.asker, &survey.response(), survey.head_only);
    }

    fn answer_asker(&mut self, asker: ConnId, response: &Response, head_only: bool) {
        let Some(slot) = self.table.find(asker) else { return };
        if self.table.get(slot).is_some_and(|pair| matches!(pair.stage, Stage::Asking)) {
            self.answer(slot, response, head_only);
        }
    }

    fn ask_director(&mut self, slot: u32, command: AdminCommand, head_only: bool) {
        let Some(asker) = self.wait_for_answer(slot) else { return };
        let (reply, outcome) = bounded(1);
        let observed = Observed::Admin { command: command.clone(), reply };
        if self.shared.tell_director(observed).is_err() {
            return self.answer(slot, &busy(), head_only);
        }
        self.pending.push(Pending { asker, head_only, command, outcome });
    }

    /// Passes on what the director has answered.
    pub(super) fn answer_pending(&mut self) {
        let mut index = 0;
        while let Some(pending) = self.pending.get(index) {
            let response = match pending.outcome.try_recv() {
                Ok(outcome) => api::done(&pending.command, outcome),
                Err(TryRecvError::Disconnected) => busy(),
                Err(TryRecvError::Empty) => {
                    index += 1;
                    continue;
                }
            };
            let Pending { asker, head_only, .. } = self.pending.swap_remove(index);
            self.answer_asker(asker, &response, head_only);
        }
    }

    /// Nobody answered in time.
    pub(super) fn asking_timed_out(&mut self, slot: u32) {
        self.answer(slot, &busy(), false);
    }

    /// From now on the client is sent events as they happen.
    fn listen(&mut self, slot: u32) {
        if self.listeners >= LISTENERS_MAX {
            let refusal = Response::error(503, "too many listeners").with("Retry-After", "5");
            return self.answer(slot, &refusal, false);
        }
        let Some(pair) = self.table.get(slot) else { return };
        pair.stage = Stage::Listening;
        pair.client_end.ignored = true;
        self.listeners += 1;
        self.set_due(slot, super::timers::NEVER);
        self.send(slot, Side::Client, stream_head());
        let opening = self.shared.live().opening();
        self.send(slot, Side::Client, &opening);
        self.pump(slot, Side::Client);
    }

    /// Sends listeners what happened; one that does not take it is cut off.
    pub(super) fn tell_listeners(&mut self, news: &Bytes) {
        if self.listeners == 0 {
            return;
        }
        for slot in 0..self.table.high_water() {
            let Some(pair) = self.table.get(slot).filter(|pair| matches!(pair.stage, Stage::Listening))
            else {
                continue;
            };
            let behind = pair.held.as_ref().map_or(0, |held| held.to_client.len());
            match behind > LISTENER_BYTES_MAX {
                true => self.end(slot, Ended::SlowListener),
                false => self.send(slot, Side::Client, news),
            }
        }
    }

    /// Listeners have nothing to wait for when the balancer goes.
    pub(super) fn part_with_listeners(&mut self) {
        for slot in 0..self.table.high_water() {
            if self.table.get(slot).is_some_and(|pair| matches!(pair.stage, Stage::Listening)) {
                self.end(slot, Ended::Drained);
            }
        }
    }
}

fn busy() -> Response {
    Response::error(503, "the balancer is too busy to find out").with("Retry-After", "1")
}
