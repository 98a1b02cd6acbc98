//! The JSON messages of clients, and those made from them.

use super::{Entry, owned};
use serde_json::Value;
use serde_json::value::RawValue;
use throng::protocol::{self, ClientMessage, InvalidJson};

pub(super) const ENTRY: Entry = Entry {
    name: "client_message",
    samples,
    words: &[
        "\"type\":",
        "\"send_message\"",
        "\"broadcast\"",
        "\"ping\"",
        "\"target_user\":",
        "\"content\":",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\\u0041",
        "\\ud83e\\udd80",
        "\\udead",
        "\\\\",
        "1e999",
        "-0",
        "null",
        "true",
        "\u{7f}",
    ],
    check,
    memory: (16 * 1024, 64),
};

fn samples() -> Vec<Vec<u8>> {
    owned(&[
        r#"{"type":"ping"}"#,
        r#" {"type" : "send_message", "target_user": "bob", "content": {"a":[1,2.5e3,null],"b":"\u00fc"}} "#,
        r#"{"content":"x","target_user":"\u0062ob \ud83e\udd80","type":"send_message","more":[[[[{}]]]]}"#,
        r#"{"type":"broadcast","content":[true,false,"🦀"],"content":-0.0}"#,
        r#"{"type":"subscribe","type":"other","n":12345678901234567890}"#,
        r#"[1,{"type":"ping"}]"#,
        r#"{"t\u0079pe":"ping"}"#,
    ])
}

fn check(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let parsed = protocol::parse(&text);
    let is_json = serde_json::from_str::<&RawValue>(&text).is_ok();
    assert_eq!(parsed.is_ok(), is_json, "JSON or not");
    assert_eq!(protocol::parse(&format!("\n\t {text}\r ")), parsed, "with blanks around it");
    check_quoted(&text);
    match parsed {
        Err(InvalidJson) => return false,
        Ok(ClientMessage::Ping) => check_returned(protocol::write_pong, &text),
        Ok(ClientMessage::Unknown) => check_returned(protocol::write_echo, &text),
        Ok(ClientMessage::Malformed(why)) => assert!(!why.is_empty()),
        Ok(ClientMessage::SendMessage { target_user, content }) => {
            assert!(!target_user.is_empty() && target_user.len() <= text.len());
            check_passed_on(protocol::write_message, &target_user, content);
        }
        Ok(ClientMessage::Broadcast { content }) => {
            check_passed_on(protocol::write_broadcast, "ann", content);
        }
    }
    true
}

/// Parses what was written. Deeper nesting than the reader here can follow is
/// JSON all the same.
fn read(out: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(out).expect("what is sent is text");
    serde_json::from_str::<&RawValue>(text).expect("what is sent is JSON");
    // Numbers beyond its range are JSON as well.
    serde_json::from_str(text).ok()
}

/// Any text can stand in a message of ours.
fn check_quoted(text: &str) {
    let mut out = Vec::new();
    protocol::write_error(&mut out, text);
    assert_eq!(read(&out).expect("flat")["message"], text);
    out.clear();
    protocol::write_undelivered(&mut out, text);
    assert_eq!(read(&out).expect("flat")["target_user"], text);
    assert!(out.len() <= 6 * text.len() + 100, "{} bytes", out.len());
}

fn check_returned(write: fn(&mut Vec<u8>, &str, &str), original: &str) {
    let mut out = Vec::new();
    write(&mut out, "2026-01-02T03:04:05.678Z", original);
    if let (Some(said), Ok(original)) = (read(&out), serde_json::from_str::<Value>(original)) {
        assert_eq!(said["original_data"], original);
    }
}

fn check_passed_on(write: fn(&mut Vec<u8>, &str, &str), from: &str, content: &str) {
    let mut out = Vec::new();
    write(&mut out, from, content);
    if let (Some(said), Ok(content)) = (read(&out), serde_json::from_str::<Value>(content)) {
        assert_eq!((&said["from"], &said["content"]), (&Value::from(from), &content));
    }
}
