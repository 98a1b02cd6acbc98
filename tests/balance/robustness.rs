//! Clients and backends that are slow, silent, broken or too many.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};
use socket2::SockRef;

use crate::balancer::{Balancer, launch};
use crate::listener::Listener;
use crate::node::{DEADLINE, Node, eventually};
use crate::socket::{self, BINARY, CLOSE, FIN, PING, Socket, TEXT, text, upgrade};
use crate::stub::{self, Call, SWITCHING, Stub};
use crate::web::Web;

/// Settings with which what checks find has been found at the start.
const UNCHECKED: [&str; 2] = ["--health-interval", "1h"];

/// Far more than all kernels hold on the way of one connection.
const FLOOD_BYTES: usize = 64 << 20;

/// How long a sender that is not heard waits before it is sure.
const STUCK: Duration = Duration::from_millis(300);

fn in_front_of(stub: &Stub, args: &[&str]) -> Balancer {
    Balancer::over(&[stub.address], &[&UNCHECKED[..], args].concat())
}

/// A WebSocket over this connection and its end at the backend.
fn open(mut web: Web, stub: &Stub) -> (Socket, Call) {
    web.send(upgrade("/ws", ""));
    let mut call = stub.call();
    call.web.send(SWITCHING);
    (Socket::accept(web).unwrap(), call)
}

