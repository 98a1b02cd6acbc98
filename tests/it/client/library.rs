//! The client as a library.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use throng::client::backoff::Policy;
use throng::client::{Client, Event, Options, SendError, What};

use super::scripted::{Peer, Scripted};
use super::url;
use crate::node::{DEADLINE, Node, eventually};

fn options(url: &str) -> Options {
    Options { close_timeout: Duration::from_secs(1), ..Options::new(url.parse().unwrap()) }
}

/// The next event that is `wanted`.
fn next<T>(client: &Client, wanted: impl Fn(&What) -> Option<T>) -> (u32, T) {
    loop {
        let event: Event = client.events().recv_timeout(DEADLINE).unwrap();
        if let Some(what) = wanted(&event.what) {
            return (event.connection, what);
        }
    }
}

fn connected(what: &What) -> Option<()> {
    matches!(what, What::Connected { .. }).then_some(())
}

fn text(what: &What) -> Option<String> {
    if let What::Text(text) = what { Some(text.clone()) } else { None }
}

#[test]
fn a_program_sends_and_is_answered() {
    let node = Node::start(&[]);
    let client = Client::connect(Options {
        connections: 3,
        user_id: Some("user-%n".to_owned()),
        ..options(&url(&node))
    })
    .unwrap();
    assert_eq!(client.send_text(0, ""), Err(SendError::NoSuchConnection));
    assert_eq!(client.send_text(4, ""), Err(SendError::NoSuchConnection));
    for _ in 0..3 {
        next(&client, connected);
    }
    let message = r#"{"type":"send_message","target_user":"user-3","content":"hello"}"#;
    std::thread::scope(|scope| {
        scope.spawn(|| client.send_text(1, message).unwrap());
        scope.spawn(|| client.send_text(2, message).unwrap());
    });
    let to_three = |what: &What| text(what).filter(|text| text.contains("hello"));
    for _ in 0..2 {
        assert_eq!(next(&client, to_three).0, 3);
    }
    client.send_binary(1, &b"\x00\xff"[..]).unwrap();
    let binary = |what: &What| if let What::Binary(bytes) = what { Some(bytes.clone()) } else { None };
    let (connection, bytes) = next(&client, binary);
    assert_eq!((connection, &bytes[..]), (1, &b"\x00\xff"[..]));
    assert_eq!(client.summary().unwrap().opened, 3);
    let sums = client.close();
    assert!(sums.is_well(), "{sums}");
    assert_eq!((sums.messages, sums.opened), (6, 3));
    node.wait_for_connections(0);
}

#[test]
fn what_cannot_be_sent_is_said_at_once() {
    let server = Scripted::new();
    let limits =
        Options { message_bytes_max: 100_000, outbound_bytes_max: 1_000_000, ..options(&server.url()) };
    let client = Client::connect(limits).unwrap();
    assert_eq!(client.send_text(1, "early"), Err(SendError::NotConnected));
    let mut peer = server.accept();
    next(&client, connected);
    let big = "x".repeat(100_000);
    assert_eq!(client.send_text(1, format!("{big}x")), Err(SendError::TooBig));
    let mut accepted = 0;
    let full = loop {
        match client.send_text(1, big.clone()) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, SendError::Full);
    for _ in 0..accepted {
        assert_eq!(peer.receive().len(), 100_000);
    }
    eventually("there is room again", || client.send_text(1, big.clone()).is_ok());
    drop(peer);
    let unsent =
        |what: &What| if let What::Disconnected { unsent, .. } = what { Some(*unsent) } else { None };
    next(&client, unsent);
    assert_eq!(client.send_text(1, "late"), Err(SendError::NotConnected));
}

#[test]
fn events_that_are_not_taken_wait_and_hold_the_server_back() {
    const MESSAGES: usize = 30_000;
    let server = Scripted::new();
    let client = Client::connect(options(&server.url())).unwrap();
    let mut peer = server.accept();
    let sender = std::thread::spawn(move || {
        let padding = "x".repeat(500);
        for n in 0..MESSAGES {
            peer.send(&format!("{n} {padding}"));
        }
        peer
    });
    // So much does not fit into the sockets: the server stands still until events are taken.
    eventually("the queue is full", || client.events().is_full());
    assert!(!sender.is_finished());
    for n in 0..MESSAGES {
        let (_, message) = next(&client, text);
        assert_eq!(message.split(' ').next(), Some(n.to_string().as_str()));
    }
    let _peer = sender.join().unwrap();
}

