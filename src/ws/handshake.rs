//! The opening handshake of the server (RFC 6455, section 4.2): whether an
//! upgrade is granted, and the answer that grants it. A refusal only says why;
//! the HTTP answer to it is written where all of them are.

use crate::http::Head;
use crate::ws::deflate::{Deflate, negotiate};
use tungstenite::handshake::derive_accept_key;

/// The subprotocol that a client offers to say that the next one it offers is
/// its token. Browsers let a page set no other header. It is always spoken, so
/// that a client need not know whether its token is asked for.
pub const TOKEN_SUBPROTOCOL: &str = "throng.jwt";

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
    /// here, else [`TOKEN_SUBPROTOCOL`] if it named that.
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

/// The client lists subprotocols in the order it prefers them (section 4.1). A
/// token among them is none.
fn subprotocol(head: &Head<'_>, spoken: &[String]) -> Option<String> {
    let chosen = offered(head)
        .filter(|(_, is_token)| !is_token)
        .find_map(|(name, _)| spoken.iter().find(|spoken| *spoken == name))
        .cloned();
    let asks = || offered(head).any(|(name, is_token)| !is_token && name == TOKEN_SUBPROTOCOL);
    chosen.or_else(|| asks().then(|| TOKEN_SUBPROTOCOL.to_owned()))
}

/// The tokens offered as subprotocols: each stands behind a [`TOKEN_SUBPROTOCOL`].
pub fn offered_tokens<'s, 'a>(head: &'s Head<'a>) -> impl Iterator<Item = &'a str> + use<'s, 'a> {
    offered(head).filter_map(|(token, is_token)| is_token.then_some(token))
}

/// The subprotocols offered, and whether each stands in a token's place.
fn offered<'s, 'a>(head: &'s Head<'a>) -> impl Iterator<Item = (&'a str, bool)> + use<'s, 'a> {
    let names = head.headers("sec-websocket-protocol").flat_map(|value| value.split(',')).map(str::trim);
    names.scan(false, |is_token, name| {
        let this = (name, *is_token);
        *is_token = !*is_token && name == TOKEN_SUBPROTOCOL;
        Some(this)
    })
}

