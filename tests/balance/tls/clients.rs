//! Clients that speak TLS with a balancer, and nodes that do not.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use serde_json::json;

use super::{Secure, UNCHECKED, pattern, secured};
use crate::authority::{Authority, VERSIONS, text};
use crate::balancer::launch;
use crate::listener::Listener;
use crate::node::{Launch, Node, eventually};
use crate::socket::{self, BINARY, CLOSE, FIN, Socket, text as text_frame, upgrade};
use crate::stub::{self, Call, SWITCHING, Stub};
use crate::web::Web;

/// What a request's body may have.
const BODY_BYTES_MAX: usize = 1 << 20;

fn in_front_of(stub: &Stub, args: &[&str]) -> Secure {
    Secure::over(&[stub.address], &[&UNCHECKED[..], args].concat())
}

/// A WebSocket over this connection and its end at the backend.
fn open(mut web: Web, stub: &Stub) -> (Socket, Call) {
    web.send(upgrade("/ws", ""));
    let mut call = stub.call();
    call.web.send(SWITCHING);
    (Socket::accept(web).unwrap(), call)
}

#[test]
fn a_node_is_reached_through_it() {
    let node = Node::start(&["--trusted-proxy", "127.0.0.0/8"]);
    let secure = Secure::over(&[node.http], &[]);
    for version in VERSIONS {
        let config = Arc::new(secure.authority.trusting(&[version]));
        let mut web = Web::connect(secure.balancer.http).secure(&config).unwrap();
        assert_eq!(web.tls.as_deref().unwrap().peer_certificates().unwrap(), secure.shown.chain());
        let answer = web.request("GET", "/nodes", "", "");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        web.assert_ends();
        let web = Web::connect(secure.balancer.http).secure(&config).unwrap();
        let mut socket = Socket::over(web, "/ws?user_id=alice");
        assert_eq!(socket.json()["client_ip"], "127.0.0.1");
        socket.assert_alive();
        socket.send_message("alice", "to myself");
        assert_eq!(socket.json()["content"], "to myself");
        socket.send(socket::frame(FIN | CLOSE, &1000u16.to_be_bytes()));
        assert_eq!(socket.close_frame().0, 1000);
        assert_eq!(socket.try_frame(), None, "the end is said");
    }
    secure.balancer.wait_for_connections(0);
}

#[test]
fn backends_are_told_that_it_was_tls() {
    let stub = Stub::start();
    let secure = in_front_of(&stub, &[]);
    for headers in ["", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "X-Forwarded-Proto: http\r\n"] {
        let mut web = secure.balancer.web();
        web.send(format!("GET /x HTTP/1.1\r\nHost: b\r\n{headers}\r\n"));
        let mut call = stub.call();
        assert_eq!(call.headers("x-forwarded-proto"), ["https"], "{headers}");
        assert_eq!(call.headers("x-forwarded-for"), ["127.0.0.1"]);
        call.answer(b"ok");
        assert_eq!(web.response().body, b"ok");
    }
}

#[test]
fn bodies_arrive_whole_both_ways() {
    let stub = Stub::start();
    let secure = in_front_of(&stub, &[]);
    for length in [0, 1, 16_383, 16_384, 65_536, 65_537, BODY_BYTES_MAX] {
        let body = pattern(length);
        let mut web = secure.balancer.web();
        web.send(format!("POST /upload HTTP/1.1\r\nHost: b\r\nContent-Length: {length}\r\n\r\n"));
        // The balancer holds only so much; the backend takes the rest as it reads.
        let sending = thread::spawn({
            let body = body.clone();
            move || {
                web.send(&body);
                web
            }
        });
        let mut call = stub.call();
        assert!(call.body() == body, "{length} bytes to the backend");
        call.answer(&body);
        drop(call);
        let mut web = sending.join().unwrap();
        assert!(web.response().body == body, "{length} bytes to the client");
        web.assert_ends();
    }
}

