//! From an HTTP request to a WebSocket: who may, and as whom.

use std::sync::Arc;
use std::time::Duration;

use super::Reactor;
use super::connection::{Audience, Endpoint, Flag, Phase};
use super::deliver::WINDOW_BITS_MAX;
use super::message::ReactorMessage;
use crate::clock::Tick;
use crate::drain;
use crate::forwarded;
use crate::http::{Head, Response};
use crate::hub::ANONYMOUS;
use crate::ids::ConnId;
use crate::limits::USER_ID_BYTES;
use crate::metrics::{Counter, Timing};
use crate::protocol;
use crate::ws::close::CloseReason;
use crate::ws::handshake::{self, Policy, Refusal, Upgrade};

/// Whose connection it is.
enum Whose {
    Anonymous,
    User(Arc<str>),
    /// It is accepted and closed with this reason, as clients see no status after a failed upgrade.
    Nobody(CloseReason),
}

impl Reactor {
    /// Turns the connection into a WebSocket, or says why not.
    pub(super) fn upgrade(&mut self, slot: u32, head: &Head<'_>) -> Result<(), Response> {
        let upgraded = self.try_upgrade(slot, head);
        match &upgraded {
            Ok(()) => self.count(Counter::HandshakesCompleted, 1),
            // Whoever refuses for another reason counts it under that.
            Err(refusal) if matches!(refusal.status, 400 | 404 | 405 | 426) => {
                self.count(Counter::HandshakesRefused, 1);
            }
            Err(_) => {}
        }
        upgraded
    }

    fn try_upgrade(&mut self, slot: u32, head: &Head<'_>) -> Result<(), Response> {
        let row = self.table.get(slot).ok_or_else(|| Response::error(400, "the connection is gone"))?;
        if !row.is(Flag::AnyPath) && !matches!(head.path, "/ws" | "/echo") {
            return Err(Response::error(404, "no WebSocket here; try /ws or /echo"));
        }
        let peer = row.stream.peer_addr().map_err(|_| Response::error(400, "the connection is gone"))?.ip();
        let policy = Policy {
            allowed_origins: &self.config.allowed_origins,
            subprotocols: &self.config.subprotocols,
            compression: self.config.compression,
        };
        let answer = handshake::answer(head, &policy);
        if let Err(Refusal::ForbiddenOrigin) = answer {
            self.count(Counter::OriginRefused, 1);
        }
        let upgrade = answer.map_err(refusal)?;
        if self.refuses_clients() {
            self.count(Counter::DrainingRefused, 1);
            return Err(unavailable("the node is draining", self.config.drain_timeout));
        }
        let client = forwarded::client_address(peer.to_canonical(), head, &self.config.trusted_proxies);
        self.admit_address(client)?;
        if !self.shared.admit(self.config.max_connections) {
            self.count(Counter::CapacityRefused, 1);
            return Err(unavailable(
                "the node has as many connections as it may hold",
                Duration::from_secs(5),
            ));
        }
        // After all that is cheap: a signature costs more than the rest of a handshake.
        let bearer = self.authenticate(slot, head, client).inspect_err(|_| self.shared.release())?;
        let endpoint = if head.path == "/echo" { Endpoint::Echo } else { Endpoint::Hub };
        let whose = match &bearer {
            _ if endpoint == Endpoint::Echo => Whose::Anonymous,
            Some(bearer) => Whose::User(bearer.user.as_str().into()),
            None => self.whose(head),
        };
        self.records.introduce(slot, client, head.header("traceparent"));
        self.open(slot, endpoint, &whose, &upgrade)?;
        if let Some(bearer) = bearer {
            self.hold_to(slot, bearer);
        }
        if endpoint == Endpoint::Hub {
            self.greet(slot, head, whose, client);
        }
        self.part_at_once(slot);
        Ok(())
    }

    /// Whether the node leaves and clients are to go elsewhere. Who connects while the
    /// listeners stay open waits there instead, and who came before that was accepted.
    fn refuses_clients(&self) -> bool {
        let phase = self.shared.phase();
        phase > drain::Phase::Closing || (phase == drain::Phase::Closing && !self.shared.listeners_outlive)
    }

    fn admit_address(&self, client: std::net::IpAddr) -> Result<(), Response> {
        let Some(rate) = self.config.connections_per_address else { return Ok(()) };
        let now_ms = self.shared.started.elapsed().as_millis() as u64;
        self.shared.limiter.admit(client, rate.connections, rate.window, now_ms).map_err(|seconds| {
            self.count(Counter::AddressRefused, 1);
            Response::error(429, "too many connections from this address")
                .with("Retry-After", seconds.to_string())
        })
    }

