//! The WebSocket endpoints.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::node::{DEADLINE, Node};
use crate::socket::{
    self, BINARY, CLOSE, FIN, Frame, PING, PONG, RSV1, Socket, TEXT, UPGRADE, frame, text, upgrade,
};
use crate::web::Web;

/// A client that is not ours.
fn third_party(node: &Node, target: &str) -> tungstenite::WebSocket<TcpStream> {
    let stream = TcpStream::connect(node.http).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = format!("ws://{}{target}", node.http);
    tungstenite::client::client(address.as_str(), stream).unwrap().0
}

fn read_json(client: &mut tungstenite::WebSocket<TcpStream>) -> Value {
    serde_json::from_str(client.read().unwrap().to_text().unwrap()).unwrap()
}

#[test]
fn a_client_is_welcomed_and_answered() {
    let node = Node::start(&["--service-name", "shop"]);
    let mut client = third_party(&node, "/ws?user_id=alice");
    let welcome = read_json(&mut client);
    let keys: Vec<_> = welcome.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["client_ip", "message", "service_identity", "timestamp", "type"]);
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(welcome["client_ip"], "127.0.0.1");
    let identity = &welcome["service_identity"];
    assert_eq!(*identity, node.json("/health")["service_identity"]);
    let display_name = identity["display_name"].as_str().unwrap();
    assert_eq!(welcome["message"], format!("Connected to {display_name}"));
    assert!(humantime::parse_rfc3339(welcome["timestamp"].as_str().unwrap()).is_ok());

    let ping = r#"{"type":"ping","n":1.50,"nested":{"a":[]}}"#;
    client.send(Message::text(ping)).unwrap();
    let pong = client.read().unwrap();
    assert!(pong.to_text().unwrap().contains(ping), "passed on as it was written: {pong}");
    let pong: Value = serde_json::from_str(pong.to_text().unwrap()).unwrap();
    assert_eq!((&pong["type"], &pong["original_data"]["n"]), (&"pong".into(), &1.5.into()));
    assert!(humantime::parse_rfc3339(pong["timestamp"].as_str().unwrap()).is_ok());

    for unknown in
        [r#"{"type":"something","x":1}"#, r#"{"no":"type"}"#, r#"[1,"two",null]"#, "3", r#"{"type":7}"#]
    {
        client.send(Message::text(unknown)).unwrap();
        let echo = read_json(&mut client);
        assert_eq!(echo["type"], "echo", "{unknown}");
        assert_eq!(echo["original_data"], serde_json::from_str::<Value>(unknown).unwrap());
    }
    for invalid in ["no json", "", "{", r#"{"type":"ping"} "#.repeat(2).as_str()] {
        client.send(Message::text(invalid)).unwrap();
        assert_eq!(read_json(&mut client), json!({"type": "error", "message": "Invalid JSON"}), "{invalid}");
    }
    for malformed in [r#"{"type":"send_message"}"#, r#"{"type":"broadcast"}"#] {
        client.send(Message::text(malformed)).unwrap();
        assert_eq!(read_json(&mut client)["type"], "error", "{malformed}");
    }
    client.send(Message::binary(vec![0, 255, 1])).unwrap();
    assert_eq!(client.read().unwrap(), Message::binary(vec![0, 255, 1]));
    client.send(Message::Ping(b"still there".as_slice().into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong(b"still there".as_slice().into()));
    client.close(None).unwrap();
    assert!(matches!(client.read(), Ok(Message::Close(None))));
    assert!(matches!(client.read(), Err(tungstenite::Error::ConnectionClosed)));
    assert_eq!(node.metric("throng_messages_received_total{type=\"invalid\"}"), 6);
    node.wait_for_connections(0);
}

#[test]
fn echo_returns_what_it_is_sent() {
    let node = Node::start(&["--message-bytes-max", "1MiB", "--outbound-bytes-max", "2MiB"]);
    let mut client = third_party(&node, "/echo");
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        for message in [Message::text("é".repeat(size / 2)), Message::binary(vec![0xfe; size])] {
            client.send(message.clone()).unwrap();
            assert!(client.read().unwrap() == message, "{size}");
        }
    }
    client.send(Message::text("not json")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("not json"));
}