#[test]
fn messages_arrive_whole_however_records_cut_them() {
    let node = Node::start(&["--message-bytes-max", "1MiB", "--outbound-bytes-max", "4MiB"]);
    let secure = Secure::over(&[node.http], &[]);
    for version in VERSIONS {
        for record in [Some(32), Some(700), None] {
            let mut config = secure.authority.trusting(&[version]);
            config.max_fragment_size = record;
            let web = Web::connect(secure.balancer.http).secure(&Arc::new(config)).unwrap();
            let mut socket = Socket::over(web, "/echo");
            let many: Vec<Vec<u8>> = (0..300).map(|n| pattern(n % 97)).collect();
            socket.send(many.iter().flat_map(|one| socket::frame(FIN | BINARY, one)).collect::<Vec<u8>>());
            for one in &many {
                assert_eq!(socket.frame().payload, *one, "{version:?}, {record:?}");
            }
            for length in [20_000, 256 << 10] {
                socket.send(socket::frame(FIN | BINARY, &pattern(length)));
                assert!(socket.frame().payload == pattern(length), "{length}, {version:?}, {record:?}");
            }
        }
    }
}

#[test]
fn its_page_and_what_feeds_it_come_over_tls() {
    let node = Node::start(&[]);
    let secure = Secure::over(&[node.http], &[]);
    let page = secure.balancer.get("/web-loadbalancer.html");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let mut listener = Listener::open(&secure.balancer);
    let mut client = secure.user("seen");
    // Whatever comes first, in the end it has the client.
    eventually("the listener is told of the client", || {
        let (_, data) = listener.next();
        data.to_string().contains("\"connections\":1")
    });
    assert_eq!(secure.balancer.json("/api/query?client_id=seen")["connections"].as_array().unwrap().len(), 1);
    client.assert_alive();
}

#[test]
fn who_speaks_plain_http_reads_what_is_wrong() {
    let stub = Stub::start();
    let secure = in_front_of(&stub, &[]);
    for request in [upgrade("/ws", ""), "GET /livez HTTP/1.1\r\nHost: b\r\n\r\n".to_owned()] {
        let mut web = Web::connect(secure.balancer.http);
        web.send(request);
        let answer = web.response();
        assert!(answer.status == 400 && answer.json()["error"].as_str().unwrap().contains("https://"));
        web.assert_ends();
    }
    let mut web = Web::connect(secure.balancer.http);
    web.send([99, 3, 1, 0, 1, 0]);
    while web.read_more() {}
    // An alert (RFC 8446, section 6).
    assert!(matches!(web.buffer[..], [21, 3, _, 0, 2, 2, _]), "{:?}", web.buffer);
    eventually("they are counted", || secure.handshakes("failed") == 3);
    eventually("their ends, too", || secure.balancer.ended("tls_failed") == 3);
    stub.assert_unused();
}

#[test]
fn no_agreement_is_told_and_counted() {
    let stub = Stub::start();
    let secure = in_front_of(&stub, &[]);
    let mut config = secure.authority.trusting(&VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = Web::connect(secure.balancer.http).secure(&Arc::new(config)).err().unwrap();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    eventually("it is counted", || secure.handshakes("failed") == 1);
}

#[test]
fn clients_show_certificates_where_that_is_asked_for() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (known, stranger) = (clients.client("known"), strangers.client("stranger"));
    let node = Node::start(&[]);
    let shown = authority.server("balancer");
    let ca = clients.ca();
    let backends = [node.http.to_string()];
    let balancer = launch(&backends, &[&shown.flags()[..], &["--tls-client-ca", text(&ca)]].concat());
    let as_known = Arc::new(authority.trusting_as(&VERSIONS, &known));
    let balancer = crate::balancer::Balancer::launched_secure(&balancer, as_known);
    balancer.wait_until_all_are("up");
    assert_eq!(balancer.get("/nodes").status, 200);
    for config in [authority.trusting(&VERSIONS), authority.trusting_as(&VERSIONS, &stranger)] {
        let Ok(mut web) = Web::connect(balancer.http).secure(&Arc::new(config)) else { continue };
        let _ = web.try_send(b"GET /nodes HTTP/1.1\r\nHost: b\r\n\r\n");
        let refused = web.try_read_more().unwrap_err();
        assert!(refused.to_string().contains("alert"), "{refused}");
    }
    let failed = r#"throng_balancer_tls_handshakes_total{outcome="failed"}"#;
    eventually("they are counted", || balancer.metric(failed) == 2);
}

