//! Request heads: what the beginning of one says is never taken back by the rest.

use super::{Entry, chances, owned};
use std::net::{IpAddr, Ipv4Addr};
use throng::forwarded::{client_address, has_forwarding_header};
use throng::http::{HttpError, Parsed, Response, parse};
use throng::limits::{HTTP_BODY_BYTES, HTTP_HEAD_BYTES};

pub(super) const ENTRY: Entry = Entry {
    name: "http_head",
    samples,
    words: &[
        "\r\n",
        "\r\n\r\n",
        "\n",
        ": ",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/2.0",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "X-Forwarded-For: [2001:db8::1]:80, 10.0.0.1\r\n",
        "http://",
        "%zz%ff",
        "?user_id=%41+b&",
        "OPTIONS *",
    ],
    check,
    memory: (16 * 1024, 8),
};

fn samples() -> Vec<Vec<u8>> {
    owned(&[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /ws?user_id=ann%20b&x=%C3%BC HTTP/1.1\r\nHost: chat.example.org:8080\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         X-Forwarded-For: 203.0.113.9, 10.1.2.3\r\n\r\n",
        "POST /api/send HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\nExpect: 100-continue\r\n\r\n{\"user_id\":\"ann\"}",
        "HEAD http://example.org/health HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\nX-Real-IP: ::1\r\n\r\n",
        "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nForwarded: for=\"[2001:db8::1]:4711\"\r\n\r\n",
    ])
}

/// What a head says, without its borrow.
type Said = (String, String, Option<String>, u8, usize, bool, bool, usize);

fn said(input: &[u8]) -> Result<Option<Said>, HttpError> {
    let Parsed::Complete { head, head_len } = parse(input)? else { return Ok(None) };
    let owned = |text: &str| text.to_owned();
    Ok(Some((
        owned(head.method),
        owned(head.path),
        head.query.map(owned),
        head.version_minor,
        head.content_length,
        head.keep_alive,
        head.expects_continue,
        head_len,
    )))
}

fn check(input: &[u8]) -> bool {
    let whole = said(input);
    let mut chances = chances(input);
    for _ in 0..4 {
        let cut = chances.usize(..=input.len());
        match said(&input[..cut]) {
            Ok(None) => {}
            // Nothing that comes later changes it.
            early => assert_eq!(early, whole, "after {cut} bytes"),
        }
    }
    match whole {
        Ok(None) => assert!(input.len() < HTTP_HEAD_BYTES, "still waiting"),
        Ok(Some((.., head_len))) => {
            assert_eq!(said(&input[..head_len]), whole, "what follows the head makes a difference");
            if let Some(before) = head_len.checked_sub(1) {
                assert_eq!(said(&input[..before]), Ok(None), "complete before its last byte");
            }
            check_head(input);
        }
        Err(error) => check_refusal(error),
    }
    whole.is_ok_and(|said| said.is_some())
}

fn check_head(input: &[u8]) {
    let Ok(Parsed::Complete { head, head_len }) = parse(input) else { unreachable!("it was complete") };
    assert!(head_len <= input.len().min(HTTP_HEAD_BYTES));
    assert!(head.content_length <= HTTP_BODY_BYTES);
    assert!(head.path.starts_with('/') || head.path == "*", "{:?}", head.path);
    assert!(!head.path.contains(['?', ' ', '\r', '\n', '\0']), "{:?}", head.path);
    for name in ["host", "connection", "upgrade", "x-forwarded-for", "origin"] {
        for value in head.headers(name) {
            assert!(!value.contains(['\r', '\n', '\0']) && value == value.trim_ascii(), "{value:?}");
        }
    }
    head.query_value("user_id");
    head.has_token("connection", "upgrade");
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    let trusted = ["10.0.0.0/8", "::/0"].map(|net| net.parse().expect("a network"));
    assert_eq!(client_address(peer, &head, &[]), peer, "nobody is trusted");
    if client_address(peer, &head, &trusted) != peer {
        assert!(has_forwarding_header(&head));
    }
}

fn check_refusal(error: HttpError) {
    assert!([400, 411, 413, 431, 505].contains(&error.status), "{error}");
    let mut answer = Vec::new();
    Response::from(error).write_to(&mut answer, false, false);
    assert!(answer.starts_with(format!("HTTP/1.1 {} ", error.status).as_bytes()));
}
