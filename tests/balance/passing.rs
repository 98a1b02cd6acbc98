//! What goes through the balancer, and what does not: requests and answers,
//! frames, the ends of either.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use serde_json::json;

use crate::balancer::Balancer;
use crate::node::{Launch, Node, eventually};
use crate::socket::{self, BINARY, CLOSE, FIN, PING, RSV1, Socket, TEXT, UPGRADE, text, upgrade};
use crate::stub::{self, Call, SWITCHING, Stub};
use crate::web::{Response, Web};

/// A request's body, at most.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A message far larger than any buffer on its way.
const LARGE: usize = 4 << 20;

/// Bytes with which a part that is missing, doubled or out of place shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn in_front_of(stub: &Stub, args: &[&str]) -> Balancer {
    let mut all = vec!["--health-interval", "1h"];
    all.extend(args);
    Balancer::over(&[stub.address], &all)
}

/// A WebSocket through the balancer and its end at the backend.
fn open(balancer: &Balancer, stub: &Stub) -> (Socket, Call) {
    let mut web = balancer.web();
    web.send(upgrade("/ws", ""));
    let mut call = stub.call();
    call.web.send(SWITCHING);
    (Socket::accept(web).unwrap(), call)
}

#[test]
fn a_node_is_reached_through_it() {
    let node = Launch::serve(&["--node-id", "n-1"]).variable("THRONG_ADMIN_TOKEN", "token").start();
    let balancer = Balancer::over(&[node.http], &[]);
    let ask = |method: &str, path: &str, headers: &str, body: &str| -> Response {
        let mut web = balancer.web();
        let answer = web.request(method, path, headers, body);
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
        web.assert_ends();
        answer
    };
    assert_eq!(ask("GET", "/nodes", "", "").json()[0]["id"], "n-1");
    let mut alice = Socket::connect(balancer.http, "/ws?user_id=alice", "");
    assert_eq!(alice.json()["client_ip"], "127.0.0.1");
    assert_eq!(ask("GET", "/api/users/alice?x=1", "", "").json()["online"], true);
    let page = ask("GET", "/dashboard", "", "");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let head = ask("HEAD", "/dashboard", "", "");
    assert_eq!((head.status, head.header("content-length")), (200, page.header("content-length")));
    assert_eq!(ask("GET", "/nowhere", "", "").status, 404);
    assert_eq!(ask("PUT", "/nodes", "", "").status, 405);
    let message = r#"{"user_id":"alice","message":{"n":1}}"#;
    assert_eq!(ask("POST", "/api/send", "", message).status, 401);
    let sent = ask("POST", "/api/send", "Authorization: Bearer token\r\n", message);
    assert_eq!((sent.status, &sent.json()["status"]), (200, &"delivered".into()));
    assert_eq!(alice.json(), json!({"n": 1}));
    let content = "x".repeat(BODY_BYTES_MAX - 100);
    let large = json!({"user_id": "alice", "message": content}).to_string();
    let mut web = balancer.web();
    web.send(format!(
        "POST /api/send HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer token\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        large.len()
    ));
    assert_eq!(web.head().status, 100);
    web.send(&large);
    assert_eq!(web.response().status, 200);
    assert_eq!(alice.json(), content);
}