#[test]
fn who_stalls_has_as_long_as_for_any_handshake() {
    let node = Node::start(&[]);
    let secure = Secure::over(&[node.http], &["--handshake-timeout", "300ms"]);
    let start = Instant::now();
    let silent = Web::connect(secure.balancer.http);
    let mut begun = Web::connect(secure.balancer.http);
    begun.send([22, 3, 1, 2, 0, 1, 0]);
    let secured = secure.balancer.web();
    let mut asking = secure.balancer.web();
    asking.send("GET /ws HTTP/1.1\r\nHost: no");
    assert_eq!(asking.response().status, 408);
    asking.assert_ends();
    for mut web in [silent, begun, secured] {
        loop {
            match web.try_read_more() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error)
                    if [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&error.kind()) =>
                {
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    let lasted = start.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&lasted), "{lasted:?}");
    eventually("all are counted", || secure.balancer.ended("request_timeout") == 3);
}

#[test]
fn a_new_certificate_is_shown_to_new_clients() {
    let node = Node::start(&[]);
    let secure = Secure::over(&[node.http], &["--reactors", "2"]);
    let mut old = secure.user("old");
    let shown = || {
        let config = Arc::new(secure.authority.trusting(&VERSIONS));
        let web = Web::connect(secure.balancer.http).secure(&config).unwrap();
        web.tls.unwrap().peer_certificates().unwrap().to_vec()
    };
    let second = secure.authority.server("second");
    secure.shown.replace_with(&second);
    secure.balancer.process.signal(libc::SIGHUP);
    secure.balancer.process.log_line("read again");
    eventually("the new one is shown", || shown() == second.chain());
    old.assert_alive();
    fs::write(&secure.shown.key, "no key").unwrap();
    secure.balancer.process.signal(libc::SIGHUP);
    let line = secure.balancer.process.log_line("the certificate in force stays");
    assert!(line.contains(text(&secure.shown.key)), "{line}");
    assert_eq!(shown(), second.chain());
    old.assert_alive();
}

#[test]
fn who_comes_back_resumes_with_a_ticket() {
    let node = Node::start(&[]);
    let secure = Secure::over(&[node.http], &["--reactors", "2"]);
    let config = Arc::new(secure.authority.trusting(&VERSIONS));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let mut web = Web::connect(secure.balancer.http).secure(&config).unwrap();
        assert_eq!(web.tls.as_deref().unwrap().handshake_kind(), Some(kind));
        assert_eq!(web.request("GET", "/nodes", "", "").status, 200);
    }
    assert!(secure.handshakes("resumed") >= 2);
}

/// A PROXY protocol header, version 2, of a client at 203.0.113.7:4711.
const PROXY_HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x12\x67\0\x50";

