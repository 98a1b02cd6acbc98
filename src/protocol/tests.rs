use super::*;
use serde_json::{Value, json};

fn send<'a>(target_user: &'a str, content: &'a str) -> Result<ClientMessage<'a>, InvalidJson> {
    Ok(ClientMessage::SendMessage { target_user: Cow::Borrowed(target_user), content })
}

fn broadcast(content: &str) -> Result<ClientMessage<'_>, InvalidJson> {
    Ok(ClientMessage::Broadcast { content })
}

fn malformed(text: &str) -> bool {
    matches!(parse(text), Ok(ClientMessage::Malformed(_)))
}

#[test]
fn known_types_are_recognised() {
    let check = |text: &str, expected: Result<ClientMessage<'_>, InvalidJson>| {
        assert_eq!(parse(text), expected, "{text}");
    };
    check(r#"{"type":"ping"}"#, Ok(ClientMessage::Ping));
    check(" \r\n{ \"n\" : [1] , \"type\" :\t\"ping\" } ", Ok(ClientMessage::Ping));
    check(r#"{"ty\u0070e":"p\u0069ng"}"#, Ok(ClientMessage::Ping));
    check(r#"{"type":"send_message","target_user":"ann","content":"hi"}"#, send("ann", r#""hi""#));
    check(
        r#"{"content":{"a": [1 ]},"target_user":"ann","type":"send_message"}"#,
        send("ann", r#"{"a": [1 ]}"#),
    );
    check(r#"{"type":"send_message","target_user":"\u00fc\n","content":null}"#, send("ü\n", "null"));
    check(r#"{"type":"broadcast","content": 1e999 }"#, broadcast("1e999"));
    check(r#"{"type":"broadcast","content":"\ud800"}"#, broadcast(r#""\ud800""#));
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts() {
    let text = r#"{"type":"ping","type":"broadcast","content":1,"content":2}"#;
    assert_eq!(parse(text), broadcast("2"));
    assert_eq!(parse(r#"{"type":"ping","type":3}"#), Ok(ClientMessage::Unknown));
}

#[test]
fn a_plain_target_is_borrowed() {
    let text = r#"{"type":"send_message","target_user":"ann","content":1}"#;
    let Ok(ClientMessage::SendMessage { target_user, .. }) = parse(text) else {
        panic!("not a send_message")
    };
    assert!(matches!(target_user, Cow::Borrowed("ann")));
}

#[test]
fn a_known_type_without_its_fields_is_malformed() {
    for text in [
        r#"{"type":"send_message"}"#,
        r#"{"type":"send_message","target_user":"ann"}"#,
        r#"{"type":"send_message","content":1}"#,
        r#"{"type":"send_message","target_user":"","content":1}"#,
        r#"{"type":"send_message","target_user":7,"content":1}"#,
        r#"{"type":"send_message","target_user":null,"content":1}"#,
        r#"{"type":"send_message","target_user":["ann"],"content":1}"#,
        r#"{"type":"send_message","target_user":"\ud800","content":1}"#,
        r#"{"type":"broadcast"}"#,
    ] {
        assert!(malformed(text), "{text}");
    }
}

#[test]
fn other_json_is_unknown() {
    for text in [
        "{}",
        "[]",
        "1",
        "1e999",
        "-0",
        r#""{""#,
        "null",
        " true ",
        r#"{"type":"PING"}"#,
        r#"{"type":"pong"}"#,
        r#"{"type":5}"#,
        r#"{"type":{"type":"ping"}}"#,
        r#"{"Type":"ping"}"#,
        r#"{"type":"ping\ud800"}"#,
        r#"{"\ud800":1}"#,
        r#"["type","ping"]"#,
    ] {
        assert_eq!(parse(text), Ok(ClientMessage::Unknown), "{text}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        " ",
        "hello",
        "{",
        "}",
        r#"{"type":"ping""#,
        r#"{"type":"ping"}}"#,
        r#"{"type":"ping"} x"#,
        r#"{"type":"ping",}"#,
        r#"{type:"ping"}"#,
        r#"{"type":'ping'}"#,
        r#"{"type":"broadcast","content":}"#,
        r#"{"type":"broadcast","content":[1,]}"#,
        r#"{"type":"broadcast","content":01}"#,
        r#"{"type":"broadcast","content":NaN}"#,
        r#"{"type":"broadcast","content":"\x"}"#,
        "{\"type\":\"broadcast\",\"content\":\"\n\"}",
        "{\"a\nb\":1}",
        "\u{feff}{}",
        "[1",
        "01",
        "nul",
    ] {
        assert_eq!(parse(text), Err(InvalidJson), "{text}");
    }
}

#[test]
fn deep_nesting_is_neither_refused_nor_dangerous() {
    let depth = 100_000;
    let deep = "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(parse(&deep), Ok(ClientMessage::Unknown));
    assert_eq!(parse(&format!(r#"{{"type":{deep}}}"#)), Ok(ClientMessage::Unknown));
    assert_eq!(parse(&format!(r#"{{"other":{deep},"type":"ping"}}"#)), Ok(ClientMessage::Ping));
    assert_eq!(parse(&format!(r#"{{"type":"broadcast","content":{deep}}}"#)), broadcast(&deep));
    assert_eq!(parse(&"[".repeat(depth)), Err(InvalidJson));
}

fn check_written(write: impl Fn(&mut Vec<u8>), expected: &str, value: Value) {
    let mut out = b"before".to_vec();
    write(&mut out);
    let text = std::str::from_utf8(&out).expect("UTF-8").strip_prefix("before").expect("appended");
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), value);
}

#[test]
fn messages_have_their_text() {
    const WHEN: &str = "2026-01-02T03:04:05Z";
    check_written(
        |out| write_welcome(out, "a\"b", WHEN, IpAddr::from([127, 0, 0, 1]), br#"{"id":1}"#),
        r#"{"type":"welcome","message":"Connected to a\"b","timestamp":"2026-01-02T03:04:05Z","client_ip":"127.0.0.1","service_identity":{"id":1}}"#,
        json!({"type": "welcome", "message": "Connected to a\"b", "timestamp": WHEN, "client_ip": "127.0.0.1", "service_identity": {"id": 1}}),
    );
    check_written(
        |out| write_pong(out, WHEN, r#"{"type": "ping"}"#),
        r#"{"type":"pong","timestamp":"2026-01-02T03:04:05Z","original_data":{"type": "ping"}}"#,
        json!({"type": "pong", "timestamp": WHEN, "original_data": {"type": "ping"}}),
    );
    check_written(
        |out| write_echo(out, WHEN, "[1]"),
        r#"{"type":"echo","timestamp":"2026-01-02T03:04:05Z","original_data":[1]}"#,
        json!({"type": "echo", "timestamp": WHEN, "original_data": [1]}),
    );
    check_written(
        |out| write_error(out, "Invalid JSON"),
        r#"{"type":"error","message":"Invalid JSON"}"#,
        json!({"type": "error", "message": "Invalid JSON"}),
    );
    check_written(
        |out| write_send_denied(out, "b\"ob"),
        r#"{"type":"error","message":"Not permitted: send_message","target_user":"b\"ob"}"#,
        json!({"type": "error", "message": "Not permitted: send_message", "target_user": "b\"ob"}),
    );
    check_written(
        write_broadcast_denied,
        r#"{"type":"error","message":"Not permitted: broadcast"}"#,
        json!({"type": "error", "message": "Not permitted: broadcast"}),
    );
    check_written(
        |out| write_undelivered(out, "\u{1}\\"),
        r#"{"type":"error","message":"User is not connected","target_user":"\u0001\\"}"#,
        json!({"type": "error", "message": "User is not connected", "target_user": "\u{1}\\"}),
    );
    check_written(
        |out| write_message(out, "a\nü", r#"{"x":1}"#),
        r#"{"type":"message","from":"a\nü","content":{"x":1}}"#,
        json!({"type": "message", "from": "a\nü", "content": {"x": 1}}),
    );
    check_written(
        |out| write_broadcast(out, "\"", "null"),
        r#"{"type":"broadcast","from":"\"","content":null}"#,
        json!({"type": "broadcast", "from": "\"", "content": null}),
    );
    check_written(
        |out| write_shutdown(out, "drain", 1500, WHEN, None),
        r#"{"type":"shutdown","reason":"drain","reconnect_after_ms":1500,"timestamp":"2026-01-02T03:04:05Z"}"#,
        json!({"type": "shutdown", "reason": "drain", "reconnect_after_ms": 1500, "timestamp": WHEN}),
    );
    check_written(
        |out| write_shutdown(out, "drain", 0, WHEN, Some((3, 17))),
        r#"{"type":"shutdown","reason":"drain","reconnect_after_ms":0,"timestamp":"2026-01-02T03:04:05Z","final_messages":3,"last_seq":17}"#,
        json!({"type": "shutdown", "reason": "drain", "reconnect_after_ms": 0, "timestamp": WHEN, "final_messages": 3, "last_seq": 17}),
    );
    check_written(
        |out| write_business(out, 9, WHEN, r#""abc""#),
        r#"{"type":"business","seq":9,"timestamp":"2026-01-02T03:04:05Z","data":"abc"}"#,
        json!({"type": "business", "seq": 9, "timestamp": WHEN, "data": "abc"}),
    );
    check_written(
        |out| write_kicked(out, "go"),
        r#"{"type":"kicked","reason":"go"}"#,
        json!({"type": "kicked", "reason": "go"}),
    );
}

#[test]
fn a_batch_holds_its_messages_in_order() {
    let check = |messages: &[&[u8]], expected: &str, value: Value| {
        check_written(|out| write_batch(out, messages.iter().copied()), expected, value);
    };
    check(&[], r#"{"type":"batch","messages":[]}"#, json!({"type": "batch", "messages": []}));
    check(&[b"1"], r#"{"type":"batch","messages":[1]}"#, json!({"type": "batch", "messages": [1]}));
    check(
        &[b"{}", b"\"a\""],
        r#"{"type":"batch","messages":[{},"a"]}"#,
        json!({"type": "batch", "messages": [{}, "a"]}),
    );
}

#[test]
fn what_is_written_is_counted_as_its_type() {
    type Write<'a> = &'a dyn Fn(&mut Vec<u8>);
    let written: [(Sent, Write<'_>); 10] = [
        (Sent::Message, &|out| write_message(out, "ann", "1")),
        (Sent::Broadcast, &|out| write_broadcast(out, "ann", "1")),
        (Sent::Echo, &|out| write_echo(out, "now", "1")),
        (Sent::Pong, &|out| write_pong(out, "now", "1")),
        (Sent::Error, &|out| write_error(out, "why")),
        (Sent::Welcome, &|out| write_welcome(out, "a", "now", IpAddr::from([127, 0, 0, 1]), b"{}")),
        (Sent::Batch, &|out| write_batch(out, [&b"1"[..]])),
        (Sent::Business, &|out| write_business(out, 1, "now", "1")),
        (Sent::Shutdown, &|out| write_shutdown(out, "draining", 1, "now", None)),
        (Sent::Kicked, &|out| write_kicked(out, "why")),
    ];
    for (expected, write) in written {
        let mut text = Vec::new();
        write(&mut text);
        assert_eq!(Sent::of(&text), expected, "{}", String::from_utf8_lossy(&text));
    }
    let mut undelivered = Vec::new();
    write_undelivered(&mut undelivered, "ann");
    assert_eq!(Sent::of(&undelivered), Sent::Error);
    for composed in
        ["", "1", "{}", r#"{"type":"#, r#"{"type":"messages"}"#, r#"{"type":"m"}"#, r#"{"type":""}"#]
    {
        assert_eq!(Sent::of(composed.as_bytes()), Sent::Other, "{composed}");
    }
}

#[test]
fn what_is_read_is_counted_as_its_type() {
    for (text, expected) in [
        (r#"{"type":"ping"}"#, Received::Ping),
        (r#"{"type":"send_message","target_user":"a","content":1}"#, Received::SendMessage),
        (r#"{"type":"send_message"}"#, Received::Invalid),
        (r#"{"type":"broadcast","content":1}"#, Received::Broadcast),
        (r#"{"type":"else"}"#, Received::Unknown),
        ("7", Received::Unknown),
        ("{", Received::Invalid),
    ] {
        assert_eq!(Received::of(&parse(text)), expected, "{text}");
    }
}
