//! Who a client is by its token, and what it may do.
//!
//! Owns: the check of a token at a handshake, and what is kept of it: the
//! expiry, two flags in the row, and for those who may send to some only,
//! [`Reaches`]. A message of who is not limited costs a look at the settings
//! and one at the row's flags.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Reactor;
use super::connection::Flag;
use crate::auth::{self, Bearer, Fault, KeyRing, Reach};
use crate::config::Permission;
use crate::http::{Head, Response};
use crate::hub::ANONYMOUS;
use crate::metrics::Counter;
use crate::protocol;
use crate::ws::close::CloseReason;

/// Whom those may send to who may not send to everybody, by slot. A slot with
/// [`Flag::SendLimited`] that is not here may send to nobody.
pub(super) type Reaches = HashMap<u32, Reach>;

impl Reactor {
    /// Who presents the request's token; `None` where none is asked for.
    ///
    /// # Errors
    /// The answer to a token that is not believed: 400, 401 or 403. It is
    /// counted, unless it is a malformed request.
    pub(super) fn authenticate(
        &self,
        slot: u32,
        head: &Head<'_>,
        client: IpAddr,
    ) -> Result<Option<Bearer>, Response> {
        let Some(ring) = &self.shared.token_keys else { return Ok(None) };
        self.believe(ring, head).map(Some).map_err(|fault| {
            if fault.status() != 400 {
                self.count(Counter::Unauthorized, 1);
            }
            log::debug!("{} of {client} is refused: {fault}", self.name(slot));
            fault.into()
        })
    }

    fn believe(&self, ring: &KeyRing, head: &Head<'_>) -> Result<Bearer, Fault> {
        let token = auth::presented(head)?;
        let bearer = auth::verify(&token, &ring.keys(), &self.config.token_rules(), wall())?;
        if bearer.user.starts_with(ANONYMOUS) {
            return Err(Fault::Subject);
        }
        match head.query_value("user_id") {
            Some(user) if !user.is_empty() && user != bearer.user => Err(Fault::OtherUser),
            _ => Ok(bearer),
        }
    }

    /// Keeps what a token says beyond who its bearer is.
    pub(super) fn hold_to(&mut self, slot: u32, bearer: Bearer) {
        let Some(row) = self.table.get(slot) else { return };
        row.set(Flag::BroadcastDenied, !bearer.grants.broadcast);
        row.set(Flag::SendLimited, bearer.grants.send != Reach::Everybody);
        if let reach @ Reach::Only(_) = bearer.grants.send {
            self.reaches.insert(slot, reach);
        }
        if let Some(expires_at) = bearer.expires_at {
            self.expiries.add(slot, expires_at, (wall(), self.config.jwt_leeway), self.now);
        }
    }

    /// Closes the connections whose tokens have expired.
    pub(super) fn close_expired(&mut self) {
        if self.expiries.ticks_left(self.now) != Some(0) {
            return;
        }
        for slot in self.expiries.take_due(wall(), self.config.jwt_leeway, self.now) {
            self.close(slot, CloseReason::TokenExpired, "");
        }
        self.flush_when_full();
    }

    /// The connection is over.
    pub(super) fn drop_permits(&mut self, slot: u32) {
        self.expiries.forget(slot);
        if !self.reaches.is_empty() && self.reaches.remove(&slot).is_some() && self.reaches.is_empty() {
            self.reaches = Reaches::default();
        }
    }

    /// Whether the client may send to everybody; if not, it is told.
    pub(super) fn may_broadcast(&mut self, slot: u32) -> bool {
        let may = self.config.client_broadcast == Permission::Allow
            && self.table.get(slot).is_some_and(|row| !row.is(Flag::BroadcastDenied));
        if !may {
            self.count(Counter::BroadcastsDenied, 1);
            self.answer(slot, protocol::write_broadcast_denied);
        }
        may
    }

    /// Whether the client may send to this user; if not, it is told.
    pub(super) fn may_send(&mut self, slot: u32, target_user: &str) -> bool {
        let is_free = self.table.get(slot).is_some_and(|row| !row.is(Flag::SendLimited));
        let may = self.config.client_send == Permission::Allow
            && (is_free || self.reaches.get(&slot).is_some_and(|reach| reach.includes(target_user)));
        if !may {
            self.count(Counter::SendsDenied, 1);
            self.answer(slot, |out| protocol::write_send_denied(out, target_user));
        }
        may
    }
}

/// The wall clock, as time since 1970. Read at handshakes, and at most once a tick while tokens expire.
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