#[test]
fn tls_comes_behind_the_header_of_a_proxy_in_front() {
    let stub = Stub::start();
    let authority = Authority::new();
    let shown = authority.server("balancer");
    let args = [&UNCHECKED[..], &["--proxy-protocol-in", "v2"]].concat();
    let balancer = secured(&authority, &shown, &[stub.address], &args);
    for cut in [0, 5, PROXY_HEADER.len()] {
        let mut web = Web::connect(balancer.http);
        let (first, second) = PROXY_HEADER.split_at(cut);
        web.send(first);
        // In one segment with what TLS begins with, as it may be.
        let mut tls =
            rustls::ClientConnection::new(balancer.tls.clone().unwrap(), "localhost".try_into().unwrap())
                .unwrap();
        let mut hello = second.to_vec();
        tls.write_tls(&mut hello).unwrap();
        web.send(&hello);
        while tls.is_handshaking() {
            tls.complete_io(&mut web.stream).unwrap();
        }
        web.tls = Some(Box::new(tls));
        web.send("GET /x HTTP/1.1\r\nHost: b\r\n\r\n");
        let mut call = stub.call();
        assert_eq!(call.headers("x-forwarded-for"), ["203.0.113.7"], "{cut}");
        assert_eq!(call.headers("x-forwarded-proto"), ["https"], "{cut}");
        call.answer(b"ok");
        assert_eq!(web.response().body, b"ok");
    }
}

#[test]
fn a_slow_client_slows_its_backend_down_and_costs_little() {
    const CLIENTS: usize = 8;
    const GROWTH_BYTES_MAX: u64 = 4 << 20;
    const FLOOD_BYTES: usize = 64 << 20;
    let stub = Stub::start();
    let secure = in_front_of(&stub, &["--reactors", "1"]);
    let narrow =
        || Web::connect_narrow(secure.balancer.http, 4096).secure(secure.balancer.tls.as_ref().unwrap());
    let mut pairs: Vec<_> = (0..CLIENTS).map(|_| open(narrow().unwrap(), &stub)).collect();
    let before = secure.balancer.process.resident_bytes();
    let message = stub::frame(FIN | BINARY, &[7; 50_000]);
    let flood = |mut stream: &TcpStream| {
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut taken = 0;
        while taken < FLOOD_BYTES {
            match stream.write(&message[taken % message.len()..]) {
                Ok(count) => taken += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("{error}"),
            }
        }
        stream.set_write_timeout(None).unwrap();
        taken
    };
    let taken: Vec<_> = pairs.iter().map(|(_, call)| flood(&call.web.stream)).collect();
    assert!(taken.iter().all(|taken| *taken < FLOOD_BYTES), "{taken:?}");
    let growth = secure.balancer.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes for {taken:?}");
    for (socket, call) in &mut pairs {
        socket.send(text_frame("heard"));
        assert_eq!(call.frame().payload, b"heard");
    }
    for ((socket, call), taken) in pairs.iter_mut().zip(taken) {
        let rest = message[taken % message.len()..].to_vec();
        let mut sending = call.web.stream.try_clone().unwrap();
        let sending = thread::spawn(move || sending.write_all(&rest));
        for _ in 0..taken.div_ceil(message.len()) {
            let frame = socket.frame();
            assert!(frame.payload.len() == 50_000 && frame.payload.iter().all(|byte| *byte == 7));
        }
        sending.join().unwrap().unwrap();
    }
    assert_eq!(secure.balancer.metric("throng_balancer_held_bytes"), 0);
}

#[test]
fn either_side_may_end_its_direction_first() {
    let stub = Stub::start();
    let secure = in_front_of(&stub, &[]);
    let (mut socket, mut call) = open(secure.balancer.web(), &stub);
    socket.send(text_frame("last"));
    // Said in TLS, while the stream below stays open.
    let web = socket.web();
    let tls = web.tls.as_deref_mut().unwrap();
    tls.send_close_notify();
    tls.write_tls(&mut web.stream).unwrap();
    assert_eq!(call.frame().payload, b"last");
    assert!(!call.web.read_more());
    call.web.send(stub::frame(FIN | BINARY, &pattern(100_000)));
    assert!(socket.frame().payload == pattern(100_000));
    drop(call);
    assert_eq!(socket.try_frame(), None, "it wanted no more than to read to the end");
    let (mut socket, mut call) = open(secure.balancer.web(), &stub);
    call.web.send(stub::close_frame(1000, "done"));
    call.web.shut();
    assert_eq!(socket.close_frame(), (1000, "done".to_owned()));
    socket.send(socket::frame(FIN | CLOSE, &1000u16.to_be_bytes()));
    assert_eq!(call.frame().first, FIN | CLOSE);
    drop(call);
    assert_eq!(socket.try_frame(), None);
}