#[test]
fn bodies_arrive_whole_both_ways() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    for length in [0, 1, 16_384, 65_535, 65_536, 65_537, BODY_BYTES_MAX] {
        let body = pattern(length);
        let mut web = balancer.web();
        web.send(format!("POST /upload?a=b%20c HTTP/1.1\r\nHost: b\r\nContent-Length: {length}\r\n\r\n"));
        web.send(&body);
        let mut call = stub.call();
        assert_eq!(call.head[0], "POST /upload?a=b%20c HTTP/1.1");
        assert!(call.body() == body, "{length} bytes to the backend");
        call.answer(&body);
        drop(call);
        assert!(web.response().body == body, "{length} bytes to the client");
        web.assert_ends();
    }
    let mut web = balancer.web();
    web.send(format!("POST /upload HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1));
    assert_eq!(web.response().status, 413);
    stub.assert_unused();
}

#[test]
fn a_backend_may_take_a_body_slowly() {
    let stub = Stub::start_narrow();
    let balancer = in_front_of(&stub, &["--buffer-bytes-max", "1MiB"]);
    let body = pattern(BODY_BYTES_MAX);
    let mut web = balancer.web();
    let head = format!("POST /x HTTP/1.1\r\nHost: b\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n");
    let mut sending = web.stream.try_clone().unwrap();
    let whole = [head.as_bytes(), &body].concat();
    let sending = thread::spawn(move || sending.write_all(&whole));
    let mut call = stub.call();
    eventually("it has to hold what the backend does not take", || {
        balancer.metric("throng_balancer_pumps_paused_total") > 0
    });
    assert!(call.body() == body);
    sending.join().unwrap().unwrap();
    call.answer(b"done");
    assert_eq!(web.response().body, b"done");
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    let body = pattern(LARGE);
    let mut web = balancer.web();
    web.send("GET /download HTTP/1.1\r\nHost: b\r\n\r\n");
    let mut call = stub.call();
    call.web.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 Fine\r\nX-Kept: yes\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(web.head().status, 103);
    call.web.send(&body);
    drop(call);
    let head = web.head();
    assert_eq!((head.header("x-kept"), head.header("connection")), (Some("yes"), Some("close")));
    while web.read_more() {}
    assert!(web.buffer == body);
}

#[test]
fn an_answer_ends_where_it_says() {
    const MORE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    let check = |method: &str, headers: &str, answer: &str, body: &str| {
        let mut web = balancer.web();
        web.send(format!("{method} /x HTTP/1.1\r\nHost: b\r\n{headers}\r\n"));
        let mut call = stub.call();
        // The backend stays, and has more to say.
        call.web.send(format!("{answer}{body}{MORE}"));
        let head = web.head();
        assert_eq!(head.header("connection"), Some("close"));
        while web.buffer.len() < body.len() && web.read_more() {}
        assert_eq!(String::from_utf8(web.buffer.split_off(0)).unwrap(), body, "{method} {answer}");
        web.assert_ends();
        while call.web.read_more() {}
    };
    check("GET", "", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "whole");
    check("GET", UPGRADE, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "whole");
    check("HEAD", "", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "");
    check("GET", "", "HTTP/1.1 204 No Content\r\n\r\n", "");
    check("GET", "", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "");
    let early = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    check("POST", early, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n", "no");
    assert_eq!(balancer.backends()[0]["failures"], 0);
}

#[test]
fn a_client_that_has_said_all_is_still_answered() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    for own in [true, false] {
        let mut web = balancer.web();
        let path = if own { "/api/clients" } else { "/x" };
        web.send(format!("GET {path} HTTP/1.1\r\nHost: b\r\n\r\n"));
        web.shut();
        if !own {
            let mut call = stub.call();
            call.answer(b"x");
        }
        assert_eq!(web.response().status, 200, "{path}");
        web.assert_ends();
    }
}

#[test]
fn a_refused_upgrade_is_passed_on_and_ends_the_connection() {
    let node = Node::start(&["--allowed-origin", "https://good.example"]);
    let balancer = Balancer::start(std::slice::from_ref(&node), &[]);
    let bad_key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: short\r\n";
    let old = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let evil = format!("Origin: https://evil.example\r\n{UPGRADE}");
    for (target, headers, status) in
        [("/ws", evil.as_str(), 403), ("/nowhere", UPGRADE, 404), ("/ws", bad_key, 400), ("/ws", old, 426)]
    {
        let request = format!("GET {target} HTTP/1.1\r\nHost: node\r\n{headers}\r\n");
        let (mut direct, mut passed) = (node.web(), balancer.web());
        direct.send(&request);
        // What follows a refusal is nobody's.
        passed.send(request + "GET /nodes HTTP/1.1\r\nHost: node\r\n\r\n");
        let (expected, answer) = (direct.response(), passed.response());
        assert_eq!((expected.status, answer.status), (status, status), "{target} {headers}");
        assert_eq!(answer.body, expected.body);
        assert_eq!(answer.header("sec-websocket-version"), expected.header("sec-websocket-version"));
        passed.assert_ends();
    }
    assert_eq!(balancer.backends()[0]["failures"], 0);
    Socket::connect(balancer.http, "/ws", "Origin: https://good.example\r\n");
}

#[test]
fn what_others_say_of_the_client_is_replaced() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--trusted-proxy", "192.0.2.0/24"]);
    let spoofed = "X-Forwarded-For: 203.0.113.1\r\nx-forwarded-for: 203.0.113.2\r\nX-Real-IP: 203.0.113.3\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=203.0.113.4\r\n\
        X_Forwarded_For: 203.0.113.5\r\n";
    for kept in ["", UPGRADE] {
        let mut web = balancer.web();
        web.send(format!(
            "GET /x HTTP/1.1\r\nHost: b.example\r\nX-Own: 1\r\n{spoofed}{kept}Cookie: a=b\r\n\r\n"
        ));
        let call = stub.call();
        let forwarded: Vec<_> =
            call.head.iter().filter(|line| line.to_lowercase().contains("forwarded")).collect();
        let expected =
            ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: b.example"];
        assert_eq!(forwarded, expected);
        assert_eq!(call.headers("x-real-ip"), ["127.0.0.1"]);
        assert_eq!(call.headers("host"), ["b.example"]);
        assert_eq!((call.headers("x-own"), call.headers("cookie")), (vec!["1"], vec!["a=b"]));
        let connection = if kept.is_empty() { "close" } else { "Upgrade" };
        assert_eq!(call.headers("connection"), [connection]);
        assert_eq!(call.headers("sec-websocket-key").len(), usize::from(!kept.is_empty()));
        assert!(call.proxy.is_empty());
    }
}

