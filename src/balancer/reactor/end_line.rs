//! The one line that the log has about a pair's end: who it was, where, how
//! long, how much, why.

use std::net::IpAddr;

use log::Level;
use log::kv::Value;

use super::pair::{Client, KnownBy, Pair, Stage};
use super::request::unix_millis;
use crate::balancer::ended::Ended;
use crate::logging;

impl Pair {
    /// Says that it ended.
    pub(super) fn log_end(&self, reason: Ended) {
        let (label, level) = reason.facts();
        if !log::log_enabled!(level) {
            return;
        }
        let address = self.address();
        let mut fields: Vec<(&str, Value<'_>)> = vec![("reason", label.into())];
        fields.extend(address.as_ref().map(|address| ("client", Value::from_display(address))));
        if let Some(info) = &self.info {
            fields.extend(info.fields());
        }
        fields.extend(self.at.as_deref().map(|at| ("backend", at.name.as_str().into())));
        fields.push(("to_backend_bytes", self.to_backend.into()));
        fields.push(("to_client_bytes", self.to_client.into()));
        say(level, &fields, label);
    }

    /// Where it comes from, as far as that is known.
    fn address(&self) -> Option<IpAddr> {
        match (&self.info, &self.stage) {
            (Some(info), _) => Some(info.ip),
            (None, Stage::Opening(opening)) => Some(opening.peer.ip().to_canonical()),
            (None, _) => self.client.peer_addr().ok().map(|peer| peer.ip().to_canonical()),
        }
    }
}

impl Client {
    /// What its request said of it, and since when it was there.
    fn fields(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        let milliseconds = unix_millis().saturating_sub(self.since);
        let user = match self.known_by {
            KnownBy::UserId => self.id.as_deref(),
            _ => self.user_id.as_deref(),
        };
        let id = self.id.as_deref().map(|id| ("client_id", id.into()));
        let user = user.map(|user| ("user", user.into()));
        let trace = self.trace.as_ref().map(|trace| ("trace_id", Value::from_display(trace)));
        let seconds = ("seconds", Value::from(milliseconds as f64 / 1000.0));
        [id, user, Some(seconds), trace].into_iter().flatten()
    }
}

fn say(level: Level, fields: &[(&str, Value<'_>)], label: &str) {
    logging::say(level, module_path!(), fields, format_args!("a client's connection ended: {label}"));
}
