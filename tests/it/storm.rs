//! Clients that do anything at any time leave nothing behind.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use socket2::SockRef;

use crate::node::{Node, eventually};
use crate::socket::{BINARY, FIN, PING, Socket, TEXT, frame, text, upgrade};
use crate::web::Web;

const CLIENTS_AT_ONCE: u64 = 16;
const LIVES: u64 = 16;

/// A connection from its first byte to its end, each as chance has it.
fn live(address: SocketAddr, chance: &mut Rng) {
    let mut web = Web::connect(address);
    if chance.u8(..) < 30 {
        // It ends within its handshake.
        let request = upgrade("/ws", "");
        web.send(&request[..chance.usize(..request.len())]);
        return leave(&web, chance);
    }
    let user = chance.u32(..20);
    let target = ["/ws?user_id=", "/ws?batch=1&user_id=", "/ws?x=", "/echo?x="][chance.usize(..4)];
    let narrow = chance.u8(..) < 40;
    let mut socket = match narrow {
        true => Socket::connect_narrow(address, &format!("{target}{user}"), 4096),
        false => Socket::connect(address, &format!("{target}{user}"), ""),
    };
    for _ in 0..chance.usize(..150) {
        let bytes = act(chance);
        let whole = chance.u8(..) > 1;
        let length = if whole { bytes.len() } else { chance.usize(..bytes.len()) };
        if !send(&mut socket, &bytes[..length]) || !whole {
            break;
        }
    }
    leave(socket.web(), chance);
}

fn act(chance: &mut Rng) -> Vec<u8> {
    let user = chance.u32(..24);
    let padding = "x".repeat(chance.usize(..60_000));
    match chance.u8(..9) {
        0 => text(r#"{"type":"ping"}"#),
        1 | 2 => text(&format!(r#"{{"type":"send_message","target_user":"{user}","content":"{padding}"}}"#)),
        3 | 4 => text(&format!(r#"{{"type":"broadcast","content":"{padding}"}}"#)),
        5 => frame(FIN | BINARY, padding.as_bytes()),
        6 => frame(FIN | PING, b"?"),
        7 => [frame(TEXT, b"\"a"), frame(FIN, b"b\"")].concat(),
        _ => match chance.u8(..24) {
            0 => frame(FIN | 8, &1000_u16.to_be_bytes()),
            1 => frame(FIN | 3, b"reserved"),
            2 => frame(FIN | TEXT, b"\xff"),
            _ => text("not json"),
        },
    }
}

/// False when the node has ended the connection, or takes nothing for now.
fn send(socket: &mut Socket, bytes: &[u8]) -> bool {
    let stream = &mut socket.web().stream;
    stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    std::io::Write::write_all(stream, bytes).is_ok()
}

fn leave(web: &Web, chance: &mut Rng) {
    if chance.bool() {
        // With a reset.
        SockRef::from(&web.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn a_storm_leaves_nothing_behind() {
    let seed = std::env::var("STORM_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("STORM_SEED={seed} makes the clients do the same again");
    let node =
        Node::start(&["--reactors", "3", "--outbound-bytes-max", "70KiB", "--message-bytes-max", "64KiB"]);
    let mut steady = node.socket("/echo");
    let resident = node.process.resident_bytes();
    let clients: Vec<_> = (0..CLIENTS_AT_ONCE)
        .map(|client| {
            let (address, mut chance) = (node.http, Rng::with_seed(seed ^ client));
            thread::spawn(move || (0..LIVES).for_each(|_| live(address, &mut chance)))
        })
        .collect();
    let mut chance = Rng::with_seed(seed);
    while clients.iter().any(|client| !client.is_finished()) {
        let user = chance.u32(..24);
        let (path, body) = match chance.u8(..4) {
            0 => ("/api/kick", format!(r#"{{"user_id":"{user}","notify":true}}"#)),
            1 => ("/api/broadcast", r#"{"message":"all"}"#.to_owned()),
            _ => ("/api/send", format!(r#"{{"user_id":"{user}","message":"one"}}"#)),
        };
        let answer = node.post(path, &body);
        assert_eq!(answer.status, 200);
        assert!(!answer.body.windows(9).any(|word| word == b"timed_out"), "{path}: {answer:?}");
        steady.send_text("steady");
        assert_eq!(steady.message().payload, b"steady");
    }
    for client in clients {
        client.join().unwrap();
    }
    node.wait_for_connections(1);
    let sockets = [0, 1, 2].map(|reactor| format!("throng_sockets{{reactor=\"{reactor}\"}}"));
    let sockets = || node.metrics(&[&sockets[0], &sockets[1], &sockets[2]]);
    // The steady client's, and the one that asks.
    eventually("all sockets are closed", || sockets().iter().sum::<u64>() <= 2);
    eventually("nothing is owed, nobody known", || {
        node.metrics(&["throng_outbound_bytes", "throng_users"]) == [0, 0]
    });
    let changes = |event: &str| node.metric(&format!(r#"throng_user_changes_total{{event="{event}"}}"#));
    assert_eq!(changes("online"), changes("offline"));
    let growth = node.process.resident_bytes().saturating_sub(resident);
    assert!(growth < 32 << 20, "{growth} bytes");
}
