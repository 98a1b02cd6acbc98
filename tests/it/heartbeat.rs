//! Clients that say nothing.

use std::time::{Duration, Instant};

use crate::node::{Node, eventually};
use crate::socket::{self, CLOSE, FIN, PING, PONG, frame};

const TIMEOUT: Duration = Duration::from_millis(900);

fn node() -> Node {
    Node::start(&["--heartbeat-interval", "200ms", "--heartbeat-timeout", "900ms", "--reactors", "1"])
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
    assert!((3..=4).contains(&pings), "{pings}");
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
    let node = node();
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
