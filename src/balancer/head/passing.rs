//! The request as the backend gets it: which headers go through, and which the
//! balancer writes itself.

use super::{Asked, Request, Via};
use crate::forwarded;
use crate::http::Head;
use std::io::Write;

/// Headers written anew, whoever sent them. `Forwarded` is not, but dropped:
/// it would contradict the others.
const ANEW: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded"];

/// What else a proxy says of the client begins so; only a trusted one may.
const CLAIM: &str = "x-forwarded-";

/// Headers about one connection, not about the request (RFC 9110, section
/// 7.6.1). The list is fixed: `Connection` may name any header, and a client
/// must not have those taken out that bound its body or say who it is.
const HOP_BY_HOP: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"];

/// Appends the head that goes to the backend: the request with its headers as
/// they came, order and case kept, but for those about the connection and those
/// that say on whose behalf it is asked, which follow at the end.
///
/// A trusted peer's word for the client, the scheme and the host is kept;
/// anybody else's is replaced. A plain request asks for the connection to be
/// closed, so that its answer ends with it; the target is in origin form.
pub fn write_request(out: &mut Vec<u8>, request: &Request<'_>, via: &Via<'_>) {
    let head = &request.head;
    let is_trusted = forwarded::is_trusted(via.peer, via.trusted);
    let (mark, query) = head.query.map_or(("", ""), |query| ("?", query));
    let minor = head.version_minor;
    let _ = write!(out, "{} {}{mark}{query} HTTP/1.{minor}\r\n", head.method, head.path); // a Vec takes all
    for (name, value) in head.lines() {
        if is_passed_on(name, request.asked, is_trusted) {
            write_line(out, name, &[value]);
        }
    }
    write_line(out, "Connection", &[connection(request)]);
    write_client(out, request, via, is_trusted);
    out.extend_from_slice(b"\r\n");
}

/// `name: value`, the value in parts.
pub(super) fn write_line(out: &mut Vec<u8>, name: &str, value: &[&[u8]]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    value.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Backends that make variables of header names take `_` for `-`.
fn begins(name: &str, with: &str) -> bool {
    let same = |(sent, known): (u8, u8)| sent.eq_ignore_ascii_case(&known) || (sent == b'_' && known == b'-');
    name.len() >= with.len() && name.bytes().zip(with.bytes()).all(same)
}

pub(super) fn is_one_of(name: &str, known: &[&str]) -> bool {
    known.iter().any(|known| known.len() == name.len() && begins(name, known))
}

fn is_passed_on(name: &str, asked: Asked, is_trusted: bool) -> bool {
    let dropped: &[&str] = match asked {
        Asked::Upgrade => &["connection"],
        Asked::Plain | Asked::HeadOnly => &HOP_BY_HOP,
    };
    !is_one_of(name, &ANEW) && !is_one_of(name, dropped) && (is_trusted || !begins(name, CLAIM))
}

/// An upgrade that does not name itself here is for the backend to refuse.
fn connection(request: &Request<'_>) -> &'static [u8] {
    match request.is_upgrade() && request.head.has_token("connection", "upgrade") {
        true => b"Upgrade",
        false => b"close",
    }
}

fn write_client(out: &mut Vec<u8>, request: &Request<'_>, via: &Via<'_>, is_trusted: bool) {
    let head = &request.head;
    let kept = |name| if is_trusted { readable(head, name) } else { None };
    write_forwarded_for(out, request, via, is_trusted);
    let scheme = if via.tls { "https" } else { "http" };
    write_line(out, "X-Forwarded-Proto", &[kept("x-forwarded-proto").unwrap_or(scheme).as_bytes()]);
    if let Some(host) = kept("x-forwarded-host").or_else(|| readable(head, "host")) {
        write_line(out, "X-Forwarded-Host", &[host.as_bytes()]);
    }
    write_line(out, "X-Real-IP", &[request.address.to_string().as_bytes()]);
}

/// The first value of that name that says something.
fn readable<'a>(head: &Head<'a>, name: &str) -> Option<&'a str> {
    head.headers(name).find(|value| !value.is_empty() && value.is_ascii())
}

/// The peer stands at the end of the way the request has come. A client known
/// by `X-Real-IP` alone is put before it: the backend looks there only when
/// there is no way.
fn write_forwarded_for(out: &mut Vec<u8>, request: &Request<'_>, via: &Via<'_>, is_trusted: bool) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    let (start, peer) = (out.len(), via.peer.to_canonical());
    let came = request.head.lines().filter(|(name, value)| {
        is_trusted
            && name.eq_ignore_ascii_case("x-forwarded-for")
            && value.iter().any(|byte| !b", \t".contains(byte))
    });
    for (_, hops) in came {
        out.extend_from_slice(hops);
        out.extend_from_slice(b", ");
    }
    if out.len() == start && request.address != peer {
        let _ = write!(out, "{}, ", request.address); // a Vec takes all
    }
    let _ = write!(out, "{peer}\r\n");
}