#[test]
fn fragments_are_one_message_with_control_frames_between() {
    let node = Node::start(&[]);
    let mut socket = node.socket("/echo");
    let pieces = [frame(TEXT, b"Hel"), frame(FIN | PING, b"?"), frame(0, b""), frame(FIN, b"lo")];
    for byte in pieces.concat() {
        socket.send([byte]);
    }
    assert_eq!(socket.frame(), Frame { first: FIN | PONG, payload: b"?".to_vec() });
    assert_eq!(socket.frame(), Frame { first: FIN | TEXT, payload: b"Hello".to_vec() });
}

#[test]
fn the_second_port_speaks_websocket_on_any_path() {
    let node = Node::start(&["--ws-port", "auto"]);
    let address = node.ws.unwrap();
    for target in ["/", "/ws?user_id=alice", "/any/thing?user_id=bob", "/health"] {
        let mut socket = Socket::connect(address, target, "");
        assert_eq!(socket.json()["type"], "welcome", "{target}");
        socket.assert_alive();
    }
    let mut alice = Socket::connect(address, "/x?user_id=alice", "");
    assert_eq!(alice.json()["type"], "welcome");
    node.user("carol").send_message("alice", 1);
    assert_eq!(alice.json(), json!({"type": "message", "from": "carol", "content": 1}), "one directory");
    let mut echo = Socket::connect(address, "/echo", "");
    echo.send_text("raw");
    assert_eq!(echo.frame().payload, b"raw");
    assert_eq!(Web::connect(address).request("GET", "/health", "", "").status, 426, "no HTTP API here");
}

#[test]
fn a_handshake_that_is_wrong_is_refused_with_its_status() {
    let node = Node::start(&["--allowed-origin", "https://good.example"]);
    let check = |line: &str, headers: &str, status: u16| {
        let mut web = node.web();
        web.send(format!("{line} HTTP/1.1\r\nHost: node\r\n{headers}\r\n"));
        let response = web.head();
        assert_eq!(response.status, status, "{line} {headers}");
        response
    };
    let plain = check("GET /ws", "", 426);
    assert_eq!(plain.header("sec-websocket-version"), Some("13"));
    assert_eq!(plain.header("upgrade"), Some("websocket"));
    let old = check("GET /ws", &UPGRADE.replace("Version: 13", "Version: 8"), 426);
    assert_eq!(old.header("sec-websocket-version"), Some("13"));
    assert_eq!(check("POST /ws", UPGRADE, 405).header("allow"), Some("GET"));
    check("GET /echo", "", 426);
    check("GET /ws", &UPGRADE.replace("Sec-WebSocket-Key", "X-Key"), 400);
    check("GET /ws", &UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400);
    check("GET /ws", &UPGRADE.replace("Connection: Upgrade", "Connection: keep-alive"), 400);
    check("GET /ws", &UPGRADE.replace("Sec-WebSocket-Version: 13\r\n", ""), 400);
    check("GET /nowhere", UPGRADE, 404);
    check("GET /health", UPGRADE, 404);
    check("GET /ws", &format!("{UPGRADE}Origin: https://evil.example\r\n"), 403);
    check("GET /ws", &format!("{UPGRADE}Origin: https://good.example.evil.example\r\n"), 403);
    check("GET /ws", &format!("{UPGRADE}Origin: https://good.example\r\n"), 101);
    check("GET /ws", UPGRADE, 101);
    let mut kept = node.web();
    assert_eq!(kept.request("GET", "/ws", "", "").status, 426);
    kept.send(upgrade("/ws", ""));
    assert!(Socket::accept(kept).is_ok(), "a refusal leaves the connection usable");
}

