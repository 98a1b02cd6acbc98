//! Connections are kept: when, how soon, and with nothing missing.

use std::time::{Duration, Instant};

use serde_json::json;

use super::scripted::Scripted;
use super::{at, client, span, url};
use crate::authority::{Authority, text};
use crate::node::{Launch, Node};

/// Waits shorter than a person would want, so that a test does not.
const QUICK: [&str; 4] = ["--backoff-first", "100ms", "--backoff-max", "300ms"];

/// A little for the clocks and threads of a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// A node like `node`, on its port.
fn again(node: &Node, args: &[&str]) -> Node {
    let port = node.http.port().to_string();
    Launch::serve(&[&["--port", &port], args].concat()).start()
}

#[test]
fn a_drained_node_loses_nothing_it_announced() {
    const CLIENTS: usize = 50;
    let business = ["--simulate", "--simulate-interval", "100ms"];
    let leaving = ["--lame-duck", "0s", "--drain-window", "1s", "--drain-timeout", "10s"];
    let mut first = Node::start(&[&business[..], &leaving].concat());
    let args = ["--connections", "50", "--simulate", "--interval", "50ms", "--name", "c"];
    let mut clients = client(&url(&first), &[&args[..], &QUICK].concat());
    clients.next_times("welcomed", CLIENTS);
    first.process.signal(libc::SIGTERM);
    clients.next_times("notice", CLIENTS);
    assert_eq!(first.process.wait().code(), Some(0));
    let second = again(&first, &business);
    let back = CLIENTS - (clients.count("connected") - CLIENTS);
    clients.next_times("connected", back);
    second.wait_for_connections(CLIENTS as u64);
    let (sums, code) = clients.end();
    assert_eq!(code, 0, "{sums:#}");
    let number = |field: &str| sums[field].as_u64().unwrap();
    assert_eq!((number("lost"), number("gaps"), number("duplicates")), (0, 0, 0), "{sums:#}");
    assert!(number("announced") >= CLIENTS as u64, "{sums:#}");
    assert_eq!(number("announced"), number("announced_received"));
    assert_eq!(number("sent"), number("confirmed"));
    assert_eq!((number("notices"), number("reconnects")), (CLIENTS as u64, CLIENTS as u64));
    assert_eq!(sums["instances"].as_object().unwrap().len(), 2, "{sums:#}");
    assert!(number("away_ms") >= number("longest_away_ms") && number("longest_away_ms") > 0);
}

#[test]
fn a_killed_node_is_waited_for_with_back_off() {
    let first = Node::start(&["--simulate", "--simulate-interval", "50ms"]);
    let mut one = client(&url(&first), &[&["--simulate", "--interval", "20ms"][..], &QUICK].concat());
    one.next("welcomed");
    first.process.signal(libc::SIGKILL);
    let gone = one.next("disconnected");
    assert_eq!((&gone["code"], &gone["lost"]), (&json!(null), &json!(0)), "{gone}");
    assert!(span(&gone, "retry_in_ms") <= Duration::from_millis(100), "{gone}");
    for bound in [200, 300, 300] {
        let failed = one.next("failed");
        assert!(failed["why"].as_str().unwrap().contains("refused"), "{failed}");
        assert!(span(&failed, "retry_in_ms") <= Duration::from_millis(bound), "{failed}");
    }
    let second = again(&first, &[]);
    let back = one.next("connected");
    assert!(back["attempts"].as_u64().unwrap() >= 4, "{back}");
    assert!(span(&back, "away_ms") <= at(&back) - at(&gone) + SLACK, "{back}");
    one.next("welcomed");
    second.wait_for_connections(1);
    let (sums, code) = one.end();
    assert_eq!((code, &sums["reconnects"], &sums["lost"]), (0, &json!(1), &json!(0)), "{sums:#}");
}

