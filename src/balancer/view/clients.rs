//! The table of clients: one page of it, and the connections of one client.

use super::{as_optional_text, as_text, as_time};
use crate::balancer::roster::BackendId;
use crate::http::Response;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::SystemTime;

/// One client.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClientView<'a> {
    /// What it is called: its own name for itself, or one made up.
    pub id: &'a str,
    /// Whether that was made up.
    pub generated: bool,
    /// Its connection: reactor, slot and generation, written `0-17-3`.
    pub connection: &'a str,
    /// `user_id` of its query.
    pub user_id: Option<&'a str>,
    /// `name` of its query.
    pub name: Option<&'a str>,
    /// Where it comes from.
    #[serde(serialize_with = "as_text")]
    pub address: SocketAddr,
    /// The backend it has, if it has one already.
    #[serde(serialize_with = "as_optional_text")]
    pub backend: Option<BackendId>,
    /// Since when it is connected.
    #[serde(serialize_with = "as_time")]
    pub since: SystemTime,
    /// Bytes it has sent.
    pub bytes_from_client: u64,
    /// Bytes it was sent.
    pub bytes_to_client: u64,
}

#[derive(Serialize)]
struct Page<'a> {
    clients: &'a [ClientView<'a>],
    next: Option<&'a str>,
    total: u64,
}

#[derive(Serialize)]
struct OneClient<'a> {
    client_id: &'a str,
    connections: &'a [ClientView<'a>],
}

/// One page of the table: `next` is what `after` has to be for the page that
/// follows, `None` on the last one; `total` is how many clients match on all pages.
pub fn clients(clients: &[ClientView<'_>], next: Option<&str>, total: u64) -> Response {
    Response::json(200, &Page { clients, next, total })
}

/// The connections of one client; 404 when it has none.
pub fn client(client_id: &str, connections: &[ClientView<'_>]) -> Response {
    match connections {
        [] => Response::error(404, "no such client"),
        _ => Response::json(200, &OneClient { client_id, connections }),
    }
}
