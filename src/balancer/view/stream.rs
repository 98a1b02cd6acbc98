//! The stream of server-sent events: each event is written once for all who
//! listen, and what happened lately is kept for whoever comes.

use super::{EventView, as_backends, as_time};
use crate::balancer::roster::{BackendRecord, LiveEvent};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Samples of the number of connections that are kept, one a second.
const SAMPLES_MAX: usize = 300;

/// How long a sample is kept.
const SAMPLE_AGE_MS: u64 = 300_000;

/// Samples closer than this to the one before are left out.
const SAMPLE_GAP_MS: u64 = 500;

/// Events that are kept.
const EVENTS_MAX: usize = 100;

/// How soon a browser comes back when the stream ends.
const RETRY: &[u8] = b"retry: 2000\n";

/// Rates are of at least this span: what is asked for sooner is not news.
const RATE_SPAN_MIN: Duration = Duration::from_millis(500);

/// What stands before the events: an answer that ends with the connection.
pub fn stream_head() -> &'static [u8] {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ncache-control: no-store\r\n\
      x-content-type-options: nosniff\r\nx-accel-buffering: no\r\n\r\n"
}

/// How the balancer is at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SnapshotView<'a> {
    /// The moment.
    #[serde(serialize_with = "as_time")]
    pub at: SystemTime,
    /// The phase of its life, such as `serving`.
    pub phase: &'a str,
    /// The name of its strategy.
    pub strategy: &'a str,
    /// Clients that have a backend.
    pub connections: u64,
    /// Clients that wait for one.
    pub queued: u64,
    /// Sockets accepted so far.
    pub accepted: u64,
    /// Clients refused so far.
    pub refused: u64,
    /// What the last second brought.
    #[serde(flatten)]
    pub rates: PerSecond,
    /// All backends.
    #[serde(serialize_with = "as_backends")]
    pub backends: &'a [BackendRecord],
}

impl SnapshotView<'_> {
    /// As an event `snapshot`.
    pub fn to_event(&self) -> Bytes {
        event("snapshot", self)
    }
}

/// Rates, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PerSecond {
    /// Bytes.
    pub bytes_per_second: BytesPerSecond,
    /// Sockets accepted.
    pub new_per_second: u64,
}

/// Bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BytesPerSecond {
    /// From clients to backends.
    pub to_backends: u64,
    /// From backends to clients.
    pub to_clients: u64,
}

/// What has been counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Sockets accepted.
    pub accepted: u64,
    /// Bytes from clients to backends.
    pub to_backends: u64,
    /// Bytes from backends to clients.
    pub to_clients: u64,
}

/// Makes rates of totals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    before: Option<(Instant, Totals)>,
    last: PerSecond,
}

impl Rates {
    /// The rates since the last call; since an earlier one when that was less
    /// than half a second ago.
    pub fn update(&mut self, now: Instant, totals: Totals) -> PerSecond {
        let Some((then, before)) = self.before else {
            self.before = Some((now, totals));
            return self.last;
        };
        let span = now.saturating_duration_since(then);
        if span >= RATE_SPAN_MIN {
            let rate = |now: u64, before: u64| {
                (now.saturating_sub(before) as f64 / span.as_secs_f64()).round() as u64
            };
            self.before = Some((now, totals));
            self.last = PerSecond {
                bytes_per_second: BytesPerSecond {
                    to_backends: rate(totals.to_backends, before.to_backends),
                    to_clients: rate(totals.to_clients, before.to_clients),
                },
                new_per_second: rate(totals.accepted, before.accepted),
            };
        }
        self.last
    }
}

/// What happened lately: at most 300 seconds and 100 events.
#[derive(Debug, Default)]
pub struct History {
    /// Milliseconds since 1970, and connections then.
    samples: VecDeque<(u64, u64)>,
    events: VecDeque<Box<RawValue>>,
    /// [`History::opening`], until it changes.
    opening: Option<Bytes>,
}

#[derive(Serialize)]
struct Opening<'a> {
    connections: &'a VecDeque<(u64, u64)>,
    events: &'a VecDeque<Box<RawValue>>,
}

impl History {
    /// Remembers how many connections there are; called once a second.
    pub fn sample(&mut self, at: SystemTime, connections: u64) {
        let at_ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        // After the clock was set back, what was is no longer the past.
        self.samples.retain(|(then, _)| *then <= at_ms && at_ms - then < SAMPLE_AGE_MS);
        if self.samples.back().is_some_and(|(then, _)| at_ms - then < SAMPLE_GAP_MS) {
            return;
        }
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((at_ms, connections));
        self.opening = None;
    }

    /// Remembers an event, and writes it for those who listen already.
    pub fn event(&mut self, happened: &LiveEvent) -> Bytes {
        let Ok(written) = to_raw_value(&EventView(happened)) else { return Bytes::new() };
        let out = event("event", &written);
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(written);
        self.opening = None;
        out
    }

    /// What a new listener gets first: an event `history`.
    pub fn opening(&mut self) -> Bytes {
        let (connections, events) = (&self.samples, &self.events);
        let write = || {
            let history = event("history", &Opening { connections, events });
            Bytes::from([RETRY, &history].concat())
        };
        self.opening.get_or_insert_with(write).clone()
    }
}

/// One event as it goes over the wire. JSON has no line ends of its own, so it
/// is one line of data.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let mut out = Vec::with_capacity(512);
    for part in ["event: ", name, "\ndata: "] {
        out.extend_from_slice(part.as_bytes());
    }
    if serde_json::to_writer(&mut out, data).is_err() {
        return Bytes::new(); // nothing of ours cannot be written as JSON
    }
    out.extend_from_slice(b"\n\n");
    out.into()
}