#[test]
fn the_last_event_is_the_summary() {
    let node = Node::start(&[]);
    let client = Client::connect(options(&url(&node))).unwrap();
    next(&client, connected);
    client.begin_close();
    let finished = |what: &What| if let What::Finished(sums) = what { Some(sums.clone()) } else { None };
    let (connection, sums) = next(&client, finished);
    assert_eq!((connection, sums.is_well()), (0, true));
    assert!(client.events().recv_timeout(DEADLINE).is_err(), "nothing comes after it");
    eventually("it has ended", || client.send_text(1, "late") != Ok(()));
    assert_eq!(client.close(), *sums);
}

#[test]
fn dropping_it_ends_it_whether_or_not_events_are_taken() {
    let node = Node::start(&[]);
    let client = Client::connect(Options { connections: 300, ..options(&url(&node)) }).unwrap();
    node.wait_for_connections(300);
    drop(client);
    node.wait_for_connections(0);
    // More than there is room for events of.
    let client = Client::connect(Options { connections: 2000, ..options(&url(&node)) }).unwrap();
    eventually("the queue is full", || client.events().is_full());
    assert_eq!(client.close().connections, 2000);
    node.wait_for_connections(0);
}

#[test]
fn a_server_that_breaks_the_protocol_is_told_and_left() {
    let server = Scripted::new();
    let client = Client::connect(Options { message_bytes_max: 1000, ..options(&server.url()) }).unwrap();
    let mut peer = server.accept();
    peer.send(&"x".repeat(1001));
    assert_eq!(peer.closed(false), 1009);
    let reason = |what: &What| {
        if let What::Disconnected { closed, .. } = what { Some(closed.reason.clone()) } else { None }
    };
    let (_, reason) = next(&client, reason);
    assert!(reason.contains("broke the protocol"), "{reason}");
    server.accept();
}

#[test]
fn a_server_that_never_comes_to_the_end_of_a_message_is_left() {
    let server = Scripted::new();
    let client = Client::connect(Options { connections: 2, ..options(&server.url()) }).unwrap();
    let [endless, mut other] = [server.accept(), server.accept()];
    let mut stream = endless.another_end();
    let sending = thread::spawn(move || {
        // The first piece of a message, and then pieces with nothing in them.
        let _ = stream.write_all(&[0x01, 1, b'a']);
        while stream.write_all(&[0; 20_000]).is_ok() {}
    });
    // Others have their turns, and so has the end.
    other.send("heard");
    assert_eq!(next(&client, text).1, "heard");
    let (sender, ended) = channel();
    thread::spawn(move || sender.send(client.close()).unwrap());
    assert_eq!(other.closed(true), 1000);
    assert_eq!(ended.recv_timeout(DEADLINE).unwrap().connections, 2);
    sending.join().unwrap();
}

#[test]
fn whatever_a_server_sends_the_client_lives() {
    const SEED: u64 = 0x5eed;
    let mut random = fastrand::Rng::with_seed(SEED);
    let server = Scripted::new();
    let backoff =
        Policy { first: Duration::from_millis(2), max: Duration::from_millis(2), ..Policy::default() };
    let options = Options { keep_trying: true, message_bytes_max: 4096, backoff, ..options(&server.url()) };
    let client = Client::connect(options).unwrap();
    for round in 0..200 {
        // Half of them before the handshake is done, half after it.
        let peer = (round % 2 == 1).then(|| server.accept());
        let mut stream = peer.as_ref().map_or_else(|| server.connection(), Peer::another_end);
        let mut bytes: Vec<u8> = (0..random.usize(1..3000)).map(|_| random.u8(..)).collect();
        if random.bool() {
            bytes[0] = 0x81;
            bytes.splice(1..1, [126, 1, 0]);
        }
        // The client may have had enough of it already.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Both);
        while client.events().try_recv().is_ok() {}
    }
    let mut peer = server.accept();
    peer.send("all is well");
    while next(&client, text).1 != "all is well" {}
    drop(peer);
    assert_eq!(client.close().connections, 1);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let usual = options("ws://localhost/");
    let refused = |options: Options| Client::connect(options).is_err();
    assert!(refused(Options { connections: 0, ..usual.clone() }));
    assert!(refused(Options { heartbeat: Duration::ZERO, ..usual.clone() }));
    assert!(refused(Options { close_timeout: Duration::MAX, ..usual.clone() }));
}
