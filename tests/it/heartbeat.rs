//! Clients that say nothing.

use std::time::{Duration, Instant};

use crate::node::{Node, eventually};
use crate::socket::{self, CLOSE, FIN, PING, PONG, Socket, TEXT, frame};

/// Long enough for a machine that stands still for a while.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Of a node that waits for [`TIMEOUT`].
const PATIENT: [&str; 6] = ["--heartbeat-interval", "500ms", "--heartbeat-timeout", "4s", "--reactors", "1"];

fn node() -> Node {
    Node::start(&PATIENT)
}

#[test]
fn who_answers_no_ping_is_closed_and_who_does_stays() {
    let node = node();
    let mut lively = node.user("lively");
    let mut silent = node.user("silent");
    let start = Instant::now();
    let mut pings = 0;
    let close = loop {
        let answer = silent.frame();
        match answer.first & 0x0f {
            PING => pings += 1,
            CLOSE => break socket::close_of(&answer),
            _ => panic!("{answer:?}"),
        }
        // The other one answers each of its own.
        if answer.first == FIN | PING {
            let ping = lively.frame();
            assert_eq!(ping.first, FIN | PING);
            lively.send(frame(FIN | PONG, &ping.payload));
        }
    };
    assert_eq!(close, (1001, "No sign of life".to_owned()));
    assert!((1..=7).contains(&pings), "{pings}: one in each interval before the last");
    let lasted = start.elapsed();
    // The node's clock ticks every 10 ms, and the welcome was before the start.
    assert!((TIMEOUT - Duration::from_millis(50)..TIMEOUT * 4).contains(&lasted), "{lasted:?}");
    silent.answer_close(1001);
    lively.assert_alive();
    assert!(node.metric("throng_pings_sent_total") >= pings);
    assert_eq!(node.metric(r#"throng_connections_closed_total{reason="heartbeat_timeout"}"#), 1);
}

#[test]
fn a_client_that_vanished_is_forgotten() {
    let node =
        Node::start(&["--heartbeat-interval", "200ms", "--heartbeat-timeout", "900ms", "--reactors", "1"]);
    // It takes nothing in and answers nothing, as if its host had lost power.
    let _vanished = node.user("vanished");
    node.wait_for_connections(0);
    assert_eq!(node.json("/api/users/vanished")["online"], false);
    // It does not answer the close frame either.
    eventually("its socket is closed", || node.metric(r#"throng_sockets{reactor="0"}"#) == 1);
    assert_eq!(node.metric(r#"throng_connections_closed_total{reason="heartbeat_timeout"}"#), 1);
}

#[test]
fn any_message_is_a_sign_of_life() {
    let node = node();
    let mut talker = node.socket("/echo");
    let start = Instant::now();
    let mut echoes = 0;
    while start.elapsed() < TIMEOUT * 2 {
        // Pings are not answered, but something else is said after each.
        match talker.frame().first & 0x0f {
            PING => talker.send_text("here"),
            _ => echoes += 1,
        }
    }
    assert!(echoes >= 3, "{echoes}");
    talker.send_text("still");
    assert_eq!(node.json("/health")["connections"], 1);
}

#[test]
fn who_reads_slowly_what_it_is_owed_is_alive() {
    const MESSAGES: usize = 30;
    let node = Node::start(&[&PATIENT[..], &["--outbound-bytes-max", "64MiB"]].concat());
    let mut slow = Socket::connect_narrow(node.http, "/ws?user_id=slow", 256 * 1024);
    assert_eq!(slow.json()["type"], "welcome");
    let message = format!(r#"{{"user_id":"slow","message":"{}"}}"#, "x".repeat(1_000_000));
    for _ in 0..MESSAGES {
        assert_eq!(node.post("/api/send", &message).json()["status"], "delivered");
    }
    let (start, mut read, mut clock) = (Instant::now(), 0, node.user("clock"));
    // A ping for it may stand behind all that, so it answers none. Those of another tell the time.
    while start.elapsed() < TIMEOUT * 3 / 2 {
        let ping = clock.frame();
        assert_eq!(ping.first, FIN | PING);
        clock.send(frame(FIN | PONG, &ping.payload));
        for _ in 0..2 {
            while slow.frame().first == FIN | PING {}
            read += 1;
        }
    }
    assert!(read < MESSAGES, "it has read all: {read}");
    for number in read..MESSAGES {
        let message = slow.message();
        assert_eq!((message.first, message.payload.len()), (FIN | TEXT, 1_000_002), "message {number}");
    }
    slow.assert_alive();
    assert_eq!(node.metric(r#"throng_connections_closed_total{reason="heartbeat_timeout"}"#), 0);
}