#[test]
fn a_lost_backend_is_told_and_a_frame_is_never_cut() {
    let stub = Stub::start();
    let secure = in_front_of(&stub, &["--failover-window", "0s"]);
    let (mut between, call) = open(secure.balancer.web(), &stub);
    drop(call);
    assert_eq!(between.closed_with(), (1012, "Backend lost, come back".into()));
    let (mut within, mut call) = open(secure.balancer.web(), &stub);
    let whole = stub::frame(FIN | BINARY, &[b'x'; 300]);
    call.web.send(&whole[..200]);
    while within.web().buffer.len() < 200 {
        assert!(within.web().read_more());
    }
    drop(call);
    let web = within.web();
    while web.try_read_more().is_ok_and(|has_more| has_more) {}
    assert_eq!(web.buffer, whole[..200], "nothing is made up");
    eventually("it is counted", || secure.balancer.ended("backend_lost_mid_frame") == 1);
}

#[test]
fn a_leaving_balancer_tells_its_clients() {
    let nodes: [Node; 2] = std::array::from_fn(|_| Node::start(&["--reactors", "1"]));
    let backends = [nodes[0].http, nodes[1].http];
    let mut secure = Secure::over(&backends, &["--lame-duck", "0s", "--drain-window", "300ms"]);
    let mut clients: Vec<Socket> = (0..30).map(|n| secure.user(&format!("user-{n}"))).collect();
    secure.balancer.process.signal(libc::SIGTERM);
    for client in &mut clients {
        assert_eq!(client.closed_with().0, 1012);
    }
    assert_eq!(secure.balancer.process.wait().code(), Some(0));
    for node in &nodes {
        node.wait_for_connections(0);
    }
}

#[test]
fn memory_is_given_back() {
    const CLIENTS: usize = 600;
    let node = Node::start(&["--reactors", "1"]);
    let secure = Secure::over(&[node.http], &["--reactors", "2"]);
    drop((0..50).map(|n| secure.user(&format!("early-{n}"))).collect::<Vec<_>>());
    secure.balancer.wait_for_connections(0);
    let before = secure.balancer.process.resident_bytes();
    let clients: Vec<Socket> = (0..CLIENTS)
        .map(|n| {
            let mut client = secure.user(&format!("user-{n}"));
            client.send_text(&json!({"type": "ping", "fill": "x".repeat(20_000)}).to_string());
            assert_eq!(client.json()["type"], "pong");
            client
        })
        .collect();
    let each = || secure.balancer.process.resident_bytes().saturating_sub(before) / CLIENTS as u64;
    eventually("what an idle pair has is bounded", || each() < 9_000);
    assert!(each() > 1_000, "{}: else what follows would show nothing", each());
    // Whoever came last stays, and keeps the place it has.
    let mut stays = secure.user("stays");
    drop(clients);
    secure.balancer.wait_for_connections(1);
    eventually("what they had is given back", || each() < 1_000);
    stays.assert_alive();
}

#[test]
fn a_balancer_does_not_start_with_files_that_cannot_be_used() {
    let authority = Authority::new();
    let good = authority.server("balancer");
    let nobody = ["127.0.0.1:1".to_owned()];
    let check = |args: &[&str], code: i32, mentions: &str| {
        let launch: Launch = launch(&nobody, args);
        let mut process = launch.spawn();
        assert_eq!(process.stdout_line(), None, "it says nothing on stdout");
        let lines = process.rest_of_stderr();
        assert!(lines.len() == 1 && lines[0].contains(mentions), "{mentions}: {lines:#?}");
        assert_eq!(process.wait().code(), Some(code), "{lines:?}");
    };
    let (certificate, key) = (text(&good.certificate), text(&good.key));
    check(&["--tls-cert", "/nowhere/cert.pem", "--tls-key", key], 1, "/nowhere/cert.pem");
    check(&["--tls-cert", certificate, "--tls-key", "/dev/null"], 1, "/dev/null");
    check(&["--tls-cert", certificate], 2, "tls_key");
    check(&["--backend-tls", "--backend-ca", "/nowhere/ca.pem"], 1, "/nowhere/ca.pem");
    check(&["--backend-tls", "--backend-ca", key], 1, "balancer.key");
    check(&["--backend-tls", "--backend-tls-name", "no name"], 2, "backend");
}

