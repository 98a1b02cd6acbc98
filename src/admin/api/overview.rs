//! What the node's page shows: everything that is known without asking
//! anybody. Counters are as they stand; rates are for the reader to work out.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Snapshot, known_nodes};
use crate::delivery::NodeListing;
use crate::http::Response;
use crate::metrics::{self, Counter, Gauge, Metrics, Received, ThreadCounters};

/// The counters shown, summed up under their names in the answer.
const COUNTERS: &[(&str, &[Counter])] = &[
    ("accepted", &[Counter::Accepted]),
    ("accept_errors", &[Counter::AcceptErrors]),
    ("http_requests", &[Counter::HttpRequests]),
    ("handshakes", &[Counter::HandshakesCompleted]),
    (
        "handshakes_refused",
        &[
            Counter::HandshakesRefused,
            Counter::OriginRefused,
            Counter::AddressRefused,
            Counter::CapacityRefused,
            Counter::DrainingRefused,
            Counter::OverloadRefused,
        ],
    ),
    ("bytes_received", &[Counter::BytesReceived]),
    ("bytes_sent", &[Counter::BytesSent]),
    ("delivered", &[Counter::Delivered]),
    ("offline", &[Counter::Undelivered]),
    ("broadcasts", &[Counter::Broadcasts]),
    ("slow_consumer", &[Counter::DroppedSlowConsumer]),
    ("mailbox_full", &[Counter::DroppedMailboxFull]),
    ("reads_paused", &[Counter::ReadsPaused]),
    ("shutdown_notices", &[Counter::ShutdownNotices]),
    ("cluster_batches_sent", &[Counter::ClusterBatchesSent]),
    ("cluster_bytes_sent", &[Counter::ClusterBytesSent]),
    ("cluster_batches_received", &[Counter::ClusterBatchesReceived]),
    ("cluster_lookups", &[Counter::ClusterLookups]),
    ("cluster_gaps", &[Counter::ClusterGaps]),
    ("cluster_lost", &[Counter::ClusterEnvelopesLost]),
    ("cluster_link_losses", &[Counter::ClusterLinkLosses]),
];

#[derive(Serialize)]
struct Overview<'a> {
    timestamp: &'a str,
    node_id: &'a str,
    address: String,
    service: &'a str,
    version: &'a str,
    identity: &'a RawValue,
    phase: &'static str,
    ready: bool,
    connections: u64,
    connections_max: u64,
    sockets: u64,
    users: u64,
    outbound_bytes: u64,
    drain_ms: u64,
    /// Memory in RAM; `null` where it cannot be read.
    resident_bytes: Option<u64>,
    /// Time on a processor since the start; `null` where it cannot be read.
    cpu_seconds: Option<f64>,
    counters: Counts<'a>,
    closed: Closed<'a>,
    reactors: Vec<Reactor>,
    /// How the node stands to the cluster, `null` if it is to be in none.
    cluster: Option<&'static str>,
    nodes: Vec<NodeListing>,
}

#[derive(Serialize)]
struct Reactor {
    connections: u64,
    sockets: u64,
    outbound_bytes: u64,
    mailbox: u64,
}

/// Serialised as an object of the counters' names.
struct Counts<'a>(&'a Metrics);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sum =
            |counters: &[Counter]| -> u64 { counters.iter().map(|counter| self.0.total(*counter)).sum() };
        let counted = COUNTERS.iter().map(|(name, counters)| (*name, sum(counters)));
        serializer.collect_map(counted.chain(messages(self.0)))
    }
}

/// Messages of all types, and those that were not understood.
fn messages(metrics: &Metrics) -> [(&'static str, u64); 3] {
    [
        ("messages_received", metrics.messages_received(&Received::ALL.map(|(what, _)| what))),
        ("messages_invalid", metrics.messages_received(&[Received::Invalid])),
        ("messages_sent", metrics.messages_sent()),
    ]
}

/// Serialised as an object of the close reasons' labels; those that never occurred are left out.
struct Closed<'a>(&'a Metrics);

impl Serialize for Closed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.endings())
    }
}

/// The answer to `GET /api/overview`. Reads two files under `/proc/self`.
pub(super) fn answer(snapshot: &Snapshot<'_>) -> Response {
    let metrics = snapshot.metrics;
    let usage = metrics::usage();
    Response::json(
        200,
        &Overview {
            timestamp: snapshot.timestamp,
            node_id: snapshot.node_id,
            address: snapshot.address.to_string(),
            service: snapshot.service_name,
            version: snapshot.version,
            identity: snapshot.identity,
            phase: snapshot.phase,
            ready: snapshot.ready,
            connections: snapshot.connections,
            connections_max: snapshot.connections_max,
            sockets: metrics.gauge(Gauge::Sockets),
            users: metrics.gauge(Gauge::Users),
            outbound_bytes: metrics.gauge(Gauge::OutboundBytes),
            drain_ms: metrics.drain_milliseconds(),
            resident_bytes: usage.resident_bytes,
            cpu_seconds: usage.cpu_seconds,
            counters: Counts(metrics),
            closed: Closed(metrics),
            reactors: reactors(metrics),
            cluster: snapshot.cluster.map(|cluster| cluster.state),
            nodes: known_nodes(snapshot),
        },
    )
}

fn reactors(metrics: &Metrics) -> Vec<Reactor> {
    let reactor = |row: &ThreadCounters| Reactor {
        connections: row.gauge(Gauge::Connections),
        sockets: row.gauge(Gauge::Sockets),
        outbound_bytes: row.gauge(Gauge::OutboundBytes),
        mailbox: row.gauge(Gauge::MailboxDepth),
    };
    metrics.reactors().map(reactor).collect()
}