/// Sends the same again and again until nobody takes any more; how many bytes
/// were taken, of which the last may be a part.
fn flood(stream: &TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(STUCK)).unwrap();
    let mut taken = 0;
    let mut stream_mut = stream;
    while taken < FLOOD_BYTES {
        match stream_mut.write(&bytes[taken % bytes.len()..]) {
            Ok(count) => taken += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    taken
}

#[test]
fn a_slow_client_slows_its_backend_down_and_costs_little() {
    const CLIENTS: usize = 8;
    const GROWTH_BYTES_MAX: u64 = 4 << 20;
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--reactors", "1"]);
    let mut pairs: Vec<_> =
        (0..CLIENTS).map(|_| open(Web::connect_narrow(balancer.http, 4096), &stub)).collect();
    let before = balancer.process.resident_bytes();
    let message = stub::frame(FIN | BINARY, &[7; 50_000]);
    let taken: Vec<_> = pairs.iter().map(|(_, call)| flood(&call.web.stream, &message)).collect();
    assert!(taken.iter().all(|taken| *taken < FLOOD_BYTES), "{taken:?}");
    let growth = balancer.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes for {taken:?}");
    let held = balancer.metric("throng_balancer_held_bytes");
    assert!((1..=CLIENTS as u64 * 64 * 1024).contains(&held), "{held}");
    // The other direction goes on.
    for (socket, call) in &mut pairs {
        socket.send(text("heard"));
        assert_eq!(call.frame().payload, b"heard");
    }
    // When they read, all of it comes.
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
    assert_eq!(balancer.metric("throng_balancer_held_bytes"), 0);
}

#[test]
fn a_slow_backend_slows_its_client_down() {
    let stub = Stub::start_narrow();
    let balancer = in_front_of(&stub, &["--reactors", "1"]);
    let (mut socket, mut call) = open(balancer.web(), &stub);
    let message = socket::frame(FIN | BINARY, &[7; 50_000]);
    let taken = flood(&socket.web().stream, &message);
    assert!(taken < FLOOD_BYTES);
    let held = balancer.metric("throng_balancer_held_bytes");
    assert!((1..=64 * 1024).contains(&held), "{held}");
    call.web.send(stub::frame(FIN | TEXT, b"heard"));
    assert_eq!(socket.frame().payload, b"heard");
    let rest = message[taken % message.len()..].to_vec();
    let sending = thread::spawn(move || socket.send(&rest));
    for _ in 0..taken.div_ceil(message.len()) {
        assert!(call.frame().payload == [7; 50_000]);
    }
    sending.join().unwrap();
}

#[test]
fn a_client_that_vanishes_is_let_go() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--reactors", "1", "--half-close-timeout", "1h"]);
    let (mut socket, mut call) = open(Web::connect_narrow(balancer.http, 4096), &stub);
    let message = stub::frame(FIN | BINARY, &[7; 50_000]);
    flood(&call.web.stream, &message);
    socket.send(text("the last"));
    SockRef::from(&socket.web().stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    balancer.wait_for_connections(0);
    assert_eq!(call.frame().payload, b"the last");
    // Whatever is on the way to nobody ends with the connection.
    while call.web.stream.write_all(&message).is_ok() {}
    assert_eq!(balancer.backends()[0]["connections"], 0);
}

#[test]
fn a_client_that_vanishes_while_both_wait_is_let_go() {
    let stub = Stub::start_narrow();
    let balancer = in_front_of(&stub, &["--reactors", "1", "--half-close-timeout", "1h"]);
    for reads_on in [true, false] {
        let (mut socket, mut call) = open(Web::connect_narrow(balancer.http, 4096), &stub);
        flood(&call.web.stream, &stub::frame(FIN | BINARY, &[7; 50_000]));
        flood(&socket.web().stream, &socket::frame(FIN | BINARY, &[7; 50_000]));
        assert!(balancer.metric("throng_balancer_held_bytes") > 0);
        drop(socket);
        // A backend that reads only when it has been read from gets on.
        call.web.stream.write_all(&vec![0; 4 << 20]).unwrap();
        while reads_on && call.web.read_more() {
            call.web.buffer.clear();
        }
    }
    balancer.wait_for_connections(0);
    assert_eq!(balancer.metric("throng_balancer_held_bytes"), 0);
    assert_eq!(balancer.metric("throng_balancer_failovers_total"), 0, "nobody was there to be lost");
}

#[test]
fn a_handshake_has_a_time_limit() {
    let node = Node::start(&["--reactors", "1"]);
    let balancer = Balancer::over(&[node.http], &["--handshake-timeout", "300ms"]);
    let request = upgrade("/ws", "");
    let mut slow = balancer.web();
    slow.send(&request[..request.len() - 2]);
    let mut post = balancer.web();
    post.send("POST /api/backends HTTP/1.1\r\nHost: b\r\nContent-Length: 10\r\n\r\n{");
    let mut silent = balancer.web();
    // A byte now and then makes no difference.
    let mut dripping = balancer.web();
    let mut sent = 0;
    while dripping.stream.write_all(&request.as_bytes()[sent..=sent]).is_ok() && sent < 20 {
        sent += 1;
        balancer.get("/livez");
    }
    for web in [&mut slow, &mut post, &mut dripping] {
        assert_eq!(web.response().status, 408);
        web.assert_ends();
    }
    silent.assert_ends();
    assert_eq!(balancer.ended("request_timeout"), 1);
}

#[test]
fn a_crowd_that_says_nothing_goes_away() {
    const CROWD: usize = 2000;
    let node = Node::start(&["--reactors", "1"]);
    let balancer = Balancer::over(&[node.http], &["--handshake-timeout", "2s", "--reactors", "2"]);
    let mut served = Socket::connect(balancer.http, "/ws", "");
    assert_eq!(served.json()["type"], "welcome");
    let sockets = |balancer: &Balancer| {
        [0, 1]
            .map(|index| balancer.metric(&format!(r#"throng_balancer_sockets{{reactor="{index}"}}"#)))
            .iter()
            .sum::<u64>()
    };
    let mut crowd: Vec<Web> = (0..CROWD).map(|_| balancer.web()).collect();
    let most = sockets(&balancer);
    assert!(most > CROWD as u64 / 2, "{most}");
    served.assert_alive();
    drop(Socket::connect(balancer.http, "/ws", ""));
    crowd.iter_mut().for_each(Web::assert_ends);
    eventually("their rows are free", || sockets(&balancer) < 10);
    served.assert_alive();
}

#[test]
fn garbage_is_refused_and_goes_nowhere() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--handshake-timeout", "2s"]);
    let mut chance = Rng::with_seed(7);
    let mut noise = |length: usize| -> Vec<u8> { (0..length).map(|_| chance.u8(..)).collect() };
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    let mut inputs = vec![
        tls,
        vec![0; 100],
        b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        [b"GET /".to_vec(), vec![b'x'; 100_000]].concat(),
        [b"GET / HTTP/1.1\r\nHost: b\r\n".to_vec(), b"A: b\r\n".repeat(100), b"\r\n".to_vec()].concat(),
    ];
    inputs.extend((0..50).map(|length| [&b"\x80"[..], &noise(length * 10)].concat()));
    for input in inputs {
        let mut web = balancer.web();
        // It may be refused before it has all been said.
        let _ = web.stream.write_all(&input);
        let _ = SockRef::from(&web.stream).shutdown(std::net::Shutdown::Write);
        while web.read_more() {}
        let answer = String::from_utf8_lossy(&web.buffer).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505"),
            "{answer}"
        );
    }
    stub.assert_unused();
    assert_eq!(balancer.get("/livez").status, 200);
}

#[test]
fn what_breaks_the_protocol_is_the_nodes_to_judge() {
    let node = Node::start(&[]);
    let balancer = Balancer::start(std::slice::from_ref(&node), &[]);
    for bytes in [b"\x81\x03abc".to_vec(), vec![0xff; 64], socket::frame(FIN | 3, b"")] {
        let mut socket = Socket::connect(balancer.http, "/echo", "");
        socket.send(bytes);
        assert_eq!(socket.close_frame().0, 1002);
        assert_eq!(socket.try_frame(), None);
    }
}

#[test]
fn without_descriptors_nobody_who_is_there_is_hurt() {
    const DESCRIPTORS: u32 = 100;
    let nodes: [Node; 2] = std::array::from_fn(|_| Node::start(&["--reactors", "1"]));
    let backends = nodes.each_ref().map(|node| node.http.to_string());
    let args = [
        "--reactors",
        "2",
        "--health-interval",
        "500ms",
        "--health-timeout",
        "490ms",
        "--ejection-min",
        "1h",
        "--ejection-max",
        "1h",
    ];
    let balancer = Balancer::launched(&launch(&backends, &args).descriptors(DESCRIPTORS));
    balancer.wait_until_all_are("up");
    let mut listener = Listener::open(&balancer);
    let mut sockets = Vec::new();
    let refused = loop {
        match Socket::try_connect(balancer.http, "/ws", "") {
            Ok(mut socket) => {
                assert_eq!(socket.json()["type"], "welcome");
                sockets.push(socket);
            }
            Err(answer) => break answer,
        }
        assert!(sockets.len() < DESCRIPTORS as usize, "it has more than it may have");
    };
    assert!(sockets.len() > 20, "{}", sockets.len());
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{refused:?}");
    let (mut silent, mut checks) = (Vec::new(), Vec::new());
    eventually("checks cannot be made, which says nothing", || {
        // Whatever is left, or given back by a check, is taken by one who says nothing.
        silent.push(balancer.web());
        for backend in listener.next_of("snapshot")["backends"].as_array().unwrap() {
            assert_eq!(backend["state"], "up", "{backend}");
            let check = &backend["last_check"];
            let was_not_made = check["error"].as_str().is_some_and(|error| error.starts_with("not checked"));
            if was_not_made && !checks.contains(&check["at"]) {
                checks.push(check["at"].clone());
            }
        }
        checks.len() >= 5
    });
    sockets.iter_mut().for_each(Socket::assert_alive);
    let before = balancer.process.processor_time();
    listener.next_of("snapshot");
    let used = balancer.process.processor_time() - before;
    assert!(used < Duration::from_millis(500), "it spins: {used:?} of a second");
    drop(silent);
    drop(sockets.pop());
    eventually("there is room again", || Socket::try_connect(balancer.http, "/ws", "").is_ok());
    sockets.iter_mut().for_each(Socket::assert_alive);
    drop(sockets);
    balancer.wait_for_connections(0);
    balancer.clients(20).iter_mut().for_each(|client| client.socket.assert_alive());
    assert!(balancer.metric("throng_balancer_accept_errors_total") > 0);
    assert_eq!(balancer.backends().iter().map(|one| one["failures"].as_u64().unwrap()).sum::<u64>(), 0);
}

/// A PROXY protocol header, version 2, of a TCP connection.
fn proxy_header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let octets = |address: SocketAddr| match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let addresses = [octets(source), octets(destination), ports].concat();
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    [b"\r\n\r\n\0\r\nQUIT\n\x21", &[family, 0, addresses.len() as u8][..], &addresses].concat()
}

#[test]
fn a_proxy_in_front_says_who_the_client_is() {
    let stub = Stub::start();
    let args = ["--proxy-protocol-in", "v2", "--handshake-timeout", "500ms"];
    let all = [&UNCHECKED[..], &args].concat();
    let balancer = Balancer::launched(&launch(&[stub.address.to_string()], &all));
    let here = balancer.http;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    let ask = |header: &[u8], path: &str| {
        let mut web = balancer.web();
        web.send(header);
        web.request("GET", path, "", "")
    };
    eventually("it is up", || ask(&local, "/health").status == 200);
    for (source, name) in [("203.0.113.7:4711", "203.0.113.7"), ("[2001:db8::7]:4711", "2001:db8::7")] {
        let source: SocketAddr = source.parse().unwrap();
        let destination = if source.is_ipv4() { here } else { "[::1]:80".parse().unwrap() };
        let header = proxy_header(source, destination);
        let mut web = balancer.web();
        // However it comes.
        let (first, second) = header.split_at(13);
        web.send(first);
        assert_eq!(ask(&local, "/livez").status, 200);
        web.send([second, upgrade("/ws?client_id=c", "X-Forwarded-For: 192.0.2.1\r\n").as_bytes()].concat());
        let mut call = stub.call();
        assert_eq!((call.headers("x-forwarded-for"), call.headers("x-real-ip")), (vec![name], vec![name]));
        call.web.send(SWITCHING);
        let _open = Socket::accept(web).unwrap();
        let shown = ask(&local, "/api/query?client_id=c").json();
        assert_eq!(shown["connections"][0]["address"], source.to_string());
    }
    // Who comes through a proxy changes nothing, from wherever it says they come.
    let unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0".to_vec();
    let named = |source: &str| proxy_header(source.parse().unwrap(), here);
    for header in [named("203.0.113.7:1"), named("127.0.0.1:1"), unspecified] {
        let mut far = balancer.web();
        far.send(header);
        assert_eq!(far.request("POST", "/api/backends/b1/drain", "", "").status, 403);
    }
    let mut missing = balancer.web();
    missing.send(upgrade("/ws", ""));
    missing.assert_ends();
    let mut wrong = balancer.web();
    wrong.send(b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n");
    wrong.assert_ends();
    let mut late = balancer.web();
    late.send(&local[..15]);
    late.assert_ends();
    let ended = String::from_utf8(ask(&local, "/metrics").body).unwrap();
    assert!(ended.contains("throng_balancer_pairs_ended_total{reason=\"bad_proxy_header\"} 2\n"), "{ended}");
    stub.assert_unused();
}

#[test]
fn backends_are_told_who_the_client_is() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--proxy-protocol-out", "v2"]);
    for headers in ["", "Upgrade: websocket\r\nConnection: Upgrade\r\n"] {
        let mut web = balancer.web();
        web.send(format!("GET /x HTTP/1.1\r\nHost: b\r\n{headers}\r\n"));
        let mut call = stub.call();
        assert_eq!(call.proxy, proxy_header(web.stream.local_addr().unwrap(), balancer.http));
        assert_eq!(call.headers("x-forwarded-for"), ["127.0.0.1"]);
        call.answer(b"ok");
        assert_eq!(web.response().body, b"ok");
    }
}

#[test]
fn a_pair_that_is_silent_is_ended() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--idle-timeout", "1s"]);
    let since = Instant::now();
    let (mut silent, mut at_backend) = open(balancer.web(), &stub);
    let (mut talker, mut its_call) = open(balancer.web(), &stub);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(silent.try_frame(), None);
            assert!(!at_backend.web.read_more());
            is_over.store(true, Ordering::Release);
        });
        // Either direction counts.
        let mut turn = 0;
        while !is_over.load(Ordering::Acquire) && since.elapsed() < DEADLINE {
            turn += 1;
            if turn % 1000 < 500 {
                talker.send(text("still here"));
                assert_eq!(its_call.frame().payload, b"still here");
            } else {
                its_call.web.send(stub::frame(FIN | TEXT, b"still here"));
                assert_eq!(talker.frame().payload, b"still here");
            }
        }
    });
    // The balancer's clock has ticks, and the pair may have been idle since the last one.
    assert!(since.elapsed() >= Duration::from_millis(900), "ended after {:?}", since.elapsed());
    eventually("it is counted", || balancer.ended("idle_timeout") == 1);
}

