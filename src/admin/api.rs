//! The HTTP API: which request asks for what, who may ask, and the answers that
//! need nobody else.
//!
//! Owns: routes, methods, authorisation, the JSON in and out. Never: the
//! directory of users. What needs it is returned as a [`Question`]; its answer
//! is one of the results in [`crate::delivery`], sent with status 200 whatever
//! it says, for that a user is offline is a result and no error.

mod body;
mod overview;

pub use super::auth::Caller;
pub(crate) use body::check_type;

use super::auth;
use crate::delivery::NodeListing;
use crate::http::{Head, Response, decode_percent};
use crate::metrics::{Metrics, NodeState, classic};
use crate::page;
use serde::Serialize;
use serde_json::value::RawValue;
use std::net::SocketAddr;

/// The node at the moment of a request.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The identity, as JSON.
    pub identity: &'a RawValue,
    /// The configured name of the service.
    pub service_name: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// The node's id.
    pub node_id: &'a str,
    /// Where the node is reached.
    pub address: SocketAddr,
    /// Now, RFC 3339, UTC.
    pub timestamp: &'a str,
    /// Open WebSocket connections.
    pub connections: u64,
    /// As many as the node may hold.
    pub connections_max: u64,
    /// The phase of the node's life, such as `serving`.
    pub phase: &'static str,
    /// Whether the node wants new connections.
    pub ready: bool,
    /// The cluster, if the node is to be in one.
    pub cluster: Option<ClusterView<'a>>,
    /// The node's counters.
    pub metrics: &'a Metrics,
    /// What mutating calls have to present, if configured.
    pub admin_token: Option<&'a str>,
}

/// What is known of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterView<'a> {
    /// How the node stands to it: `down`, `joining` or `ready`.
    pub state: &'static str,
    /// The nodes that were alive when last asked.
    pub nodes: &'a [NodeListing],
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is the response. A HEAD request gets it without its body.
    Now(Response),
    /// The hub has to be asked.
    Ask(Question),
}

/// What only the hub can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Where a user is connected.
    User {
        /// Who.
        user_id: String,
    },
    /// A part of the list of all users.
    Users {
        /// The user after whom it begins; empty for the beginning.
        after: String,
        /// At most so many, 1 to [`USERS_PER_PAGE`].
        limit: usize,
    },
    /// A message to all connections of a user.
    Send {
        /// To whom.
        user_id: String,
        /// Any JSON value, as it was written.
        message: String,
    },
    /// A message to everybody.
    Broadcast {
        /// Any JSON value, as it was written.
        message: String,
    },
    /// The end of a user's connections.
    Kick {
        /// Whose.
        user_id: String,
        /// For the close frame.
        reason: String,
        /// Whether to say so in a message first.
        notify: bool,
        /// That message, any JSON value as it was written; `None` for the usual one.
        message: Option<String>,
    },
}

/// Answers one request, or says what to ask. `body` is the whole body.
pub fn answer(head: &Head<'_>, body: &[u8], caller: &Caller, snapshot: &Snapshot<'_>) -> Answer {
    try_answer(head, body, caller, snapshot).unwrap_or_else(Answer::Now)
}

fn try_answer(
    head: &Head<'_>,
    body: &[u8],
    caller: &Caller,
    snapshot: &Snapshot<'_>,
) -> Result<Answer, Response> {
    let route = Route::of(head.path).ok_or_else(|| Response::error(404, "no such path"))?;
    let allowed = route.methods();
    if !allowed.split(", ").any(|method| method == head.method) {
        return Err(Response::error(405, &format!("use {allowed}")).with("allow", allowed));
    }
    if route.changes_something() {
        auth::check(head, caller, snapshot.admin_token)?;
        body::check_type(head)?;
    }
    match route {
        Route::Health => Ok(Answer::Now(health(snapshot))),
        Route::Live => Ok(Answer::Now(Response::json(200, &Live { status: "alive" }))),
        Route::Ready => Ok(Answer::Now(ready(snapshot))),
        Route::Nodes => Ok(Answer::Now(nodes(snapshot))),
        Route::Metrics => Ok(Answer::Now(metrics(head, snapshot))),
        Route::Dashboard => Ok(Answer::Now(page::DASHBOARD.response())),
        Route::Overview => Ok(Answer::Now(overview::answer(snapshot))),
        Route::Users => users(head).map(Answer::Ask),
        Route::User(encoded) => user(encoded).map(Answer::Ask),
        Route::Send => body::send(body).map(Answer::Ask),
        Route::Broadcast => body::broadcast(body).map(Answer::Ask),
        Route::Kick => body::kick(body).map(Answer::Ask),
    }
}

