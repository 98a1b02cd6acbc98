//! The balancer's own HTTP: which requests are for it and not for a backend,
//! who may ask, and the answers that need nobody else.
//!
//! Owns: routes, methods, the JSON in and out. Never: the table of clients and
//! the set of backends. What asks about the first or changes the second is
//! returned as an [`Answer`]; [`super::view::clients`], [`super::view::client`] and [`done`]
//! make responses of what comes of it.

mod body;
mod now;

use super::metrics::Metrics;
use super::roster::{AdminCommand, AdminDone, AdminError, BackendId, BackendRecord};
use super::view::BackendView;
use crate::admin::api::{check_type, page_limit};
use crate::admin::auth::{self, Caller};
use crate::http::{Head, Response};
use crate::limits;
use std::time::SystemTime;

/// Where the page is.
pub const PAGE_PATH: &str = "/web-loadbalancer.html";

/// The balancer at the moment of a request.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The configured name of the service.
    pub service_name: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// The name of the strategy.
    pub strategy: &'a str,
    /// The phase of the balancer's life, such as `serving`.
    pub phase: &'static str,
    /// Whether it wants new connections.
    pub ready: bool,
    /// Now.
    pub at: SystemTime,
    /// Clients that have a backend.
    pub connections: u64,
    /// Clients that wait for one.
    pub queued: u64,
    /// All backends.
    pub backends: &'a [BackendRecord],
    /// The counters.
    pub metrics: &'a Metrics,
    /// What mutating calls have to present, if configured.
    pub admin_token: Option<&'a str>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is the response. A HEAD request gets it without its body.
    Now(Response),
    /// A page of the table of clients; then [`super::view::clients`].
    Clients {
        /// At most so many, 1 to 1000.
        limit: usize,
        /// Where the page begins: the reactor and the slot that `next` of the
        /// page before said, as `0-17`.
        after: Option<(u8, u32)>,
        /// A part of an id, a user, a name or an address; not empty.
        q: Option<String>,
        /// The clients of one backend.
        backend: Option<BackendId>,
    },
    /// The connections of one client; then [`super::view::client`].
    Query {
        /// What it is called; not empty.
        client_id: String,
    },
    /// The director has to do something; then [`done`].
    Admin(AdminCommand),
    /// The stream of events is to begin ([`super::view::stream_head`]).
    Events,
    /// The page.
    Page,
    /// It is for a backend.
    PassOn,
}

/// Whether a request is for the balancer itself: [`answer`] then does not pass it on.
pub fn is_own(head: &Head<'_>) -> bool {
    Route::of(head.path).is_some()
}

/// Answers one request, or says what to do. `body` is the whole body.
pub fn answer(head: &Head<'_>, body: &[u8], caller: &Caller, snapshot: &Snapshot<'_>) -> Answer {
    let Some(route) = Route::of(head.path) else { return Answer::PassOn };
    if matches!(route, Route::Nothing) {
        return Answer::Now(no_such_path());
    }
    try_answer(&route, head, body, caller, snapshot).unwrap_or_else(Answer::Now)
}

fn try_answer(
    route: &Route<'_>,
    head: &Head<'_>,
    body: &[u8],
    caller: &Caller,
    snapshot: &Snapshot<'_>,
) -> Result<Answer, Response> {
    let allowed = route.methods();
    if !allowed.split(", ").any(|method| method == head.method) {
        return Err(Response::error(405, &format!("use {allowed}")).with("allow", allowed));
    }
    if matches!(head.method, "POST" | "DELETE") {
        auth::check(head, caller, snapshot.admin_token)?;
        check_type(head)?;
        return command(route, body).map(Answer::Admin);
    }
    match route {
        Route::Root if now::wants_html(head) => Ok(Answer::Now(now::to_page())),
        Route::Root | Route::Health => Ok(Answer::Now(now::health(snapshot))),
        Route::Live => Ok(Answer::Now(now::live())),
        Route::Ready => Ok(Answer::Now(now::ready(snapshot))),
        Route::Metrics => Ok(Answer::Now(now::metrics(head, snapshot))),
        Route::Backends => Ok(Answer::Now(now::backends(snapshot))),
        Route::Backend(id) => one_backend(id, snapshot).map(Answer::Now),
        Route::Clients => clients(head),
        Route::Query => query(head),
        Route::Events if head.method == "HEAD" => {
            Ok(Answer::Now(Response::text(200, "text/event-stream", "")))
        }
        Route::Events => Ok(Answer::Events),
        Route::Page => Ok(Answer::Page),
        Route::Drain(_) | Route::Enable(_) | Route::Nothing => Err(no_such_path()),
    }
}

