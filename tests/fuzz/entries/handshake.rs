//! Opening handshakes: the first byte picks a header, the rest is its value.

use super::{Entry, owned};
use throng::http::{Parsed, parse};
use throng::ws::deflate::negotiate;
use throng::ws::handshake::{Policy, Upgrade, answer};

pub(super) const ENTRY: Entry = Entry {
    name: "handshake",
    samples,
    words: &[
        "permessage-deflate",
        "; server_max_window_bits=",
        "; client_max_window_bits",
        "; server_no_context_takeover",
        "; client_no_context_takeover",
        "=\"15\"",
        "=08",
        ", ",
        "; ",
        "\"",
        "\\",
        "websocket",
        "Upgrade",
        "chat",
        "\r\nOrigin: ",
        "\r\nSec-WebSocket-Extensions: ",
    ],
    check,
    memory: (16 * 1024, 8),
};

/// What a client sends, and what is put in its place.
const HEADERS: [(&str, &str); 7] = [
    ("Sec-WebSocket-Extensions", "x-none"),
    ("Sec-WebSocket-Protocol", "chat"),
    ("Origin", "https://a.example"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
];

fn samples() -> Vec<Vec<u8>> {
    let mut samples = owned(&[
        "0permessage-deflate",
        "0permessage-deflate; client_max_window_bits",
        "0permessage-deflate; server_max_window_bits=10; client_max_window_bits=\"12\"",
        "0x-other; a=\"b,c\", permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "0permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9",
        "1superchat, chat.v2",
    ]);
    for (index, (_, value)) in HEADERS.iter().enumerate() {
        samples.push(format!("{index}{value}").into_bytes());
    }
    samples
}

fn check(input: &[u8]) -> bool {
    let Some((choice, value)) = input.split_first() else { return false };
    let choice = usize::from(choice.wrapping_sub(b'0')) % HEADERS.len();
    if choice == 0
        && let Ok(value) = std::str::from_utf8(value)
    {
        check_offers(value);
    }
    let mut request = b"GET /ws HTTP/1.1\r\nHost: a".to_vec();
    for (index, (name, usual)) in HEADERS.iter().enumerate() {
        let value = if index == choice { value } else { usual.as_bytes() };
        request.extend([b"\r\n", name.as_bytes(), b": ", value].concat());
    }
    request.extend(b"\r\n\r\n");
    let Ok(Parsed::Complete { head, head_len }) = parse(&request) else { return false };
    if head_len != request.len() {
        // The value had the end of a head in it.
        return false;
    }
    let subprotocols = ["chat".to_owned(), "chat.v2".to_owned()];
    let policy = Policy {
        allowed_origins: &["https://a.example".to_owned()],
        subprotocols: &subprotocols,
        compression: true,
    };
    let Ok(upgrade) = answer(&head, &policy) else { return false };
    assert!(upgrade.subprotocol.as_ref().is_none_or(|agreed| subprotocols.contains(agreed)));
    check_answer(&upgrade);
    true
}

/// What is agreed on does not depend on how offers are spread over header
/// lines, and the answer is itself an offer that leads to the same.
fn check_offers(value: &str) {
    let agreed = negotiate([value].into_iter());
    if !value.contains('"') {
        assert_eq!(negotiate(value.split(',')), agreed, "one line for each");
        assert_eq!(negotiate(["x-other", value].into_iter()), agreed, "after another line");
    }
    let Some((deflate, answer)) = agreed else { return };
    assert!((9..=15).contains(&deflate.server_window_bits), "{deflate:?}");
    assert_eq!(deflate.client_window_bits, 15);
    assert_eq!(negotiate([&*answer].into_iter()), Some((deflate, answer.clone())));
}

/// Nothing the client sent breaks out of its line.
fn check_answer(upgrade: &Upgrade) {
    let mut bytes = Vec::new();
    upgrade.write_response(&mut bytes);
    let text = String::from_utf8(bytes).expect("an answer is text");
    let lines: Vec<_> = text.strip_suffix("\r\n\r\n").expect("an end").split("\r\n").collect();
    let optional = usize::from(upgrade.subprotocol.is_some()) + usize::from(upgrade.extensions.is_some());
    assert_eq!(lines.len(), 4 + optional, "{text}");
    assert!(lines.iter().all(|line| line.bytes().all(|byte| matches!(byte, b' '..=b'~'))), "{text:?}");
}