#[test]
fn a_crowd_that_comes_at_once_is_taken_in_parts() {
    /// Handshakes begun in one turn.
    const PART: usize = 32;
    const CROWD: usize = 10 * PART;
    let stub = Stub::start();
    // However long this takes, nobody is late.
    let secure = in_front_of(&stub, &["--reactors", "1", "--handshake-timeout", "1m"]);
    let mut crowd: Vec<Web> = (0..CROWD).map(|_| Web::connect(secure.balancer.http)).collect();
    let metric = |name: &str| secure.balancer.metric(name) as usize;
    eventually("all are accepted", || metric(r#"throng_balancer_sockets{reactor="0"}"#) >= CROWD);
    let before = metric("throng_balancer_reactor_turns_total");
    let tls =
        rustls::ClientConnection::new(secure.balancer.tls.clone().unwrap(), "localhost".try_into().unwrap());
    let mut hello = Vec::new();
    tls.unwrap().write_tls(&mut hello).unwrap();
    // All of them have something to say when it looks again.
    secure.balancer.process.signal(libc::SIGSTOP);
    crowd.iter_mut().for_each(|web| web.send(&hello));
    secure.balancer.process.signal(libc::SIGCONT);
    crowd.iter_mut().for_each(|web| assert!(web.read_more()));
    let turns = metric("throng_balancer_reactor_turns_total") - before;
    assert!(turns >= CROWD / PART, "{turns} turns");
}

#[test]
fn an_address_that_begins_too_many_handshakes_is_turned_away() {
    // 4 for each WebSocket, and one a second.
    let (limit, taken) = (["--connections-per-address", "1/60"], 4 + 60);
    let attempts = taken + 2;
    let (authority, stub) = (Authority::new(), Stub::start());
    let shown = authority.server("balancer");
    // What a proxy connects for itself.
    let own = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    // How many of these handshakes behind this header come about.
    let begun = |header: &[u8], args: &[&str]| {
        let balancer = secured(&authority, &shown, &[stub.address], &[&UNCHECKED[..], &limit, args].concat());
        let begin = |header: &[u8], from: u8| {
            let mut web = Web::connect_from([127, 0, 0, from], balancer.http);
            // It may have been turned away already.
            let _ = web.try_send(header);
            web.secure(balancer.tls.as_ref().unwrap()).ok()
        };
        let begun = (0..attempts).filter(|_| begin(header, 9).is_some()).count();
        let mut other = begin(if header.is_empty() { b"" } else { own }, 10).unwrap();
        let metrics = String::from_utf8(other.request("GET", "/metrics", "", "").body).unwrap();
        let reset =
            format!(r#"throng_balancer_tls_handshakes_total{{outcome="address_rate"}} {}"#, attempts - begun);
        assert!(metrics.lines().any(|line| line == reset), "{args:?}: no {reset}");
        begun
    };
    assert_eq!(begun(b"", &[]), taken);
    assert_eq!(begun(b"", &["--trusted-proxy", "127.0.0.9"]), attempts);
    assert_eq!(begun(PROXY_HEADER, &["--proxy-protocol-in", "v2"]), taken);
    assert_eq!(
        begun(PROXY_HEADER, &["--proxy-protocol-in", "v2", "--trusted-proxy", "203.0.113.7"]),
        attempts
    );
    assert_eq!(begun(own, &["--proxy-protocol-in", "v2"]), attempts);
}
