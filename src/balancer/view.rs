//! What the balancer shows of itself: the records of the API and of the page.
//!
//! Owns: their names and forms in JSON. Never: the state they show, which is
//! borrowed for as long as it takes to write it down.

mod clients;
mod stream;

pub use clients::{ClientView, client, clients};
pub use stream::{History, PerSecond, Rates, SnapshotView, Totals, stream_head};

use super::roster::{BackendId, BackendRecord, Check, LiveEvent};
use serde::{Serialize, Serializer};
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that RFC 3339 can write.
const LAST_SECOND: u64 = 253_402_300_799;

/// The text of an event, in bytes; what is beyond is cut.
const TEXT_BYTES_MAX: usize = 1024;

/// A backend, to be written as JSON.
#[derive(Clone, Copy, Debug)]
pub struct BackendView<'a>(pub &'a BackendRecord);

#[derive(Serialize)]
struct Backend<'a> {
    #[serde(serialize_with = "as_text")]
    id: BackendId,
    name: &'a str,
    #[serde(serialize_with = "as_optional_text")]
    address: Option<SocketAddr>,
    origin: &'static str,
    weight: u32,
    max_connections: Option<u32>,
    state: &'static str,
    drained: bool,
    why: &'a str,
    #[serde(serialize_with = "as_time")]
    since: SystemTime,
    connections: u32,
    total: u64,
    failures: u64,
    bytes_to_backend: u64,
    bytes_to_clients: u64,
    last_check: Option<LastCheck<'a>>,
}

#[derive(Serialize)]
struct LastCheck<'a> {
    #[serde(serialize_with = "as_time")]
    at: SystemTime,
    ok: bool,
    status: Option<u16>,
    latency_ms: f64,
    error: Option<&'a str>,
}

impl<'a> From<&'a Check> for LastCheck<'a> {
    fn from(check: &'a Check) -> Self {
        LastCheck {
            at: check.at,
            ok: check.ok,
            status: check.status,
            latency_ms: check.latency.as_micros() as f64 / 1000.0,
            error: check.error.as_deref(),
        }
    }
}

impl Serialize for BackendView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let BackendView(record) = self;
        Backend {
            id: record.id,
            name: &record.name,
            address: record.address,
            origin: record.origin.name(),
            weight: record.weight,
            max_connections: record.max_connections,
            state: record.state.name(),
            drained: record.admin_drained,
            why: &record.why,
            since: record.since,
            connections: record.connections,
            total: record.total,
            failures: record.failures,
            bytes_to_backend: record.bytes_to_backend,
            bytes_to_clients: record.bytes_to_clients,
            last_check: record.last_check.as_ref().map(LastCheck::from),
        }
        .serialize(serializer)
    }
}

/// All backends, as an array.
pub(super) fn as_backends<S: Serializer>(
    backends: &[BackendRecord],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(backends.iter().map(BackendView))
}

/// An event, to be written as JSON.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a>(pub &'a LiveEvent);

#[derive(Serialize)]
struct Event<'a> {
    #[serde(serialize_with = "as_time")]
    at: SystemTime,
    kind: &'static str,
    #[serde(serialize_with = "as_optional_text")]
    backend: Option<BackendId>,
    text: &'a str,
    clients: u32,
}

impl Serialize for EventView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let EventView(event) = self;
        let (at, kind, backend) = (event.at, event.kind.name(), event.backend);
        Event { at, kind, backend, text: start_of(&event.text), clients: event.clients }.serialize(serializer)
    }
}

/// As much of a text as is shown.
fn start_of(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// RFC 3339 in UTC with milliseconds. Times it cannot write become the nearest
/// it can.
pub fn time(at: SystemTime) -> impl Display {
    let last = UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
    humantime::format_rfc3339_millis(at.clamp(UNIX_EPOCH, last))
}

fn as_time<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time(*at))
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_optional_text<S: Serializer>(value: &Option<impl Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
pub(super) mod tests;