    fn whose(&self, head: &Head<'_>) -> Whose {
        match head.query_text("user_id").as_ref().map(Option::as_deref) {
            None | Some(Some("")) if self.config.require_user_id => Whose::Nobody(CloseReason::MissingUserId),
            None | Some(Some("")) => Whose::Anonymous,
            // Not UTF-8: it named somebody, so it is not to be let in as nobody.
            Some(None) => Whose::Nobody(CloseReason::UserRefused),
            Some(Some(user)) if user.len() > USER_ID_BYTES || user.starts_with(ANONYMOUS) => {
                Whose::Nobody(CloseReason::UserRefused)
            }
            Some(Some(user)) => Whose::User(user.into()),
        }
    }

    /// Answers 101 and makes the row a WebSocket's. A user's home is told
    /// before a byte of the answer is written: who has been welcomed can be reached.
    fn open(
        &mut self,
        slot: u32,
        endpoint: Endpoint,
        whose: &Whose,
        upgrade: &Upgrade,
    ) -> Result<(), Response> {
        let now = self.now;
        let id = self.table.id(slot);
        if let (Whose::User(user), Some(connection)) = (whose, id)
            && !self.announce(user, connection)
        {
            self.shared.release();
            self.count(Counter::OverloadRefused, 1);
            return Err(unavailable("the node is overloaded", Duration::from_secs(1)));
        }
        self.write(slot, |out| upgrade.write_response(out));
        let Some(row) = self.table.get(slot) else { return Ok(()) };
        row.endpoint = endpoint;
        row.phase = Phase::Open;
        row.set(Flag::WebSocket, true);
        let (began, is_first) = (row.mark, !row.is(Flag::KeptAlive));
        row.seen(now);
        if let Some((deflate, _)) = &upgrade.extensions {
            row.agree_deflate(*deflate);
        }
        if let Whose::User(user) = whose {
            row.user = Some(user.clone());
        }
        self.websockets += 1;
        self.members.count(row, true);
        if is_first {
            let span = Duration::from_millis(u64::from(now.since(began)) * u64::from(Tick::MS));
            self.counters().took(Timing::Handshake, span);
        }
        Ok(())
    }

    /// Tells the user's home of the connection; false when it cannot be told now.
    fn announce(&mut self, user: &Arc<str>, connection: ConnId) -> bool {
        let home = self.hub.homes().of(user);
        if home != self.me {
            return self.post(home, ReactorMessage::Join { user: user.clone(), connection });
        }
        self.join(user, connection);
        true
    }

    /// The first message, or the close that stands for it.
    fn greet(&mut self, slot: u32, head: &Head<'_>, whose: Whose, client: std::net::IpAddr) {
        if let Whose::Nobody(reason) = whose {
            return self.close(slot, reason, "");
        }
        let shared = self.shared.clone();
        self.answer_with(slot, |out, at| {
            let identity = shared.identity_json.get().as_bytes();
            protocol::write_welcome(out, &shared.display_name, at, client, identity);
        });
        let Some(row) = self.table.get(slot) else { return };
        // A user refused by its home on this very reactor is closing already.
        if !row.is_open() {
            return;
        }
        if head.query_value("batch").as_deref() == Some("1") {
            row.set(Flag::Batching, true);
            return self.batches.add(slot);
        }
        let audience =
            if row.deflate_bits() == Some(WINDOW_BITS_MAX) { Audience::Deflated } else { Audience::Plain };
        self.members.count(row, false);
        self.outgoing.join_audience(row, slot, audience);
        self.members.count(row, true);
    }
}

fn unavailable(why: &str, retry_after: Duration) -> Response {
    Response::error(503, why).with("Retry-After", retry_after.as_secs().max(1).to_string())
}

fn refusal(refusal: Refusal) -> Response {
    match refusal {
        Refusal::BadRequest(why) => Response::error(400, why),
        Refusal::MethodNotAllowed => {
            Response::error(405, "a WebSocket is opened by GET").with("Allow", "GET")
        }
        Refusal::UpgradeRequired => Response::error(426, "this endpoint speaks WebSocket, version 13")
            .with("Sec-WebSocket-Version", "13")
            .with("Upgrade", "websocket"),
        Refusal::ForbiddenOrigin => Response::error(403, "this origin may not connect"),
    }
}
