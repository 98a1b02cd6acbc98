//! Bytes in both directions, however records cut them, and clients that do not read them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::Secure;
use crate::authority::VERSIONS;
use crate::node::{DEADLINE, eventually};
use crate::socket::{BINARY, FIN, Socket, frame, text, upgrade};
use crate::web::Web;

/// What the kernel is asked to hold for a client that is to be slow.
const NARROW: usize = 8 * 1024;

/// Content of a message in a flood: large beside what the node holds for a client.
const CONTENT: usize = 32 * 1024;

/// Far more than the kernel holds for one connection, either way.
const FLOOD_MESSAGES: usize = 1_000;

/// Memory a node may come to need for buffers that do not grow with a flood.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

/// A socket that takes and gives a byte at a time.
struct Trickle<'s>(&'s TcpStream);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

impl Write for Trickle<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes in which a part that is missing, doubled or out of place shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn records_may_come_a_byte_at_a_time() {
    let secure = Secure::start(&["--reactors", "1"]);
    for version in VERSIONS {
        let config = Arc::new(secure.authority.trusting(&[version]));
        let mut web = Web::connect(secure.node.http);
        let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut Trickle(&web.stream)).unwrap();
        }
        let mut trickle = Trickle(&web.stream);
        let mut both = rustls::Stream::new(&mut tls, &mut trickle);
        both.write_all(upgrade("/echo", "").as_bytes()).unwrap();
        both.write_all(&[text("one"), frame(FIN | BINARY, &pattern(300)), text("two")].concat()).unwrap();
        web.tls = Some(Box::new(tls));
        let mut socket = Socket::accept(web).unwrap();
        assert_eq!(socket.frame().payload, b"one");
        assert_eq!(socket.frame().payload, pattern(300));
        assert_eq!(socket.frame().payload, b"two");
    }
}

#[test]
fn records_and_messages_need_not_agree() {
    let secure = Secure::start(&["--reactors", "1"]);
    for version in VERSIONS {
        for record in [Some(32), Some(33), Some(500), None] {
            let mut config = secure.authority.trusting(&[version]);
            config.max_fragment_size = record;
            let web = secure.web_at(secure.node.http, &Arc::new(config));
            let mut socket = Socket::over(web, "/echo");
            // Many in few, of which the last ends in the middle of one; then one in many.
            let many: Vec<Vec<u8>> = (0..500).map(|n| pattern(n % 97)).collect();
            let all: Vec<u8> = many.iter().flat_map(|message| frame(FIN | BINARY, message)).collect();
            socket.send(&all[..all.len() - 7]);
            socket.send(&all[all.len() - 7..]);
            for message in &many {
                assert_eq!(socket.frame().payload, *message, "{version:?}, {record:?}");
            }
            socket.send(frame(FIN | BINARY, &pattern(60_000)));
            assert!(socket.frame().payload == pattern(60_000), "{version:?}, {record:?}");
        }
    }
}

#[test]
fn large_messages_go_both_ways() {
    let secure = Secure::start(&["--message-bytes-max", "1MiB", "--outbound-bytes-max", "4MiB"]);
    for version in VERSIONS {
        let config = Arc::new(secure.authority.trusting(&[version]));
        let mut socket = Socket::over(secure.web_at(secure.node.http, &config), "/echo");
        for length in [16_383, 16_384, 16_385, 65_535, 65_536, 256 << 10, 1 << 20] {
            socket.send(frame(FIN | BINARY, &pattern(length)));
            assert!(socket.frame().payload == pattern(length), "{length}, {version:?}");
        }
    }
    let mut alice = secure.user("alice");
    let content = "x".repeat(256 << 10);
    let body = serde_json::json!({"user_id": "alice", "message": content}).to_string();
    assert_eq!(secure.web().request("POST", "/api/send", "", &body).json()["status"], "delivered");
    assert_eq!(alice.json(), content.as_str());
}