enum Route<'a> {
    Health,
    Live,
    Ready,
    Nodes,
    Metrics,
    Dashboard,
    Overview,
    Users,
    /// With the user id, not decoded.
    User(&'a str),
    Send,
    Broadcast,
    Kick,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" | "/health" => Route::Health,
            "/livez" => Route::Live,
            "/readyz" => Route::Ready,
            "/nodes" => Route::Nodes,
            "/metrics" => Route::Metrics,
            "/dashboard" => Route::Dashboard,
            "/api/overview" => Route::Overview,
            "/api/users" => Route::Users,
            "/api/send" => Route::Send,
            "/api/broadcast" => Route::Broadcast,
            "/api/kick" => Route::Kick,
            _ => {
                let user = path.strip_prefix("/api/users/")?;
                (!user.is_empty() && !user.contains('/')).then_some(Route::User(user))?
            }
        })
    }

    fn changes_something(&self) -> bool {
        matches!(self, Route::Send | Route::Broadcast | Route::Kick)
    }

    /// The value of `Allow`.
    fn methods(&self) -> &'static str {
        if self.changes_something() { "POST" } else { "GET, HEAD" }
    }
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    timestamp: &'a str,
    active_websocket_connections: u64,
    service: &'a str,
    version: &'a str,
    service_identity: &'a RawValue,
    is_running: bool,
    websocket_count: u64,
    node_id: &'a str,
    connections: u64,
    phase: &'static str,
}

/// Always 200: a node that drains is well. Whether to send it new clients is
/// what `/readyz` says.
fn health(snapshot: &Snapshot<'_>) -> Response {
    Response::json(
        200,
        &Health {
            status: if snapshot.ready { "healthy" } else { "draining" },
            timestamp: snapshot.timestamp,
            active_websocket_connections: snapshot.connections,
            service: snapshot.service_name,
            version: snapshot.version,
            service_identity: snapshot.identity,
            is_running: true,
            websocket_count: snapshot.connections,
            node_id: snapshot.node_id,
            connections: snapshot.connections,
            phase: snapshot.phase,
        },
    )
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    phase: &'static str,
    /// How the node stands to the cluster, if it is to be in one: without
    /// Redis it serves its own clients, so that alone does not make it unready.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'static str>,
}

fn ready(snapshot: &Snapshot<'_>) -> Response {
    let status = if snapshot.ready { 200 } else { 503 };
    let cluster = snapshot.cluster.map(|cluster| cluster.state);
    Response::json(status, &Ready { ready: snapshot.ready, phase: snapshot.phase, cluster })
}

fn nodes(snapshot: &Snapshot<'_>) -> Response {
    Response::json(200, &known_nodes(snapshot))
}

/// The other nodes as they were last heard of, this one as it is now.
fn known_nodes(snapshot: &Snapshot<'_>) -> Vec<NodeListing> {
    let this = NodeListing {
        id: snapshot.node_id.to_owned(),
        ip_address: snapshot.address.ip().to_string(),
        port: snapshot.address.port(),
        status: if snapshot.ready { "active" } else { "draining" },
        connections: snapshot.connections,
    };
    let known = snapshot.cluster.iter().flat_map(|cluster| cluster.nodes);
    let mut nodes: Vec<NodeListing> = known.filter(|node| node.id != this.id).cloned().collect();
    nodes.push(this);
    nodes.sort_by(|one, other| one.id.cmp(&other.id));
    nodes
}

fn metrics(head: &Head<'_>, snapshot: &Snapshot<'_>) -> Response {
    let node = NodeState {
        node_id: snapshot.node_id,
        version: snapshot.version,
        phase: snapshot.phase,
        ready: snapshot.ready,
        link: snapshot.cluster.map_or("alone", |cluster| cluster.state),
        connections_max: snapshot.connections_max,
    };
    exposition(head, snapshot.metrics.exposition(&node))
}

/// The answer to `GET /metrics`, in the format that is asked for.
pub(crate) fn exposition(head: &Head<'_>, openmetrics: String) -> Response {
    match classic::is_preferred(head.header("accept")) {
        true => Response::text(200, classic::CONTENT_TYPE, classic::rewrite(&openmetrics)),
        false => Response::text(200, Metrics::CONTENT_TYPE, openmetrics),
    }
}

/// Rows in one page of a list.
pub const USERS_PER_PAGE: usize = 1000;

fn users(head: &Head<'_>) -> Result<Question, Response> {
    let limit = page_limit(head)?;
    let after = head.query_value("after").unwrap_or_default().into_owned();
    Ok(Question::Users { after, limit })
}

/// `limit` of the query: rows in one page of a list, 100 unless said.
pub(crate) fn page_limit(head: &Head<'_>) -> Result<usize, Response> {
    match head.query_value("limit") {
        None => Ok(100),
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=USERS_PER_PAGE).contains(limit))
            .ok_or_else(|| Response::error(400, &format!("limit: a number from 1 to {USERS_PER_PAGE}"))),
    }
}

fn user(encoded: &str) -> Result<Question, Response> {
    let user_id = decode_percent(encoded).ok_or_else(|| Response::error(400, "user id: not UTF-8"))?;
    body::check_user_id(&user_id).map(|()| Question::User { user_id: user_id.into_owned() })
}

#[cfg(test)]
mod tests;
