//! Many connections, and what they leave behind.

use std::thread;

use super::Secure;
use crate::node::eventually;
use crate::socket::Socket;

/// Connections of one test process; both ends have descriptors, but not in one table.
const CONNECTIONS: usize = 1_500;

/// What an idle connection may have in a build that is not optimised.
const IDLE_BYTES_MAX: u64 = 8 * 1024;

/// What may be left of each when all have gone.
const LEFT_BYTES_MAX: u64 = 1024;

fn crowd(secure: &Secure) -> Vec<Socket> {
    let door = secure.door();
    let open = |number: usize| {
        let mut socket = door.user(&format!("user-{number}"));
        // A burst, whose buffers are given back.
        for _ in 0..3 {
            socket.send_text(&format!(r#"{{"type":"ping","fill":"{}"}}"#, "x".repeat(5_000)));
        }
        (0..3).for_each(|_| assert_eq!(socket.json()["type"], "pong"));
        socket
    };
    let half = |half: usize| (0..CONNECTIONS).filter(|n| n % 2 == half).map(open).collect::<Vec<_>>();
    thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        [half(0), other.join().unwrap()].into_iter().flatten().collect()
    })
}

#[test]
fn memory_is_given_back() {
    let secure =
        Secure::start(&["--reactors", "2", "--heartbeat-interval", "1h", "--heartbeat-timeout", "2h"]);
    // What the first ones need is not theirs alone.
    drop((0..50).map(|n| secure.user(&format!("early-{n}"))).collect::<Vec<_>>());
    secure.node_has_no_sockets();
    let before = secure.node.process.resident_bytes();
    let crowd = crowd(&secure);
    assert_eq!(secure.json("/health")["connections"], CONNECTIONS);
    let each = || secure.node.process.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
    eventually("what an idle connection has is bounded", || each() <= IDLE_BYTES_MAX);
    assert!(each() > LEFT_BYTES_MAX, "{}: else what follows would show nothing", each());
    // Whoever came last stays, and keeps the place it has.
    let mut stays = secure.user("stays");
    drop(crowd);
    eventually("the others are gone", || secure.json("/health")["connections"] == 1);
    eventually("what they had is given back", || each() <= LEFT_BYTES_MAX);
    stays.assert_alive();
}

#[test]
fn clients_may_come_and_go_as_fast_as_they_like() {
    let secure = Secure::start(&["--reactors", "2"]);
    let mut stays = secure.user("stays");
    thread::scope(|scope| {
        for thread in 0..4 {
            let door = secure.door();
            scope.spawn(move || {
                for n in 0..100 {
                    let mut socket = door.user(&format!("user-{thread}"));
                    socket.send_message("stays", n);
                    match n % 3 {
                        0 => socket.assert_alive(),
                        1 => socket.web().shut(),
                        // It is gone before anything is answered.
                        _ => {}
                    }
                }
            });
        }
    });
    for _ in 0..400 {
        assert_eq!(stays.json()["type"], "message");
    }
    stays.assert_alive();
    drop(stays);
    secure.node_has_no_sockets();
}