#[test]
fn many_users_talk_to_each_other() {
    let secure = Secure::start(&["--reactors", "4"]);
    let mut users: Vec<Socket> = (0..40).map(|n| secure.user(&format!("user-{n}"))).collect();
    for round in 0..20 {
        for (n, user) in users.iter_mut().enumerate() {
            user.send_message(&format!("user-{}", (n + 7) % 40), round);
        }
        users[0].send_text(r#"{"type":"broadcast","content":"all"}"#);
        for user in &mut users {
            let (one, other) = (user.json(), user.json());
            let content = |kind: &str| {
                [&one, &other].into_iter().find(|message| message["type"] == kind).unwrap()["content"].clone()
            };
            assert_eq!((content("message"), content("broadcast")), (round.into(), "all".into()));
        }
    }
}

fn with_policy(policy: &str) -> Secure {
    Secure::start(&[
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

fn narrow(secure: &Secure, target: &str) -> Socket {
    let web = Web::connect_narrow(secure.node.http, NARROW).secure(&secure.config).unwrap();
    Socket::over(web, target)
}

/// The `n`th message of a flood to a user: its number, then padding.
fn flood(user: &str, n: usize) -> Vec<u8> {
    let padding = "x".repeat(CONTENT);
    text(&format!(r#"{{"type":"send_message","target_user":"{user}","content":[{n},"{padding}"]}}"#))
}

fn dropped(secure: &Secure) -> u64 {
    secure.metric(r#"throng_messages_dropped_total{reason="slow_consumer"}"#)
}

#[test]
fn who_does_not_read_is_disconnected_and_costs_little() {
    let secure = with_policy("disconnect");
    let mut stuck = narrow(&secure, "/ws?user_id=stuck");
    assert_eq!(stuck.json()["type"], "welcome");
    let mut bystander = secure.user("bystander");
    let mut sender = secure.user("sender");
    let before = secure.node.process.resident_bytes();
    let mut sent = 0;
    while dropped(&secure) == 0 {
        assert!(sent < FLOOD_MESSAGES, "everything was taken for a client that does not read");
        for _ in 0..100 {
            sender.send(flood("stuck", sent));
            sent += 1;
        }
        bystander.assert_alive();
        let growth = secure.node.process.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes at message {sent}");
    }
    sender.send(flood("stuck", sent));
    sent += 1;
    sender.send_text(r#"{"type":"ping"}"#);
    let mut undelivered = 0;
    while sender.json()["type"] == "error" {
        undelivered += 1;
    }
    assert!((1..sent).contains(&undelivered), "{undelivered}");
    // What was taken for it arrives whole and in order, then the reason, and a word of farewell.
    for n in 0..sent - undelivered - 1 {
        assert_eq!(stuck.json()["content"][0], n);
    }
    assert_eq!(stuck.closed_with(), (1008, "Slow consumer".to_owned()));
    secure.wait_for_closed("slow_consumer", 1);
    bystander.assert_alive();
}

#[test]
fn messages_that_do_not_fit_are_dropped_if_that_is_the_policy() {
    let secure = with_policy("drop-newest");
    let mut stuck = narrow(&secure, "/ws?user_id=stuck");
    assert_eq!(stuck.json()["type"], "welcome");
    let mut sender = secure.user("sender");
    let before = secure.node.process.resident_bytes();
    for n in 0..FLOOD_MESSAGES {
        sender.send(flood("stuck", n));
    }
    sender.assert_alive();
    let growth = secure.node.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    let lost = dropped(&secure) as usize;
    assert!((1..FLOOD_MESSAGES).contains(&lost), "{lost}");
    for n in 0..FLOOD_MESSAGES - lost {
        assert_eq!(stuck.json()["content"][0], n, "the newest are dropped, not these");
    }
    // All that was held has been read, so there is room.
    sender.send_message("stuck", "the end");
    assert_eq!(stuck.json()["content"], "the end");
}

/// Records of these bytes, which the connection that `web` has is to send.
fn sealed(web: &mut Web, bytes: &[u8]) -> Vec<u8> {
    let tls = web.tls.as_deref_mut().unwrap();
    tls.set_buffer_limit(None);
    tls.writer().write_all(bytes).unwrap();
    let mut records = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut records).unwrap();
    }
    records
}

#[test]
fn who_does_not_read_its_own_answers_is_not_read_either() {
    const MESSAGES: usize = 400;
    let secure = with_policy("disconnect");
    let mut bystander = secure.user("bystander");
    let mut flooder = narrow(&secure, "/echo");
    let before = secure.node.process.resident_bytes();
    let payload = |n: usize| vec![n as u8; 2 * CONTENT + n];
    let all: Vec<u8> = (0..MESSAGES).flat_map(|n| frame(FIN | BINARY, &payload(n))).collect();
    let records = sealed(flooder.web(), &all);
    let mut stream = flooder.web().stream.try_clone().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(move || stream.write_all(&records).unwrap());
        eventually("it is not read any more", || secure.metric("throng_reads_paused_total") > 0);
        bystander.assert_alive();
        let growth = secure.node.process.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
        assert!(!writer.is_finished(), "nothing held the flood up");
        // As soon as it reads, everything goes on where it stopped.
        for n in 0..MESSAGES {
            let echo = flooder.message();
            assert_eq!(echo.first, FIN | BINARY);
            assert!(echo.payload == payload(n), "{n}");
        }
    });
    assert_eq!(dropped(&secure), 0);
}

#[test]
fn new_keys_that_are_asked_for_and_never_read_cost_nothing() {
    const REFRESHES: usize = 200_000;
    let secure = Secure::start(&["--reactors", "1"]);
    let mut bystander = secure.user("bystander");
    let mut socket = narrow(&secure, "/echo");
    let before = secure.node.process.resident_bytes();
    let tls = socket.web().tls.as_deref_mut().unwrap();
    let mut records = Vec::new();
    for _ in 0..REFRESHES {
        // Each asks for one in return (RFC 8446, section 4.6.3).
        tls.refresh_traffic_keys().unwrap();
        tls.write_tls(&mut records).unwrap();
    }
    let mut stream = socket.web().stream.try_clone().unwrap();
    stream.set_write_timeout(Some(DEADLINE / 10)).unwrap();
    // All of it is taken, or it is held up, or the connection ends.
    let _ = stream.write_all(&records);
    bystander.assert_alive();
    let growth = secure.node.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
}

#[test]
fn new_keys_in_the_middle_of_a_conversation_change_nothing() {
    let secure = Secure::start(&[]);
    let mut socket = secure.socket("/echo");
    for n in 0..50 {
        socket.web().tls.as_deref_mut().unwrap().refresh_traffic_keys().unwrap();
        socket.send_text(&n.to_string());
        assert_eq!(socket.frame().payload, n.to_string().as_bytes());
    }
}

#[test]
fn empty_records_are_no_messages() {
    let secure = Secure::start(&["--reactors", "1"]);
    let config: Arc<ClientConfig> = secure.config.clone();
    let mut socket = Socket::over(secure.web_at(secure.node.http, &config), "/echo");
    for n in 0..20 {
        // Nothing is written for nothing; what is in TLS is what was sent.
        socket.send([]);
        socket.send_text(&n.to_string());
        assert_eq!(socket.frame().payload, n.to_string().as_bytes());
    }
}