#[test]
fn half_of_a_connection_does_not_stay_for_ever() {
    let stub = Stub::start();
    let balancer = in_front_of(&stub, &["--half-close-timeout", "300ms"]);
    let (mut socket, mut call) = open(balancer.web(), &stub);
    socket.web().shut();
    assert!(!call.web.read_more());
    assert_eq!(socket.try_frame(), None);
    eventually("it is counted", || balancer.ended("half_closed_timeout") == 1);
    let (mut socket, mut call) = open(balancer.web(), &stub);
    call.web.send(stub::close_frame(1000, ""));
    call.web.shut();
    assert_eq!(socket.frame().first, FIN | CLOSE);
    assert!(!call.web.read_more());
    eventually("it is counted", || balancer.ended("half_closed_timeout") == 2);
}

#[test]
fn a_listener_that_does_not_read_is_cut_off() {
    const BACKENDS: usize = 250;
    let specs: Vec<String> = (0..BACKENDS).map(|number| format!("127.0.0.2:{}", number + 1)).collect();
    let balancer = Balancer::launched(&launch(&specs, &[&UNCHECKED[..], &["--reactors", "1"]].concat()));
    let mut stuck = Listener::on(Web::connect_narrow(balancer.http, 4096));
    let mut reads = Listener::open(&balancer);
    let before = balancer.process.resident_bytes();
    // Every change is told at once, with the state of all backends.
    eventually("it is cut off", || {
        let changed = balancer.web().request("POST", "/api/backends/b1/drain", "", "");
        assert_eq!(changed.status, 200);
        reads.next_of("snapshot");
        balancer.ended("slow_listener") == 1
    });
    let growth = balancer.process.resident_bytes().saturating_sub(before);
    assert!(growth < 16 << 20, "{growth}");
    assert_eq!(balancer.metric("throng_balancer_listeners"), 1);
    while stuck.0.read_more() {}
    reads.next_of("snapshot");
}

