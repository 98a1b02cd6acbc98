//! What servers gave to resume sessions with. As rustls's own store, which keeps eight tickets of a server, but with
//! enough for as many handshakes as are in flight at a time.

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tickets kept for one server.
const TICKETS_MAX: usize = 4096;

/// The tickets of all servers of a run.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<HashMap<ServerName<'static>, Known>>);

#[derive(Debug, Default)]
struct Known {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: Vec<Tls13ClientSessionValue>,
}

impl Tickets {
    /// The lock is never contended: one thread drives all connections. A panic with it held leaves nothing half done.
    fn all(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.all().entry(server).or_default().group = Some(group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.all().get(server)?.group
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.all().entry(server).or_default().tls12 = Some(session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.all().get(server)?.tls12.clone()
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        if let Some(known) = self.all().get_mut(server) {
            known.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut all = self.all();
        let tickets = &mut all.entry(server).or_default().tls13;
        if tickets.len() < TICKETS_MAX {
            tickets.push(ticket);
        }
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.all().get_mut(server)?.tls13.pop()
    }
}