#[test]
fn a_subprotocol_is_agreed_on_only_if_it_is_spoken() {
    let node = Node::start(&["--subprotocol", "v1.throng", "--subprotocol", "v2.throng"]);
    let check = |offered: &str, agreed: Option<&str>| {
        let header = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        let socket = Socket::connect(node.http, "/ws", &header);
        assert_eq!(socket.answer.header("sec-websocket-protocol"), agreed, "{offered}");
    };
    check("v2.throng", Some("v2.throng"));
    check("unknown, v2.throng, v1.throng", Some("v2.throng"));
    check("unknown", None);
    check("V1.THRONG", None);
    assert_eq!(node.socket("/ws").answer.header("sec-websocket-protocol"), None);
}

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

#[test]
fn messages_are_compressed_for_those_who_agreed() {
    let node = Node::start(&["--reactors", "2"]);
    let mut echo = Socket::connect(node.http, "/echo", DEFLATE);
    let agreed = echo.answer.header("sec-websocket-extensions").unwrap();
    assert!(agreed.starts_with("permessage-deflate"), "{agreed}");
    let long = "all work and no play ".repeat(500);
    for _ in 0..3 {
        echo.send(frame(FIN | RSV1 | TEXT, &socket::deflate(long.as_bytes())));
        let answer = echo.frame();
        assert_eq!(answer.first, FIN | RSV1 | TEXT);
        assert!(answer.payload.len() < long.len() / 10, "{}", answer.payload.len());
        assert!(socket::inflate(&answer.payload, 1 << 16) == long.as_bytes());
    }
    echo.send_text("plain is fine too");
    assert_eq!(echo.frame(), Frame { first: FIN | TEXT, payload: b"plain is fine too".to_vec() });
    // Fragments of a compressed message; the flag stands on the first.
    let deflated = socket::deflate(long.as_bytes());
    let (head, tail) = deflated.split_at(7);
    echo.send([frame(RSV1 | BINARY, head), frame(FIN | PING, b""), frame(FIN, tail)].concat());
    assert_eq!(echo.frame().first, FIN | PONG);
    let answer = echo.frame();
    assert_eq!(answer.first, FIN | RSV1 | BINARY);
    assert!(socket::inflate(&answer.payload, 1 << 16) == long.as_bytes());

    let mut modern = Socket::connect(node.http, "/ws?user_id=modern", DEFLATE);
    let welcome = modern.frame();
    assert_eq!(welcome.first, FIN | RSV1 | TEXT);
    assert!(socket::inflate(&welcome.payload, 1 << 16).starts_with(br#"{"type":"welcome""#));
    let mut plain = node.user("plain");
    let message = format!("\"{long}\"");
    for path in ["/api/broadcast", "/api/send"] {
        for user in ["plain", "modern"] {
            let to = if path == "/api/send" { format!(r#""user_id":"{user}","#) } else { String::new() };
            node.post(path, &format!(r#"{{{to}"message":{message}}}"#));
            if user == "plain" || path == "/api/broadcast" {
                assert!(
                    plain.frame() == Frame { first: FIN | TEXT, payload: message.clone().into() },
                    "{path}"
                );
            }
            if user == "modern" || path == "/api/broadcast" {
                let compressed = modern.frame();
                assert_eq!(compressed.first, FIN | RSV1 | TEXT, "{path}");
                assert!(socket::inflate(&compressed.payload, 1 << 16) == message.as_bytes());
            }
        }
    }
    assert_eq!(node.socket("/ws").answer.header("sec-websocket-extensions"), None, "not asked for");
}

#[test]
fn a_message_that_inflates_too_far_is_too_big() {
    let node = Node::start(&["--message-bytes-max", "64KiB"]);
    let mut bomb = Socket::connect(node.http, "/echo", DEFLATE);
    bomb.send(frame(FIN | RSV1 | BINARY, &socket::deflate(&vec![0; 4 << 20])));
    assert_eq!(bomb.closed_with().0, 1009);
}

#[test]
fn compression_can_be_switched_off() {
    let node = Node::start(&["--compression=false"]);
    let mut socket = Socket::connect(node.http, "/echo", DEFLATE);
    assert_eq!(socket.answer.header("sec-websocket-extensions"), None);
    socket.send(frame(FIN | RSV1 | TEXT, b"x"));
    assert_eq!(socket.closed_with().0, 1002);
}

#[test]
fn who_breaks_the_rules_is_told_which() {
    let node =
        Node::start(&["--message-bytes-max", "4KiB", "--messages-per-second", "20", "--require-user-id"]);
    let check = |bytes: &[u8], code: u16| {
        let mut socket = node.socket("/echo");
        socket.send(bytes);
        assert_eq!(socket.closed_with().0, code, "{:?}", &bytes[..bytes.len().min(16)]);
    };
    check(b"\x81\x02hi", 1002); // not masked
    check(&frame(FIN | 3, b""), 1002); // reserved opcode
    check(&frame(FIN | RSV1 | TEXT, b"x"), 1002); // compression was not agreed on
    check(&frame(FIN, b"continues nothing"), 1002);
    check(&[frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(), 1002);
    check(&frame(PING, b""), 1002); // a control frame in fragments
    check(&frame(FIN | PING, &[0; 126]), 1002);
    check(&frame(FIN | CLOSE, &[3]), 1002); // half a code
    check(&frame(FIN | CLOSE, &1005_u16.to_be_bytes()), 1002);
    check(&frame(FIN | TEXT, b"\xc3\x28"), 1007);
    check(&frame(TEXT, b"\xff"), 1007); // before the message is whole
    check(&frame(FIN | TEXT, b"\xff and more to come")[..8], 1007); // before the frame is
    check(&frame(FIN | BINARY, &[0; 4097])[..8], 1009); // at its header
    check(&[frame(BINARY, &[0; 4000]), frame(FIN, &[0; 97])].concat()[..4000 + 8 + 6], 1009);
    let missing = node.socket("/ws").closed_with();
    assert_eq!(missing, (4001, "Missing user_id".to_owned()));
    assert_eq!(node.socket("/ws?user_id=").closed_with().0, 4001);
    assert_eq!(node.socket(&format!("/ws?user_id={}", "x".repeat(257))).closed_with().0, 4002);
    assert_eq!(node.socket("/ws?user_id=anon-1").closed_with().0, 4002, "such ids are given, not chosen");
    assert_eq!(node.socket("/ws?user_id=%ff").closed_with().0, 4002, "it is no text, and names somebody");
    node.user(&"x".repeat(256)).assert_alive();
    let closed =
        |reason: &str| node.metric(&format!(r#"throng_connections_closed_total{{reason="{reason}"}}"#));
    assert_eq!((closed("protocol_error"), closed("invalid_utf8"), closed("message_too_big")), (9, 3, 2));
    assert_eq!((closed("missing_user_id"), closed("user_refused")), (2, 3));
}

#[test]
fn who_sends_too_much_is_closed() {
    let node = Node::start(&["--messages-per-second", "20"]);
    let mut patient = node.user("patient");
    let mut hasty = node.user("hasty");
    hasty.send(text(r#"{"type":"ping"}"#).repeat(60));
    let mut pongs = 0;
    let close = loop {
        let answer = hasty.message();
        if answer.first == FIN | CLOSE {
            break socket::close_of(&answer);
        }
        pongs += 1;
    };
    assert_eq!(close, (1008, "Message rate exceeded".to_owned()));
    // Two seconds may share a burst, more cannot.
    assert!((20..=40).contains(&pongs), "{pongs}");
    hasty.answer_close(1008);
    patient.assert_alive();
}

#[test]
fn a_close_is_answered_with_its_code() {
    let node = Node::start(&[]);
    for code in [1000, 1001, 3000, 4999] {
        let mut socket = node.socket("/echo");
        let payload = [&u16::to_be_bytes(code), "going".as_bytes()].concat();
        // What was asked before is answered before.
        socket.send([frame(FIN | TEXT, b"last words"), frame(FIN | CLOSE, &payload)].concat());
        assert_eq!(socket.frame().payload, b"last words");
        assert_eq!(socket.close_frame().0, code);
        assert_eq!(socket.try_frame(), None);
    }
    let mut silent = node.socket("/echo");
    silent.send(frame(FIN | CLOSE, b""));
    assert_eq!(silent.frame(), Frame { first: FIN | CLOSE, payload: vec![] });
    assert_eq!(silent.try_frame(), None);
}

fn batch_of(socket: &mut Socket) -> Vec<Value> {
    let batch = socket.json();
    assert_eq!(batch["type"], "batch", "{batch}");
    batch["messages"].as_array().unwrap().clone()
}

#[test]
fn deliveries_are_batched_for_those_who_ask() {
    let node = Node::start(&["--reactors", "1"]);
    let mut batched = node.socket("/ws?user_id=batched&batch=1");
    assert_eq!(batched.json()["type"], "welcome", "not delayed");
    let mut sender = node.user("sender");
    let message =
        |n: u32| text(&format!(r#"{{"type":"send_message","target_user":"batched","content":{n}}}"#));
    sender.send((0..250).flat_map(message).collect::<Vec<u8>>());
    let mut seen = Vec::new();
    let mut sizes = Vec::new();
    while seen.len() < 250 {
        let batch = batch_of(&mut batched);
        sizes.push(batch.len());
        seen.extend(batch.iter().map(|message| message["content"].as_u64().unwrap()));
    }
    assert_eq!(seen, (0..250).collect::<Vec<u64>>());
    assert_eq!(sizes[..2], [100, 100], "full ones do not wait");
    assert!(sizes.len() <= 4, "{sizes:?}");
    // Its own questions are answered one by one and at once.
    batched.assert_alive();
    let start = Instant::now();
    sender.send_text(r#"{"type":"broadcast","content":"all"}"#);
    let last = batch_of(&mut batched);
    let waited = start.elapsed();
    assert_eq!(last, [json!({"type": "broadcast", "from": "sender", "content": "all"})]);
    assert!((Duration::from_millis(80)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
}

/// What is delivered while its close frame waits for the client's is not for it.
#[test]
fn nothing_follows_the_close_frame_of_who_gathers_batches() {
    let node = Node::start(&["--reactors", "1"]);
    let mut batched = node.socket("/ws?user_id=batched&batch=1");
    assert_eq!(batched.json()["type"], "welcome");
    let mut other = node.user("other");
    assert_eq!(node.post("/api/kick", r#"{"user_id":"batched"}"#).status, 200);
    other.send_text(r#"{"type":"broadcast","content":"late"}"#);
    assert_eq!(other.json()["content"], "late");
    // Its batch would have been due before this one's.
    let mut next = node.socket("/ws?user_id=next&batch=1");
    assert_eq!(next.json()["type"], "welcome");
    other.send_message("next", 1);
    assert_eq!(batch_of(&mut next).len(), 1);
    assert_eq!(batched.frame().first, FIN | CLOSE);
    batched.send(frame(FIN | CLOSE, &1000u16.to_be_bytes()));
    assert_eq!(batched.try_frame(), None);
}

/// Each message is counted once under its type, with the bytes of its payload.
#[test]
fn messages_are_counted_by_type() {
    let node = Node::start(&["--reactors", "1", "--messages-per-second", "7"]);
    let mut anna = node.user("anna");
    let mut echo = node.socket("/echo");
    let own = [
        r#"{"type":"ping"}"#,
        r#"{"type":"else"}"#,
        "none",
        r#"{"type":"send_message","target_user":"anna","content":1}"#,
        r#"{"type":"broadcast","content":22}"#,
        r#"{"type":"send_message","target_user":"nobody","content":1}"#,
    ];
    for (message, answer) in own.iter().zip(["pong", "echo", "error", "message", "broadcast", "error"]) {
        anna.send_text(message);
        assert_eq!(anna.json()["type"], answer);
    }
    echo.send_text("abc");
    assert_eq!(echo.frame().payload, b"abc");
    echo.send(frame(FIN | BINARY, b"de"));
    assert_eq!(echo.frame().payload, b"de");
    assert_eq!(node.post("/api/send", r#"{"user_id":"anna","message":{"a":1}}"#).status, 200);
    assert_eq!(anna.json(), json!({"a": 1}));
    node.wait_for_connections(2);
    let count = |way: &str, kind: &str| {
        let sample = |what: &str| format!("throng_messages_{way}{what}_total{{type=\"{kind}\"}}");
        let [messages, bytes] = node.metrics(&[&sample(""), &sample("_bytes")]);
        (messages, bytes as usize)
    };
    let both = own[3].len() + own[5].len();
    for (kind, expected) in [
        ("ping", (1, own[0].len())),
        ("unknown", (1, own[1].len())),
        ("invalid", (1, own[2].len())),
        ("send_message", (2, both)),
        ("broadcast", (1, own[4].len())),
        ("text", (1, 3)),
        ("binary", (1, 2)),
        ("refused", (0, 0)),
    ] {
        assert_eq!(count("received", kind), expected, "{kind}");
    }
    for (kind, messages) in [("pong", 1), ("echo", 1), ("error", 2), ("welcome", 1), ("shutdown", 0)] {
        assert_eq!(count("sent", kind).0, messages, "{kind}");
    }
    for (kind, expected) in [
        ("message", (1, r#"{"type":"message","from":"anna","content":1}"#.len())),
        ("broadcast", (1, r#"{"type":"broadcast","from":"anna","content":22}"#.len())),
        ("other", (1, r#"{"a":1}"#.len())),
        ("text", (1, 3)),
        ("binary", (1, 2)),
    ] {
        assert_eq!(count("sent", kind), expected, "{kind}");
    }
    // More than two seconds' worth: one of them is too many, what follows it is void.
    anna.send(text(own[0]).repeat(20));
    let close = std::iter::from_fn(|| Some(anna.frame())).find(|frame| frame.first == FIN | CLOSE);
    assert_eq!(close.unwrap().payload[..2], 1008u16.to_be_bytes());
    anna.answer_close(1008);
    node.wait_for_connections(1);
    assert_eq!(count("received", "refused"), (1, own[0].len()));
}

#[test]
fn a_handshake_may_be_split_anywhere() {
    let node = Node::start(&["--reactors", "1"]);
    let mut other = node.web();
    let request = [upgrade("/ws?user_id=alice", "").into_bytes(), text(r#"{"type":"ping"}"#)].concat();
    for split in 1..request.len() {
        let mut web = node.web();
        let (head, tail) = request.split_at(split);
        web.send(head);
        // The reactor has taken in the first part when it answers somebody who came later.
        assert_eq!(other.request("GET", "/livez", "", "").status, 200);
        web.send(tail);
        let mut socket = Socket::accept(web).unwrap();
        assert_eq!(socket.json()["type"], "welcome", "{split}");
        assert_eq!(socket.json()["type"], "pong", "{split}");
    }
    let mut trickling = node.web();
    for byte in request {
        trickling.send([byte]);
    }
    let mut socket = Socket::accept(trickling).unwrap();
    assert_eq!(socket.json()["type"], "welcome");
    assert_eq!(socket.json()["type"], "pong");
}

#[test]
fn a_user_id_may_be_escaped() {
    let node = Node::start(&["--reactors", "2"]);
    let mut socket = node.socket("/ws?x=1&user_id=J%C3%BCrgen+M%2F1");
    assert_eq!(socket.json()["type"], "welcome");
    let found = node.json("/api/users/J%C3%BCrgen%20M%2F1");
    assert_eq!((&found["user_id"], &found["online"]), (&"Jürgen M/1".into(), &true.into()));
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answers() {
    let node = Node::start(&[]);
    let mut socket = node.socket("/echo");
    socket.send([text("one"), text("two")].concat());
    socket.web().shut();
    assert_eq!(socket.frame().payload, b"one");
    assert_eq!(socket.frame().payload, b"two");
    assert_eq!(socket.try_frame(), None);
    node.wait_for_connections(0);
}
