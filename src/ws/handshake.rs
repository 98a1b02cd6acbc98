//! The opening handshake of the server (RFC 6455, section 4.2): whether an
//! upgrade is granted, and the answer that grants it. A refusal only says why;
//! the HTTP answer to it is written where all of them are.

use crate::http::Head;
use crate::ws::deflate::{Deflate, negotiate};
use tungstenite::handshake::derive_accept_key;

/// What this server grants.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Origins that browsers may connect from; empty for any. A client that
    /// sends no `Origin` is not a browser and not held to it (section 10.2).
    pub allowed_origins: &'a [String],
    /// Subprotocols spoken here.
    pub subprotocols: &'a [String],
    /// Whether permessage-deflate is offered.
    pub compression: bool,
}

/// A granted upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept_key: String,
    /// The subprotocol agreed on: the first the client named that is spoken
    /// here.
    pub subprotocol: Option<String>,
    /// What was agreed on compression, and the header value that says so.
    pub extensions: Option<(Deflate, String)>,
}

/// Why an upgrade is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: not a valid handshake, and what is wrong with it.
    BadRequest(&'static str),
    /// 405: not a GET.
    MethodNotAllowed,
    /// 426, to be sent with `Upgrade: websocket` and `Sec-WebSocket-Version:
    /// 13`: no upgrade was asked for, or one to another version.
    UpgradeRequired,
    /// 403: a browser on a page that is not allowed to connect.
    ForbiddenOrigin,
}

/// Whether a request asks for an upgrade to WebSocket, be it malformed.
pub fn is_upgrade(head: &Head<'_>) -> bool {
    head.has_token("upgrade", "websocket")
}

/// Judges an upgrade request.
///
/// # Errors
/// The [`Refusal`] to answer with.
pub fn answer(head: &Head<'_>, policy: &Policy<'_>) -> Result<Upgrade, Refusal> {
    check_request(head)?;
    check_version(head)?;
    let key = key(head)?;
    check_origin(head, policy.allowed_origins)?;
    let offers = policy.compression.then(|| head.headers("sec-websocket-extensions"));
    Ok(Upgrade {
        accept_key: derive_accept_key(key.as_bytes()),
        subprotocol: subprotocol(head, policy.subprotocols),
        extensions: negotiate(offers.into_iter().flatten()),
    })
}

impl Upgrade {
    /// Appends the 101 answer.
    pub fn write_response(&self, out: &mut Vec<u8>) {
        let mut line = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        };
        line("HTTP/1.1 101 Switching Protocols\r\nUpgrade", "websocket");
        line("Connection", "Upgrade");
        line("Sec-WebSocket-Accept", &self.accept_key);
        if let Some(subprotocol) = &self.subprotocol {
            line("Sec-WebSocket-Protocol", subprotocol);
        }
        if let Some((_, extensions)) = &self.extensions {
            line("Sec-WebSocket-Extensions", extensions);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Section 4.2.1, items 1 to 4. A body would be taken for frames.
fn check_request(head: &Head<'_>) -> Result<(), Refusal> {
    if head.method != "GET" {
        return Err(Refusal::MethodNotAllowed);
    }
    if !is_upgrade(head) {
        return Err(Refusal::UpgradeRequired);
    }
    if head.version_minor < 1 {
        return Err(Refusal::BadRequest("a WebSocket handshake needs HTTP/1.1"));
    }
    if !head.has_token("connection", "upgrade") {
        return Err(Refusal::BadRequest("Connection does not name Upgrade"));
    }
    if head.content_length > 0 {
        return Err(Refusal::BadRequest("a WebSocket handshake has no body"));
    }
    Ok(())
}

/// Section 4.2.2, item 4.
fn check_version(head: &Head<'_>) -> Result<(), Refusal> {
    match single(head, "sec-websocket-version") {
        Some("13") => Ok(()),
        Some(_) => Err(Refusal::UpgradeRequired),
        None => Err(Refusal::BadRequest("exactly one Sec-WebSocket-Version is needed")),
    }
}

/// The key: 16 bytes in base64 (section 4.2.1, item 5). The four spare bits
/// are not looked at; the key is only ever hashed.
fn key<'a>(head: &Head<'a>) -> Result<&'a str, Refusal> {
    let key = single(head, "sec-websocket-key")
        .ok_or(Refusal::BadRequest("exactly one Sec-WebSocket-Key is needed"))?;
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    match key.as_bytes() {
        [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().copied().all(base64) => Ok(key),
        _ => Err(Refusal::BadRequest("Sec-WebSocket-Key is not 16 bytes in base64")),
    }
}

/// Browsers say which page they are on (section 10.2). A repeated header is
/// none that a browser sends.
fn check_origin(head: &Head<'_>, allowed: &[String]) -> Result<(), Refusal> {
    let is_allowed = |origin: &str| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
    if allowed.is_empty() || head.headers("origin").all(is_allowed) {
        Ok(())
    } else {
        Err(Refusal::ForbiddenOrigin)
    }
}

/// The client lists subprotocols in the order it prefers them (section 4.1).
fn subprotocol(head: &Head<'_>, spoken: &[String]) -> Option<String> {
    head.headers("sec-websocket-protocol")
        .flat_map(|value| value.split(','))
        .find_map(|name| spoken.iter().find(|spoken| *spoken == name.trim()))
        .cloned()
}

/// The value of a header that must occur once.
fn single<'a>(head: &Head<'a>, name: &'a str) -> Option<&'a str> {
    let mut values = head.headers(name);
    values.next().filter(|_| values.next().is_none())
}
