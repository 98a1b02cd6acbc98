//! The answers that need nobody else.

use super::{PAGE_PATH, Snapshot};
use crate::admin::api::exposition;
use crate::balancer::metrics::BalancerState;
use crate::balancer::roster::BackendRecord;
use crate::balancer::view::{self, as_backends};
use crate::http::{Head, Response};
use serde::Serialize;

/// Whether the client says that it takes HTML: a browser that shows a page
/// does, a program does not.
pub(super) fn wants_html(head: &Head<'_>) -> bool {
    let is_html = |range: &str| {
        let mut parts = range.split(';').map(str::trim_ascii);
        parts.next().is_some_and(|media| media.eq_ignore_ascii_case("text/html")) && !parts.any(is_zero)
    };
    head.headers("accept").flat_map(|value| value.split(',')).any(is_html)
}

pub(super) fn to_page() -> Response {
    Response::text(302, "text/plain; charset=utf-8", "").with("location", PAGE_PATH).with("vary", "accept")
}

/// A weight of nothing (RFC 9110, section 12.4.2).
fn is_zero(parameter: &str) -> bool {
    let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
    weight.and_then(|weight| weight.parse::<f32>().ok()).is_some_and(|weight| weight <= 0.0)
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    service: &'a str,
    version: &'a str,
    strategy: &'a str,
    phase: &'static str,
    backends: BackendCount,
    connections: u64,
    queued: u64,
    timestamp: String,
}

#[derive(Serialize)]
struct BackendCount {
    total: usize,
    available: usize,
}

/// 503 when there is nowhere to send a client.
pub(super) fn health(snapshot: &Snapshot<'_>) -> Response {
    let total = snapshot.backends.len();
    let available = snapshot.backends.iter().filter(|backend| backend.state.takes()).count();
    let (code, status) = match available {
        0 => (503, "unhealthy"),
        _ if available < total => (200, "degraded"),
        _ => (200, "healthy"),
    };
    Response::json(
        code,
        &Health {
            status,
            service: snapshot.service_name,
            version: snapshot.version,
            strategy: snapshot.strategy,
            phase: snapshot.phase,
            backends: BackendCount { total, available },
            connections: snapshot.connections,
            queued: snapshot.queued,
            timestamp: view::time(snapshot.at).to_string(),
        },
    )
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

pub(super) fn live() -> Response {
    Response::json(200, &Live { status: "alive" })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    phase: &'static str,
}

pub(super) fn ready(snapshot: &Snapshot<'_>) -> Response {
    let status = if snapshot.ready { 200 } else { 503 };
    Response::json(status, &Ready { ready: snapshot.ready, phase: snapshot.phase })
}

pub(super) fn metrics(head: &Head<'_>, snapshot: &Snapshot<'_>) -> Response {
    let state = BalancerState {
        version: snapshot.version,
        strategy: snapshot.strategy,
        phase: snapshot.phase,
        ready: snapshot.ready,
        backends: snapshot.backends,
    };
    exposition(head, snapshot.metrics.exposition(&state))
}

#[derive(Serialize)]
struct Backends<'a> {
    strategy: &'a str,
    #[serde(serialize_with = "as_backends")]
    backends: &'a [BackendRecord],
}

pub(super) fn backends(snapshot: &Snapshot<'_>) -> Response {
    Response::json(200, &Backends { strategy: snapshot.strategy, backends: snapshot.backends })
}