#[test]
fn what_a_trusted_proxy_says_of_the_client_is_kept() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--trusted-proxy", "127.0.0.0/8"]);
    let said = "X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 443\r\n";
    let mut web = balancer.web();
    web.send(upgrade("/ws?client_id=c", said));
    let mut call = stub.call();
    assert_eq!(call.headers("x-forwarded-for"), ["203.0.113.9, 198.51.100.7, 127.0.0.1"]);
    assert_eq!(call.headers("x-forwarded-proto"), ["https"]);
    assert_eq!(call.headers("x-forwarded-host"), ["shop.example"]);
    assert_eq!(call.headers("x-forwarded-port"), ["443"]);
    assert_eq!(call.headers("x-real-ip"), ["198.51.100.7"]);
    call.web.send(SWITCHING);
    let _open = Socket::accept(web).unwrap();
    let shown = balancer.json("/api/query?client_id=c");
    let address = shown["connections"][0]["address"].as_str().unwrap();
    assert!(address.starts_with("198.51.100.7:"), "{address}");
}

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    let check = |head: &str, status: u16| {
        let mut web = balancer.web();
        web.send(format!("{head}\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: b\r\n\r\n"));
        let answer = web.response();
        assert_eq!(answer.status, status, "{head:?}: {answer:?}");
        web.assert_ends();
        stub.assert_unused();
    };
    let post = |lines: &str| format!("POST /x HTTP/1.1\r\nHost: b\r\n{lines}");
    check(&post("Transfer-Encoding: chunked"), 411);
    check(&post("Transfer-Encoding: chunked\r\nContent-Length: 5"), 400);
    check(&post("Content-Length: 5\r\nTransfer-Encoding: identity"), 400);
    check(&post("Transfer-Encoding: \x0bchunked"), 400);
    check(&post("Transfer-Encoding : chunked"), 400);
    check(&post("Content-Length: 5\r\nContent-Length: 6"), 400);
    check(&post("Content-Length: 5\r\nContent-Length: 5"), 400);
    check(&post("Content-Length: 5, 5"), 400);
    check(&post("Content-Length: +5"), 400);
    check(&post("Content-Length: 0x5"), 400);
    check(&post("Content-Length: -1"), 400);
    check(&post("Content-Length: 99999999999999999999"), 413);
    check(&post("Content-Length : 5"), 400);
    check(&post("X: a\r\n Content-Length: 5"), 400);
    check(&post("X: a\nContent-Length: 5"), 400);
    check(&post("X: a\rContent-Length: 5"), 400);
    check(&post("X: a\0b"), 400);
    check(&post("Host: other"), 400);
    check("GET http://other/x HTTP/1.1\r\nHost: b", 400);
    check("GET /x HTTP/1.1", 400);
    check("GET  /x HTTP/1.1\r\nHost: b", 400);
    check("GET /x y HTTP/1.1\r\nHost: b", 400);
    check("CONNECT b:80 HTTP/1.1\r\nHost: b:80", 400);
    check("PRI * HTTP/2.0", 505);
    check(&format!("GET /ws HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n{}", UPGRADE.trim_end()), 400);
    assert_eq!(balancer.metric(r#"throng_balancer_requests_total{kind="plain"}"#), 0);
}

#[test]
fn only_the_first_request_of_a_connection_is_passed_on() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    let second = "GET /second HTTP/1.1\r\nHost: b\r\n\r\n";
    for body in ["", "12345"] {
        let mut web = balancer.web();
        let length = body.len();
        web.send(format!(
            "POST /first HTTP/1.1\r\nHost: b\r\nContent-Length: {length}\r\n\r\n{body}{second}"
        ));
        let mut call = stub.call();
        assert_eq!(call.body(), body.as_bytes());
        web.send(second);
        call.web.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(web.response().body, b"ok");
        web.send(second);
        // It has had enough time to see what it is not to see: the client is told the end.
        call.web.stream.shutdown(Shutdown::Write).unwrap();
        web.assert_ends();
        drop(web);
        while call.web.read_more() {}
        assert!(call.web.buffer.is_empty(), "{:?}", String::from_utf8_lossy(&call.web.buffer));
    }
    stub.assert_unused();
}