/// The value of a header that must occur once.
fn single<'a>(head: &Head<'a>, name: &'a str) -> Option<&'a str> {
    let mut values = head.headers(name);
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Parsed, parse};

    /// The example of RFC 6455, section 1.3.
    const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";

    const ANY: Policy<'_> = Policy { allowed_origins: &[], subprotocols: &[], compression: true };

    fn with_head<T>(request: &str, use_head: impl FnOnce(&Head<'_>) -> T) -> T {
        match parse(request.as_bytes()) {
            Ok(Parsed::Complete { head, .. }) => use_head(&head),
            other => panic!("{request}: {other:?}"),
        }
    }

    fn judge(request: &str, policy: &Policy<'_>) -> Result<Upgrade, Refusal> {
        with_head(request, |head| answer(head, policy))
    }

    /// The example with something else in a place.
    fn check(from: &str, to: &str, expected: Result<(), Refusal>) {
        assert!(REQUEST.contains(from), "{from}");
        let request = REQUEST.replace(from, to);
        assert_eq!(judge(&request, &ANY).map(|_| ()), expected, "{request}");
    }

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn the_example_of_the_rfc_is_granted() {
        let upgrade = judge(REQUEST, &ANY).unwrap();
        assert_eq!(upgrade.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((upgrade.subprotocol, upgrade.extensions), (None, None));
    }

    #[test]
    fn what_is_allowed_to_vary() {
        check("Upgrade: websocket", "upgrade: h2c, WebSocket", Ok(()));
        check("Connection: Upgrade", "connection: keep-alive, upgrade", Ok(()));
        check("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade", Ok(()));
        check("Origin: http://example.com\r\n", "", Ok(()));
        check("dGhlIHNhbXBsZSBub25jZQ==", "abcdefghijklmnopqrs+/9==", Ok(()));
    }

    #[test]
    fn refusals_say_why() {
        use Refusal::{BadRequest, MethodNotAllowed, UpgradeRequired};
        check("GET", "POST", Err(MethodNotAllowed));
        check("GET", "get", Err(MethodNotAllowed));
        check("Upgrade: websocket", "Upgrade: h2c", Err(UpgradeRequired));
        check("Upgrade: websocket\r\n", "", Err(UpgradeRequired));
        check("HTTP/1.1", "HTTP/1.0", Err(BadRequest("a WebSocket handshake needs HTTP/1.1")));
        let connection = BadRequest("Connection does not name Upgrade");
        check("Connection: Upgrade", "Connection: keep-alive", Err(connection));
        check("Connection: Upgrade\r\n", "", Err(connection));
        let body = BadRequest("a WebSocket handshake has no body");
        check("Origin:", "Content-Length: 5\r\nOrigin:", Err(body));
        for version in ["8", "14", "013", ""] {
            check("Version: 13", &format!("Version: {version}"), Err(UpgradeRequired));
        }
        let version = BadRequest("exactly one Sec-WebSocket-Version is needed");
        check("Sec-WebSocket-Version: 13\r\n", "", Err(version));
        check("Origin:", "Sec-WebSocket-Version: 13\r\nOrigin:", Err(version));
        let one_key = BadRequest("exactly one Sec-WebSocket-Key is needed");
        check("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", Err(one_key));
        check("Origin:", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin:", Err(one_key));
        let key = BadRequest("Sec-WebSocket-Key is not 16 bytes in base64");
        for bad in
            ["", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25j*Q==", "aGk="]
        {
            check("dGhlIHNhbXBsZSBub25jZQ==", bad, Err(key));
        }
    }

    #[test]
    fn an_upgrade_is_recognised_even_when_it_is_malformed() {
        let asks = |request: &str| with_head(request, is_upgrade);
        assert!(asks(REQUEST));
        assert!(asks(&REQUEST.replace("Sec-WebSocket-Key", "X-Key").replace("GET", "POST")));
        assert!(!asks(&REQUEST.replace("Upgrade: websocket", "Upgrade: h2c")));
    }

    #[test]
    fn browsers_are_held_to_the_allowed_origins() {
        let allowed = strings(&["https://a.example", "http://EXAMPLE.com"]);
        let policy = Policy { allowed_origins: &allowed, ..ANY };
        let judge = |request: &str| judge(request, &policy).map(|_| ());
        assert_eq!(judge(REQUEST), Ok(()));
        assert_eq!(judge(&REQUEST.replace("Origin: http://example.com\r\n", "")), Ok(()));
        for foreign in ["http://example.com:8080", "https://example.com", "null", "http://example.com.evil"] {
            let request = REQUEST.replace("http://example.com", foreign);
            assert_eq!(judge(&request), Err(Refusal::ForbiddenOrigin), "{foreign}");
        }
        let twice = REQUEST.replace("Origin:", "Origin: http://evil.example\r\nOrigin:");
        assert_eq!(judge(&twice), Err(Refusal::ForbiddenOrigin));
    }

    #[test]
    fn the_client_has_the_say_among_subprotocols() {
        let check = |spoken: &[&str], expected: Option<&str>| {
            let spoken = strings(spoken);
            let policy = Policy { subprotocols: &spoken, ..ANY };
            assert_eq!(judge(REQUEST, &policy).unwrap().subprotocol.as_deref(), expected, "{spoken:?}");
        };
        check(&["superchat", "chat"], Some("chat"));
        check(&["superchat"], Some("superchat"));
        check(&["Chat"], None);
        check(&[], None);
    }

    #[test]
    fn a_token_is_never_chosen() {
        let check = |offer: &str, spoken: &[&str], chosen: Option<&str>, tokens: &[&str]| {
            let request = REQUEST.replace("chat, superchat", offer);
            let spoken = strings(spoken);
            let policy = Policy { subprotocols: &spoken, ..ANY };
            assert_eq!(judge(&request, &policy).unwrap().subprotocol.as_deref(), chosen, "{offer}");
            with_head(&request, |head| {
                assert_eq!(offered_tokens(head).collect::<Vec<_>>(), tokens, "{offer}")
            });
        };
        check("throng.jwt, a.b.c", &[], Some("throng.jwt"), &["a.b.c"]);
        check("chat, throng.jwt, a.b.c", &["chat"], Some("chat"), &["a.b.c"]);
        check("throng.jwt, a.b.c, chat", &["chat"], Some("chat"), &["a.b.c"]);
        check("throng.jwt, chat", &["chat"], Some("throng.jwt"), &["chat"]);
        check("throng.jwt", &[], Some("throng.jwt"), &[]);
        check("throng.jwt, throng.jwt, chat", &["chat"], Some("chat"), &["throng.jwt"]);
        check("a.b.c", &[], None, &[]);
    }

    #[test]
    fn compression_is_agreed_only_where_it_is_on() {
        let offers =
            "Sec-WebSocket-Extensions: foo\r\nSec-WebSocket-Extensions: permessage-deflate\r\nOrigin:";
        let request = REQUEST.replace("Origin:", offers);
        assert!(judge(&request, &ANY).unwrap().extensions.is_some());
        assert!(judge(&request, &Policy { compression: false, ..ANY }).unwrap().extensions.is_none());
    }

    #[test]
    fn the_answer_on_the_wire() {
        let check = |upgrade: Upgrade, rest: &str| {
            let mut out = Vec::new();
            upgrade.write_response(&mut out);
            let start = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
            assert_eq!(String::from_utf8(out).unwrap(), format!("{start}{rest}\r\n"));
        };
        let plain = judge(REQUEST, &ANY).unwrap();
        check(plain.clone(), "");
        let full = Upgrade {
            subprotocol: Some("chat".to_owned()),
            extensions: negotiate(["permessage-deflate; server_max_window_bits=9"].into_iter()),
            ..plain
        };
        check(
            full,
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate; \
             server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9\r\n",
        );
    }
}