#[test]
fn there_are_no_more_clients_than_there_may_be() {
    let node = Node::start(&["--reactors", "1"]);
    let balancer = Balancer::over(&[node.http], &["--max-connections", "5", "--reactors", "2"]);
    let mut clients = balancer.clients(5);
    for _ in 0..10 {
        let answer = Socket::try_connect(balancer.http, "/ws", "").err().expect("it is full");
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{answer:?}");
    }
    assert_eq!(balancer.get("/nodes").status, 503);
    assert_eq!(balancer.json("/health")["connections"], 5);
    assert_eq!(balancer.metric(r#"throng_balancer_refused_total{reason="capacity"}"#), 11);
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
    drop(clients.pop());
    eventually("there is room", || Socket::try_connect(balancer.http, "/ws", "").is_ok());
}

#[test]
fn an_address_that_connects_too_often_has_to_wait() {
    let node = Node::start(&["--reactors", "1"]);
    let args = ["--connections-per-address", "5/60", "--reactors", "2", "--trusted-proxy", "127.0.0.0/8"];
    let balancer = Balancer::over(&[node.http], &args);
    for client in ["198.51.100.1", "198.51.100.2"] {
        let header = format!("X-Forwarded-For: {client}\r\n");
        let connect = || Socket::try_connect(balancer.http, "/ws", &header);
        (0..5).for_each(|_| assert!(connect().is_ok()));
        let answer = connect().err().expect("that was too often");
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (429, true), "{answer:?}");
    }
    assert_eq!(balancer.get("/health").status, 200);
    assert_eq!(balancer.metric(r#"throng_balancer_refused_total{reason="address_rate"}"#), 2);
}

/// A connection from its first byte to its end, each as chance has it.
fn live(address: SocketAddr, chance: &mut Rng) {
    let narrow = chance.u8(..) < 60;
    let mut web = if narrow { Web::connect_narrow(address, 4096) } else { Web::connect(address) };
    let target = ["/ws?user_id=1", "/echo", "/ws", "/nowhere", "/api/clients", "/nodes"][chance.usize(..6)];
    let request = match chance.u8(..6) {
        0 => format!(
            "POST {target} HTTP/1.1\r\nHost: b\r\nContent-Length: 3000\r\n\r\n{}",
            "x".repeat(chance.usize(..6000))
        ),
        1 => format!("GET {target} HTTP/1.1\r\nHost: b\r\n\r\n"),
        _ => upgrade(target, ""),
    };
    let length = if chance.u8(..) < 30 { chance.usize(..request.len()) } else { request.len() };
    let mut bytes = request.as_bytes()[..length].to_vec();
    for _ in 0..chance.usize(..40) {
        let payload = vec![b'1'; chance.usize(..40_000)];
        bytes.extend(match chance.u8(..12) {
            0 => socket::frame(FIN | CLOSE, &1000_u16.to_be_bytes()),
            1 => socket::frame(FIN | PING, b"?"),
            2 => b"\x81\x00".to_vec(),
            _ => socket::frame(FIN | BINARY, &payload),
        });
    }
    web.stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    // Whoever refuses or is stuck has made its point.
    let _ = web.stream.write_all(&bytes);
    web.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut reading = &web.stream;
    for _ in 0..chance.usize(..20) {
        if !std::io::Read::read(&mut reading, &mut [0; 4096]).is_ok_and(|count| count > 0) {
            break;
        }
    }
    match chance.u8(..3) {
        0 => SockRef::from(&web.stream).set_linger(Some(Duration::ZERO)).unwrap(),
        1 => drop(SockRef::from(&web.stream).shutdown(std::net::Shutdown::Write)),
        _ => {}
    }
}

#[test]
fn clients_that_do_anything_at_any_time_leave_nothing_behind() {
    const AT_ONCE: u64 = 8;
    const LIVES: usize = 20;
    let mut nodes: [Node; 3] = std::array::from_fn(|_| Node::start(&["--reactors", "1"]));
    let specs = nodes.each_ref().map(|node| format!("{},max=4", node.http));
    let args = [
        "--reactors",
        "2",
        "--queue-timeout",
        "200ms",
        "--health-interval",
        "300ms",
        "--health-timeout",
        "250ms",
        "--half-close-timeout",
        "1s",
        "--failover-window",
        "50ms",
        "--handshake-timeout",
        "500ms",
        "--queue-connections",
        "3",
        "--answer-timeout",
        "500ms",
    ];
    let balancer = Balancer::over(&specs, &args);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let address = balancer.http;
    let clients: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            thread::spawn(move || {
                let mut chance = Rng::with_seed(seed.wrapping_add(number));
                (0..LIVES).for_each(|_| live(address, &mut chance));
            })
        })
        .collect();
    nodes[0].process.signal(libc::SIGKILL);
    nodes[1].process.signal(libc::SIGSTOP);
    eventually("it is noticed", || balancer.state_of(&nodes[1]) == "down");
    nodes[1].process.signal(libc::SIGCONT);
    for client in clients {
        client.join().unwrap();
    }
    nodes[0].process.wait();
    balancer.wait_for_connections(0);
    balancer.wait_for_queued(0);
    eventually("nobody has a place any more", || {
        balancer.backends().iter().all(|backend| backend["connections"] == 0)
    });
    eventually("nothing is held", || balancer.metric("throng_balancer_held_bytes") == 0);
    let sockets = |index: usize| balancer.metric(&format!(r#"throng_balancer_sockets{{reactor="{index}"}}"#));
    eventually("no row is left", || sockets(0) + sockets(1) <= 2);
    eventually("the other two serve", || {
        [&nodes[1], &nodes[2]].iter().all(|node| ["up", "slow_start"].contains(&&*balancer.state_of(node)))
    });
    assert_eq!(balancer.json("/api/clients"), json!({"clients": [], "next": Value::Null, "total": 0}));
    balancer.clients(4).iter_mut().for_each(|client| client.socket.assert_alive());
}