#[test]
fn frames_that_come_with_the_handshake_arrive() {
    let node = Node::start(&[]);
    let balancer = Balancer::start(std::slice::from_ref(&node), &[]);
    let mut web = balancer.web();
    web.send([upgrade("/echo", "").as_bytes(), &text("early"), &text("bird")].concat());
    let mut socket = Socket::accept(web).unwrap();
    assert_eq!((socket.frame().payload, socket.frame().payload), (b"early".to_vec(), b"bird".to_vec()));

    // And those that come while the backend thinks about it, in their order.
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    let mut web = balancer.web();
    web.send([upgrade("/ws?client_id=c", "").as_bytes(), &text("with it")].concat());
    let mut call = stub.call();
    web.send(text("after it"));
    let welcome = [SWITCHING.as_bytes(), &stub::frame(FIN | TEXT, b"hello")].concat();
    call.web.send(&welcome);
    assert_eq!((call.frame().payload, call.frame().payload), (b"with it".to_vec(), b"after it".to_vec()));
    let mut socket = Socket::accept(web).unwrap();
    assert_eq!(socket.frame().payload, b"hello");
    let shown = balancer.json("/api/query?client_id=c")["connections"][0].clone();
    let expected = text("with it").len() + text("after it").len();
    assert_eq!((&shown["bytes_from_client"], &shown["bytes_to_client"]), (&expected.into(), &7.into()));
}

#[test]
fn large_messages_go_both_ways() {
    let node = Node::start(&["--message-bytes-max", "8MiB", "--outbound-bytes-max", "16MiB"]);
    let balancer = Balancer::start(std::slice::from_ref(&node), &[]);
    let mut socket = Socket::connect(balancer.http, "/echo?client_id=c", "");
    let large = pattern(LARGE);
    for first in [FIN | BINARY, FIN | BINARY] {
        socket.send(socket::frame(first, &large));
        let echo = socket.frame();
        assert!(echo.first == first && echo.payload == large, "{} bytes", echo.payload.len());
    }
    // Many small ones in one go, a ping among them.
    let many: Vec<u8> = (0..5000).flat_map(|n: u32| text(&n.to_string())).collect();
    socket.send([many, socket::frame(FIN | PING, b"still there")].concat());
    for n in 0..5000 {
        assert_eq!(socket.frame().payload, n.to_string().into_bytes());
    }
    assert_eq!(socket.frame().payload, b"still there");
    let shown = balancer.json("/api/query?client_id=c")["connections"][0].clone();
    assert!(shown["bytes_from_client"].as_u64().unwrap() > 2 * LARGE as u64, "{shown}");
    assert!(shown["bytes_to_client"].as_u64().unwrap() > 2 * LARGE as u64, "{shown}");
}