#[test]
fn it_comes_back_when_the_notice_says() {
    let server = Scripted::new();
    let mut one = client(&server.url(), &[]);
    let mut peer = server.accept();
    let told = Instant::now();
    peer.send(r#"{"type":"shutdown","reason":"draining","reconnect_after_ms":700}"#);
    let notice = one.next("notice");
    assert_eq!(span(&notice, "reconnect_after_ms"), Duration::from_millis(700));
    peer.close(1012, "Server is draining");
    let gone = one.next("disconnected");
    assert_eq!((&gone["code"], &gone["reason"]), (&json!(1012), &json!("Server is draining")));
    assert!(span(&gone, "retry_in_ms") <= Duration::from_millis(700), "{gone}");
    let mut peer = server.accept();
    let came = told.elapsed();
    assert!((Duration::from_millis(690)..Duration::from_millis(700) + SLACK).contains(&came), "{came:?}");
    // Sent away again at once, it is not told to the moment any more.
    peer.send(r#"{"type":"shutdown","reconnect_after_ms":0}"#);
    peer.close(1012, "");
    one.next("disconnected");
    drop(server.accept());
    let gone = one.next("disconnected");
    assert_eq!(gone["code"], json!(null));
    let (sums, code) = one.end();
    assert_eq!((code, &sums["notices"], &sums["reconnects"]), (0, &json!(2), &json!(2)), "{sums:#}");
}

#[test]
fn a_close_for_a_restart_is_answered_at_once() {
    let check = |code, reason: &str, least: u64| {
        let server = Scripted::new();
        let mut one = client(&server.url(), &["--backoff-first", "30s"]);
        let peer = server.accept();
        let closed = Instant::now();
        peer.close(code, reason);
        let gone = one.next("disconnected");
        assert_eq!(span(&gone, "retry_in_ms"), Duration::from_millis(least), "{gone}");
        let _back = server.accept();
        let came = closed.elapsed();
        let least = Duration::from_millis(least);
        assert!((least..least + SLACK).contains(&came), "{came:?}");
    };
    check(1012, "backend lost", 0);
    check(1001, "", 0);
    check(1012, "reconnect_after_ms=300", 300);
}

#[test]
fn retry_after_is_obeyed() {
    for status in ["503 Service Unavailable", "429 Too Many Requests"] {
        let server = Scripted::new();
        let mut one = client(&server.url(), &QUICK);
        let start = Instant::now();
        server.refuse(&format!("{status}\r\nRetry-After: 1"));
        let failed = one.next("failed");
        assert!(failed["why"].as_str().unwrap().contains(&status[..3]), "{failed}");
        let wait = span(&failed, "retry_in_ms");
        assert!((Duration::from_secs(1)..=Duration::from_millis(1100)).contains(&wait), "{failed}");
        let mut peer = server.accept();
        let came = start.elapsed();
        assert!((wait..wait + SLACK).contains(&came), "{came:?} {wait:?}");
        one.next("connected");
        one.process.signal(libc::SIGTERM);
        peer.closed(true);
        assert_eq!(one.ended().1, 0);
    }
}

#[test]
fn a_refusal_for_good_is_the_end() {
    let check = |head: &str, mentions: &str| {
        let server = Scripted::new();
        let mut one = client(&server.url(), &[]);
        server.refuse(head);
        let refused = one.next("refused");
        assert!(refused["why"].as_str().unwrap().contains(mentions), "{refused}");
        let (sums, code) = one.ended();
        assert_eq!((code, &sums["refused"]), (3, &json!(1)), "{sums:#}");
    };
    check("404 Not Found", "404");
    check("200 OK", "200");
    check("403 Forbidden\r\nRetry-After: 1", "403");
    check("101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade", "WebSocket");

    let node = Node::start(&["--require-user-id"]);
    let (_, code) = client(&url(&node), &[]).ended();
    assert_eq!(code, 3, "it was closed with 4001");
    let mut stubborn = client(&url(&node), &[&["--keep-trying"][..], &QUICK].concat());
    stubborn.next_times("connected", 3);
    let (sums, code) = stubborn.end();
    assert_eq!((code, &sums["refused"]), (0, &json!(0)), "{sums:#}");
}

#[test]
fn a_certificate_that_was_good_once_is_waited_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (good, bad) = (authority.server("good"), stranger.server("bad"));
    let first = Node::start(&good.flags());
    let url = format!("wss://localhost:{}/ws", first.http.port());
    let ca = authority.ca();
    let args = [&["--ca-file", text(&ca)][..], &QUICK].concat();
    let mut one = client(&url, &args);
    one.next("welcomed");
    first.process.signal(libc::SIGKILL);
    one.next("disconnected");
    let second = again(&first, &bad.flags());
    while !one.next("failed")["why"].as_str().unwrap().contains("TLS") {}
    // Who never saw a good one may have the wrong address, or trust the wrong authority.
    assert_eq!(client(&url, &args).ended().1, 3);
    second.process.signal(libc::SIGKILL);
    let third = again(&second, &good.flags());
    one.next("connected");
    let (sums, code) = one.end();
    assert_eq!((code, &sums["refused"]), (0, &json!(0)), "{sums:#}");
    drop(third);
}

#[test]
fn what_was_announced_and_does_not_come_is_lost() {
    let check = |numbers: &[u32], lost: u32, gaps: u32, duplicates: u32| {
        let server = Scripted::new();
        let mut one = client(&server.url(), &QUICK);
        let mut peer = server.accept();
        one.next("connected");
        peer.send(r#"{"type":"shutdown","reconnect_after_ms":0,"final_messages":3,"last_seq":3}"#);
        for seq in numbers {
            peer.send(&format!(r#"{{"type":"business","seq":{seq},"data":"x"}}"#));
        }
        peer.close(1012, "");
        let mut peer = server.accept();
        // Before it knows that it is connected there is nothing to close.
        one.next("connected");
        one.process.signal(libc::SIGTERM);
        assert_eq!(peer.closed(true), 1000);
        let (sums, code) = one.ended();
        assert_eq!(code, i32::from(lost > 0), "{sums:#}");
        let seen = (&sums["lost"], &sums["gaps"], &sums["duplicates"]);
        assert_eq!(seen, (&json!(lost), &json!(gaps), &json!(duplicates)), "{sums:#}");
    };
    check(&[1, 2, 3], 0, 0, 0);
    check(&[1, 2], 1, 0, 0);
    check(&[1, 3, 3], 1, 1, 1);
}

#[test]
fn what_was_not_confirmed_is_sent_again() {
    let server = Scripted::new();
    let args = ["--messages", "2", "--interval", "10ms"];
    let mut one = client(&server.url(), &[&args[..], &QUICK].concat());
    let mut peer = server.accept();
    let first = peer.receive();
    peer.send(first.to_text().unwrap());
    let second = peer.receive();
    drop(peer);
    one.next("disconnected");
    let mut peer = server.accept();
    assert_eq!(peer.receive(), second);
    peer.send(&format!(r#"{{"type":"echo","original_data":{}}}"#, second.to_text().unwrap()));
    assert_eq!(peer.closed(true), 1000, "all that was to be sent is confirmed");
    let (sums, code) = one.ended();
    let seen = (&sums["sent"], &sums["confirmed"], &sums["repeated"]);
    assert_eq!((code, seen), (0, (&json!(2), &json!(2), &json!(1))), "{sums:#}");
}

#[test]
fn a_silent_server_is_given_up() {
    let server = Scripted::new();
    let mut one = client(&server.url(), &[&["--heartbeat", "1s"][..], &QUICK].concat());
    let start = Instant::now();
    let _deaf = server.accept();
    let gone = one.next("disconnected");
    assert!(gone["reason"].as_str().unwrap().contains("sign of life"), "{gone}");
    let took = start.elapsed();
    assert!((Duration::from_millis(1990)..Duration::from_secs(2) + SLACK).contains(&took), "{took:?}");
    // One that answers pings stays.
    let mut alive = server.accept();
    one.next("connected");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(3500) {
        alive.ping_is_answered();
    }
    assert_eq!(one.count("disconnected"), 1);
}

#[test]
fn a_server_that_does_not_answer_the_handshake_is_given_up() {
    let server = Scripted::new();
    let mut one = client(&server.url(), &[&["--connect-timeout", "200ms"][..], &QUICK].concat());
    let _silent = server.connection();
    let failed = one.next("failed");
    assert!(failed["why"].as_str().unwrap().contains("in time"), "{failed}");
    let (sums, code) = one.end();
    assert_eq!((code, &sums["ever_open"]), (1, &json!(0)), "it was never connected: {sums:#}");
}

#[test]
fn a_server_that_does_not_close_after_its_notice_is_left() {
    let server = Scripted::new();
    let mut one = client(&server.url(), &["--close-timeout", "200ms"]);
    let mut peer = server.accept();
    peer.send(r#"{"type":"shutdown","reconnect_after_ms":100}"#);
    assert_eq!(peer.closed(true), 1000);
    let gone = one.next("disconnected");
    assert_eq!(span(&gone, "retry_in_ms"), Duration::ZERO);
    drop(server.accept());
}

#[test]
fn many_connections_are_few_threads() {
    let node = Node::start(&["--reactors", "2"]);
    let mut many = client(&url(&node), &["--connections", "1000", "--interval", "200ms"]);
    many.next_times("connected", 1000);
    node.wait_for_connections(1000);
    let status = std::fs::read_to_string(format!("/proc/{}/status", many.process.pid())).unwrap();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    assert!(threads.trim().parse::<u32>().unwrap() <= 4, "{threads}");
    let (sums, code) = many.end();
    assert_eq!((code, &sums["ever_open"], &sums["failures"]), (0, &json!(1000), &json!(0)), "{sums:#}");
}