enum Route<'a> {
    Root,
    Health,
    Live,
    Ready,
    Metrics,
    Page,
    Backends,
    /// A backend's id as written.
    Backend(&'a str),
    Drain(&'a str),
    Enable(&'a str),
    Clients,
    Query,
    Events,
    /// Below a path of ours, but nothing.
    Nothing,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Route::Root,
            "/health" => Route::Health,
            "/livez" => Route::Live,
            "/readyz" => Route::Ready,
            "/metrics" => Route::Metrics,
            PAGE_PATH => Route::Page,
            "/api/backends" => Route::Backends,
            "/api/clients" => Route::Clients,
            "/api/query" => Route::Query,
            "/api/events" => Route::Events,
            _ => Route::backend(path.strip_prefix("/api/backends/")?),
        })
    }

    fn backend(rest: &'a str) -> Self {
        match rest.split_once('/') {
            None => Route::Backend(rest),
            Some((id, "drain")) => Route::Drain(id),
            Some((id, "enable")) => Route::Enable(id),
            Some(_) => Route::Nothing,
        }
    }

    /// The value of `Allow`.
    fn methods(&self) -> &'static str {
        match self {
            Route::Backends => "GET, HEAD, POST",
            Route::Backend(_) => "GET, HEAD, DELETE",
            Route::Drain(_) | Route::Enable(_) => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// What a call that changes something is for; its method is one of the route's.
fn command(route: &Route<'_>, body: &[u8]) -> Result<AdminCommand, Response> {
    match route {
        Route::Backends => body::add(body).map(AdminCommand::Add),
        Route::Backend(id) => backend_id(id).map(AdminCommand::Remove),
        Route::Drain(id) => backend_id(id).map(AdminCommand::Drain),
        Route::Enable(id) => backend_id(id).map(AdminCommand::Enable),
        _ => Err(no_such_path()),
    }
}

fn no_such_path() -> Response {
    Response::error(404, "no such path")
}

fn backend_id(text: &str) -> Result<BackendId, Response> {
    text.parse().map_err(|_| Response::error(404, "no such backend; ids are b1, b2, …"))
}

/// The answer to a command, from what the director says of it.
pub fn done(command: &AdminCommand, outcome: Result<AdminDone, AdminError>) -> Response {
    match (command, outcome) {
        (AdminCommand::Add(_), Ok(AdminDone { record })) => {
            let location = format!("/api/backends/{}", record.id);
            Response::json(201, &BackendView(&record)).with("location", location)
        }
        (_, Ok(AdminDone { record })) => Response::json(200, &BackendView(&record)),
        (_, Err(error @ AdminError::Unknown(_))) => Response::error(404, &error.to_string()),
        (_, Err(error)) => Response::error(409, &error.to_string()),
    }
}

fn one_backend(id: &str, snapshot: &Snapshot<'_>) -> Result<Response, Response> {
    let id = backend_id(id)?;
    let record = snapshot.backends.iter().find(|record| record.id == id);
    let record = record.ok_or_else(|| Response::error(404, "no such backend"))?;
    Ok(Response::json(200, &BackendView(record)))
}

fn clients(head: &Head<'_>) -> Result<Answer, Response> {
    let said = |key| head.query_value(key).filter(|value| !value.is_empty());
    let after =
        said("after").map(|text| place(&text).ok_or_else(|| bad("after: the `next` of the page before")));
    let backend = said("backend").map(|text| text.parse().map_err(|_| bad("backend: an id such as b1")));
    let q = said("q").map(|text| bounded("q", text.into_owned()));
    Ok(Answer::Clients {
        limit: page_limit(head)?,
        after: after.transpose()?,
        q: q.transpose()?,
        backend: backend.transpose()?,
    })
}

fn place(text: &str) -> Option<(u8, u32)> {
    let (reactor, slot) = text.split_once('-')?;
    Some((reactor.parse().ok()?, slot.parse().ok()?))
}

fn query(head: &Head<'_>) -> Result<Answer, Response> {
    match head.query_value("client_id") {
        Some(id) if !id.is_empty() => {
            bounded("client_id", id.into_owned()).map(|client_id| Answer::Query { client_id })
        }
        _ => Err(bad("client_id: missing")),
    }
}

fn bounded(name: &str, text: String) -> Result<String, Response> {
    match text.len() {
        0..=limits::USER_ID_BYTES => Ok(text),
        _ => Err(bad(&format!("{name}: longer than {} bytes", limits::USER_ID_BYTES))),
    }
}

fn bad(message: &str) -> Response {
    Response::error(400, message)
}

#[cfg(test)]
mod tests;
