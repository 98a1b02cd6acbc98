//! The heads that pass through the balancer: the client's request, read and
//! written anew towards a backend, and the backend's answer.
//!
//! Owns: what of a request decides where it goes, which of its headers may not
//! be passed on as they came, and what an answer's head means. Never: sockets,
//! the choice of a backend, and the handshake itself, whose key and extensions
//! are between client and backend.

mod answer;
mod passing;

pub use answer::{Answer, Body, read_answer, write_answer};
pub use passing::write_request;

use crate::forwarded;
use crate::http::{self, Head, HttpError};
use crate::limits;
use crate::ws::handshake;
use ipnet::IpNet;
use std::net::IpAddr;

/// What a request asks for, which decides what its answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// An upgrade to WebSocket, be it malformed: the backend judges it.
    Upgrade,
    /// Anything else.
    Plain,
    /// The same without a body in its answer (HEAD).
    HeadOnly,
}

/// A request that is to be passed on.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its head. [`Head::content_length`] bytes of body follow it.
    pub head: Head<'a>,
    /// Where the body begins in the input.
    pub head_len: usize,
    /// What it asks for.
    pub asked: Asked,
    /// Where it comes from, as far as trusted proxies vouch for it.
    pub address: IpAddr,
    /// What the client is called: `client_id` of the query, else `user_id`, else `name`.
    pub client: Option<String>,
    /// `user_id` of the query.
    pub user_id: Option<String>,
    /// `name` of the query.
    pub name: Option<String>,
}

impl Request<'_> {
    /// Whether it asks for an upgrade to WebSocket.
    pub fn is_upgrade(&self) -> bool {
        self.asked == Asked::Upgrade
    }
}

/// What the bytes read so far amount to.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // lives for one call on the stack; a box would be an allocation per request
pub enum Parsed<'a> {
    /// Not a whole head yet; ask again with more bytes.
    Partial,
    /// A whole head.
    Complete(Request<'a>),
}

/// How a request reached the balancer.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// The other end of the connection, by its socket or its PROXY header.
    pub peer: IpAddr,
    /// Proxies whose word is taken for whom they ask.
    pub trusted: &'a [IpNet],
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Looks for a request at the beginning of `input`.
///
/// A query value that is empty, no UTF-8 or longer than
/// [`limits::USER_ID_BYTES`] is treated as absent: the backend sees it and
/// judges it.
///
/// # Errors
/// What [`http::parse`] refuses, and what two readers of the head could
/// understand differently: several `Content-Length`, an upgrade with a body, a
/// target that names another host than `Host`. The connection has to end.
pub fn read_request<'a>(input: &'a [u8], via: &Via<'_>) -> Result<Parsed<'a>, HttpError> {
    let http::Parsed::Complete { head, head_len } = http::parse(input)? else { return Ok(Parsed::Partial) };
    let asked = asked(&head);
    check(&head, &input[..head_len], asked)?;
    let [client_id, user_id, name] = ["client_id", "user_id", "name"].map(|key| identifier(&head, key));
    Ok(Parsed::Complete(Request {
        address: forwarded::client_address(via.peer, &head, via.trusted),
        client: client_id.or_else(|| user_id.clone()).or_else(|| name.clone()),
        head,
        head_len,
        asked,
        user_id,
        name,
    }))
}

fn asked(head: &Head<'_>) -> Asked {
    match head.method {
        "GET" if handshake::is_upgrade(head) => Asked::Upgrade,
        "HEAD" => Asked::HeadOnly,
        _ => Asked::Plain,
    }
}

fn check(head: &Head<'_>, raw: &[u8], asked: Asked) -> Result<(), HttpError> {
    let bad = |message| Err(HttpError { status: 400, message });
    if head.headers("content-length").count() > 1 {
        return bad("more than one Content-Length");
    }
    if head.method == "CONNECT" {
        return bad("this is no tunnel");
    }
    if asked == Asked::Upgrade && head.content_length > 0 {
        return bad("a WebSocket handshake has no body"); // it would be taken for frames
    }
    match (authority(raw), head.header("host")) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host.as_bytes()) => {
            bad("the request target and Host name different hosts")
        }
        _ => Ok(()),
    }
}

/// The host that an absolute request target names (RFC 9112, section 3.2.2).
fn authority(raw: &[u8]) -> Option<&[u8]> {
    let target = raw.trim_ascii_start().split(|byte| *byte == b' ').nth(1)?;
    let path = target.iter().position(|byte| matches!(byte, b'/' | b'?'))?;
    let rest = target[..path].ends_with(b":").then(|| target[path..].strip_prefix(b"//"))??;
    rest.split(|byte| matches!(byte, b'/' | b'?')).next()
}

fn identifier(head: &Head<'_>, key: &str) -> Option<String> {
    let value = head.query_value(key)?;
    (1..=limits::USER_ID_BYTES).contains(&value.len()).then(|| value.into_owned())
}

#[cfg(test)]
mod tests;
