//! Clients that read too slowly, or not at all.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::node::{DEADLINE, Node, eventually};
use crate::socket::{BINARY, FIN, Socket, frame, text};
use crate::web::Web;

/// What the kernel is asked to hold for a client that is to be slow.
const NARROW: usize = 8 * 1024;

/// Content of a message in a flood: large beside what the node holds for a client.
const CONTENT: usize = 32 * 1024;

/// Far more than the kernel holds for one connection, either way.
const FLOOD_MESSAGES: usize = 1_000;

/// Memory a node may come to need for buffers that do not grow with a flood.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

fn node(policy: &str) -> Node {
    Node::start(&[
        "--reactors",
        "1",
        "--slow-consumer",
        policy,
        "--outbound-bytes-max",
        "256KiB",
        "--message-bytes-max",
        "128KiB",
    ])
}

fn narrow_user(node: &Node, user: &str) -> Socket {
    let mut socket = Socket::connect_narrow(node.http, &format!("/ws?user_id={user}"), NARROW);
    assert_eq!(socket.json()["type"], "welcome");
    socket
}

/// The `n`th message of a flood to a user: its number, then padding.
fn flood(user: &str, n: usize) -> Vec<u8> {
    let padding = "x".repeat(CONTENT);
    text(&format!(r#"{{"type":"send_message","target_user":"{user}","content":[{n},"{padding}"]}}"#))
}

fn dropped(node: &Node) -> u64 {
    node.metric(r#"throng_messages_dropped_total{reason="slow_consumer"}"#)
}

fn closed_as_slow(node: &Node) -> u64 {
    node.metric(r#"throng_connections_closed_total{reason="slow_consumer"}"#)
}

#[test]
fn who_does_not_read_is_disconnected_and_costs_little() {
    let node = node("disconnect");
    let mut stuck = narrow_user(&node, "stuck");
    let mut bystander = node.user("bystander");
    let mut sender = node.user("sender");
    let before = node.process.resident_bytes();
    let mut sent = 0;
    // No longer than it takes: from then on the node waits only a few seconds
    // for what is owed to be read.
    while dropped(&node) == 0 {
        assert!(sent < FLOOD_MESSAGES, "everything was taken for a client that does not read");
        for _ in 0..100 {
            sender.send(flood("stuck", sent));
            sent += 1;
        }
        bystander.assert_alive();
        let growth = node.process.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes at message {sent}");
    }
    sender.send(flood("stuck", sent));
    sent += 1;
    // From some message on, the sender is told that nobody is there any more.
    sender.send_text(r#"{"type":"ping"}"#);
    let mut undelivered = 0;
    while sender.json()["type"] == "error" {
        undelivered += 1;
    }
    assert!((1..sent).contains(&undelivered), "{undelivered}");
    assert_eq!(dropped(&node), 1, "the one that was too much");
    // What was taken for it arrives whole and in order, then the reason.
    let delivered = sent - undelivered - 1;
    for n in 0..delivered {
        assert_eq!(stuck.json()["content"][0], n);
    }
    assert_eq!(stuck.closed_with(), (1008, "Slow consumer".to_owned()));
    eventually("its end is counted", || closed_as_slow(&node) == 1);
    bystander.assert_alive();
}

#[test]
fn who_does_not_read_a_broadcast_holds_nobody_up() {
    let node = node("disconnect");
    let stuck = narrow_user(&node, "stuck");
    let mut readers: Vec<Socket> = (0..3).map(|n| node.user(&format!("reader-{n}"))).collect();
    let before = node.process.resident_bytes();
    let padding = "x".repeat(CONTENT);
    let mut web = node.web();
    for n in 0..FLOOD_MESSAGES {
        web.request("POST", "/api/broadcast", "", &format!(r#"{{"message":[{n},"{padding}"]}}"#));
        for reader in &mut readers {
            assert_eq!(reader.json()[0], n);
        }
    }
    let growth = node.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    assert_eq!(node.json("/health")["connections"], 3);
    assert_eq!(node.json("/api/users/stuck")["online"], false);
    drop(stuck);
    eventually("its end is counted", || closed_as_slow(&node) == 1);
}

#[test]
fn messages_that_do_not_fit_are_dropped_if_that_is_the_policy() {
    let node = node("drop-newest");
    let mut stuck = narrow_user(&node, "stuck");
    let mut sender = node.user("sender");
    let before = node.process.resident_bytes();
    for n in 0..FLOOD_MESSAGES {
        sender.send(flood("stuck", n));
    }
    sender.assert_alive();
    let growth = node.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    let lost = dropped(&node) as usize;
    assert!((1..FLOOD_MESSAGES).contains(&lost), "{lost}");
    let kept = FLOOD_MESSAGES - lost;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for n in 0..kept {
                assert_eq!(stuck.json()["content"][0], n, "the newest are dropped, not these");
            }
            assert_eq!(stuck.json()["content"], "the end");
            ended.store(true, Ordering::Relaxed);
        });
        // There is room for a last one when enough has been read.
        eventually("the last message is read", || {
            assert!(!reader.is_finished() || ended.load(Ordering::Relaxed));
            sender.send_message("stuck", "the end");
            sender.assert_alive();
            ended.load(Ordering::Relaxed)
        });
    });
    assert_eq!(node.json("/api/users/stuck")["online"], true);
}

#[test]
fn broadcasts_that_do_not_fit_are_dropped_whole() {
    let node = node("drop-newest");
    let mut stuck = narrow_user(&node, "stuck");
    let mut reader = node.user("reader");
    let padding = "x".repeat(CONTENT);
    let mut web = node.web();
    for n in 0..FLOOD_MESSAGES {
        web.request("POST", "/api/broadcast", "", &format!(r#"{{"message":[{n},"{padding}"]}}"#));
        assert_eq!(reader.json()[0], n);
    }
    let kept = FLOOD_MESSAGES - dropped(&node) as usize;
    assert!((1..FLOOD_MESSAGES).contains(&kept), "{kept}");
    for n in 0..kept {
        assert_eq!(stuck.json()[0], n);
    }
    web.request("POST", "/api/broadcast", "", r#"{"message":"the end"}"#);
    assert_eq!(stuck.json(), "the end");
}

/// Writes as much as the peer takes within a second; the bytes written.
fn write_until_blocked(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    written
}

#[test]
fn who_does_not_read_its_own_answers_is_not_read_either() {
    const MESSAGES: usize = 400;
    let node = node("disconnect");
    let mut bystander = node.user("bystander");
    let mut flooder = Socket::connect_narrow(node.http, "/echo", NARROW);
    let before = node.process.resident_bytes();
    let payload = |n: usize| vec![n as u8; 2 * CONTENT + n];
    let all: Vec<u8> = (0..MESSAGES).flat_map(|n| frame(FIN | BINARY, &payload(n))).collect();
    let written = write_until_blocked(&mut flooder.web().stream, &all);
    assert!(written < all.len(), "nothing held the flood up");
    let growth = node.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    assert!(node.metric("throng_reads_paused_total") > 0);
    bystander.assert_alive();
    // As soon as it reads, everything goes on where it stopped.
    let mut stream = flooder.web().stream.try_clone().unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| stream.write_all(&all[written..]).unwrap());
        for n in 0..MESSAGES {
            let echo = flooder.message();
            assert_eq!(echo.first, FIN | BINARY);
            assert!(echo.payload == payload(n), "{n}");
        }
    });
    assert_eq!(dropped(&node), 0);
}

#[test]
fn a_client_that_asks_and_never_reads_hurts_nobody() {
    let node = node("disconnect");
    let mut flooder = Socket::connect_narrow(node.http, "/ws", NARROW);
    assert_eq!(flooder.json()["type"], "welcome");
    let ping = text(&format!(r#"{{"type":"ping","padding":"{}"}}"#, "x".repeat(CONTENT)));
    let written = write_until_blocked(&mut flooder.web().stream, &ping.repeat(FLOOD_MESSAGES));
    assert!(written < FLOOD_MESSAGES * ping.len(), "nothing held the flood up");
    assert_eq!(node.json("/health")["connections"], 1, "nothing was dropped, so it stays");
    drop(flooder);
    node.wait_for_connections(0);
}

#[test]
fn requests_whose_answers_are_not_read_are_not_read_either() {
    const REQUESTS: usize = 40_000;
    let node = node("disconnect");
    let mut web = Web::connect_narrow(node.http, NARROW);
    let before = node.process.resident_bytes();
    let request = "GET /health HTTP/1.1\r\nHost: node\r\n\r\n";
    let all = request.repeat(REQUESTS).into_bytes();
    let written = write_until_blocked(&mut web.stream, &all);
    assert!(written < all.len(), "nothing held the flood up");
    let growth = node.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    assert_eq!(node.get("/livez").status, 200);
    // As soon as it reads, everything goes on; a last request is begun at most.
    let whole = written.div_ceil(request.len());
    let mut stream = web.stream.try_clone().unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| stream.write_all(&all[written..whole * request.len()]).unwrap());
        for _ in 0..whole {
            assert_eq!(web.response().status, 200);
        }
    });
}

#[test]
fn who_does_not_read_that_nobody_is_there_is_not_read_either() {
    let node = Node::start(&["--reactors", "4", "--outbound-bytes-max", "512KiB"]);
    let mut flooder = Socket::connect_narrow(node.http, "/ws", NARROW);
    assert_eq!(flooder.json()["type"], "welcome");
    let before = node.process.resident_bytes();
    let all: Vec<u8> = (0..150_000)
        .flat_map(|n| text(&format!(r#"{{"type":"send_message","target_user":"nobody-{n}","content":1}}"#)))
        .collect();
    let written = write_until_blocked(&mut flooder.web().stream, &all);
    let growth = node.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    assert!(written < all.len(), "nothing held the flood up");
    assert_eq!(node.json("/health")["connections"], 1);
}