#[test]
fn compression_is_between_client_and_node() {
    let node = Node::start(&["--compression"]);
    let balancer = Balancer::start(std::slice::from_ref(&node), &[]);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let mut echo = Socket::connect(balancer.http, "/echo", offer);
    let agreed = echo.answer.header("sec-websocket-extensions").unwrap();
    assert!(agreed.starts_with("permessage-deflate"), "{agreed}");
    let message = "again and ".repeat(1000);
    echo.send(socket::frame(FIN | RSV1 | TEXT, &socket::deflate(message.as_bytes())));
    let answer = echo.frame();
    assert_eq!(answer.first, FIN | RSV1 | TEXT);
    assert_eq!(socket::inflate(&answer.payload, message.len() + 1), message.as_bytes());
    assert!(Socket::connect(balancer.http, "/echo", "").answer.header("sec-websocket-extensions").is_none());
}

#[test]
fn close_frames_pass_unchanged() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    let closes =
        [(1000, ""), (1001, "going"), (1008, "policy é"), (1011, "oops"), (1012, "restart"), (4999, "own")];
    let payloads =
        closes.map(|(code, reason): (u16, &str)| [&code.to_be_bytes(), reason.as_bytes()].concat());
    for payload in payloads.into_iter().chain([Vec::new()]) {
        let (mut socket, mut call) = open(&balancer, &stub);
        socket.send(socket::frame(FIN | CLOSE, &payload));
        let close = call.frame();
        assert_eq!((close.first, &close.payload), (FIN | CLOSE, &payload));
        call.web.send(stub::frame(FIN | CLOSE, &payload));
        drop(call);
        assert_eq!(socket.frame().payload, payload);
        assert_eq!(socket.try_frame(), None);

        let (mut socket, mut call) = open(&balancer, &stub);
        call.web.send(stub::frame(FIN | CLOSE, &payload));
        let close = socket.frame();
        assert_eq!((close.first, &close.payload), (FIN | CLOSE, &payload));
        socket.send(socket::frame(FIN | CLOSE, &payload));
        assert_eq!(call.frame().payload, payload);
        drop(call);
        assert_eq!(socket.try_frame(), None);
    }
    balancer.wait_for_connections(0);
    assert_eq!(balancer.ended("closed"), 14);
}

#[test]
fn one_direction_may_end_before_the_other() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &[]);
    let (mut socket, mut call) = open(&balancer, &stub);
    socket.send(text("the last"));
    socket.web().shut();
    assert_eq!(call.frame().payload, b"the last");
    assert!(!call.web.read_more(), "the end is passed on");
    for n in 0..3 {
        call.web.send(stub::frame(FIN | TEXT, &pattern(100_000 * n)));
        assert_eq!(socket.frame().payload, pattern(100_000 * n));
    }
    drop(call);
    assert_eq!(socket.try_frame(), None);

    let (mut socket, mut call) = open(&balancer, &stub);
    call.web.send(stub::close_frame(1001, "going"));
    call.web.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(socket.close_frame(), (1001, "going".into()));
    assert_eq!(socket.try_frame(), None);
    socket.send([text("one more"), socket::frame(FIN | CLOSE, &1001_u16.to_be_bytes())].concat());
    assert_eq!((call.frame().payload, call.frame().first), (b"one more".to_vec(), FIN | CLOSE));
    socket.web().shut();
    assert!(!call.web.read_more());
    balancer.wait_for_connections(0);
}

#[test]
fn what_a_backend_said_before_it_closed_is_not_lost() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--reactors", "1"]);
    let mut web = Web::connect_narrow(balancer.http, 4096);
    web.send(upgrade("/ws", ""));
    let mut call = stub.call();
    call.web.send(SWITCHING);
    let mut socket = Socket::accept(web).unwrap();
    // It will not have read this when it closes, and so reset the connection.
    socket.send(text("unread"));
    call.web.stream.peek(&mut [0]).unwrap();
    let (payload, mut messages) = (pattern(60_000), 0);
    while balancer.metric("throng_balancer_held_bytes") == 0 {
        call.web.send(stub::frame(FIN | TEXT, &payload));
        call.wait_until_taken();
        messages += 1;
    }
    call.web.send(stub::close_frame(1008, "enough"));
    call.wait_until_taken();
    drop(call);
    // What nobody takes any more ends nothing that the client is still to read.
    for _ in 0..10 {
        socket.send(text("too late"));
        balancer.get("/livez");
    }
    for _ in 0..messages {
        assert!(socket.frame().payload == payload);
    }
    assert_eq!(socket.close_frame(), (1008, "enough".into()));
    drop(socket);
    balancer.wait_for_connections(0);
    assert_eq!(balancer.metric("throng_balancer_failovers_total"), 0);
}
