//! A message to a user on this node, counted both ways on a node with real
//! sockets: attempts to queue it, as often quoted and worth little, and
//! deliveries that clients have read.
//!
//! `cargo bench --bench send`
//!
//! The node, the clients and the sender share the machine's cores.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use throng::delivery::Status;
use throng::ws::frame::Frame;
use throng::{Config, Server};

const MESSAGE: &str = r#"{"type":"message","from":"bench","content":"0123456789012345678"}"#;

/// How long the clients may take to hear what they were sent.
const PATIENCE: Duration = Duration::from_secs(30);

fn user(n: usize) -> String {
    format!("user-{n}")
}

/// A WebSocket of `user`, behind the node's welcome.
fn connect(address: SocketAddr, user: &str) -> TcpStream {
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    write!(
        socket,
        "GET /ws?user_id={user} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    let mut header = [0; 4];
    socket.read_exact(&mut header).unwrap();
    assert_eq!(header[..2], [0x81, 126], "the welcome");
    socket.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))]).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket)
}

/// Bytes that the clients have read.
#[derive(Default)]
struct Heard {
    bytes: Mutex<u64>,
    more: Condvar,
}

impl Heard {
    fn add(&self, bytes: u64) {
        *self.bytes.lock().unwrap() += bytes;
        self.more.notify_one();
    }

    /// Waits until so many messages have been read in all.
    fn wait(&self, messages: u64) {
        let wanted = messages * Frame::text(MESSAGE.as_bytes()).len() as u64;
        let bytes = self.bytes.lock().unwrap();
        let (bytes, _) = self.more.wait_timeout_while(bytes, PATIENCE, |bytes| *bytes < wanted).unwrap();
        assert_eq!(*bytes, wanted, "messages were lost or doubled");
    }
}

/// Reads whatever comes, for ever.
fn listen(mut sockets: Vec<TcpStream>, heard: &Heard) {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1024));
    for (index, socket) in sockets.iter_mut().enumerate() {
        poll.registry().register(socket, Token(index), Interest::READABLE).unwrap();
    }
    let mut buffer = vec![0; 256 * 1024];
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            loop {
                match sockets[event.token().0].read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => heard.add(count as u64),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// A node whose users are connected and read.
struct Node {
    server: Server,
    users: Vec<String>,
    heard: Arc<Heard>,
    /// Messages the node has taken.
    accepted: u64,
    /// Messages it has not, since its reactor's mailbox was full.
    rejected: u64,
}

impl Node {
    fn start(users: usize) -> Node {
        let config = Config {
            port: 0,
            ws_port: None,
            reactors: 1,
            // More than a full mailbox can come to, so that nothing is dropped.
            outbound_bytes_max: 64 << 20,
            // The clients here do not answer pings.
            heartbeat_interval: Duration::ZERO,
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let users: Vec<_> = (0..users).map(user).collect();
        let sockets = users.iter().map(|user| connect(server.http_addr(), user)).collect();
        let heard = Arc::new(Heard::default());
        let ears = heard.clone();
        thread::spawn(move || listen(sockets, &ears));
        Node { server, users, heard, accepted: 0, rejected: 0 }
    }

    /// Offers one message; whether it was taken.
    fn post(&mut self, n: u64) -> bool {
        let user = &self.users[n as usize % self.users.len()];
        let accepted = self.server.post_to_user(user, MESSAGE).is_ok();
        self.accepted += u64::from(accepted);
        self.rejected += u64::from(!accepted);
        accepted
    }

    /// Attempts without regard to what comes of them.
    fn attempts(&mut self, count: u64) -> Duration {
        let start = Instant::now();
        for n in 0..count {
            self.post(n);
        }
        let elapsed = start.elapsed();
        self.heard.wait(self.accepted);
        elapsed
    }

    /// From the first attempt to the last message read.
    fn deliveries(&mut self, count: u64) -> Duration {
        let start = Instant::now();
        for n in 0..count {
            while !self.post(n) {
                thread::yield_now();
            }
        }
        self.heard.wait(self.accepted);
        start.elapsed()
    }

    /// Says what became of the attempts since the last time.
    fn report(&mut self, reported: &mut (u64, u64)) {
        let (accepted, rejected) = (self.accepted - reported.0, self.rejected - reported.1);
        *reported = (self.accepted, self.rejected);
        println!(
            "attempts: {}, accepted: {accepted} (all delivered), rejected: {rejected}",
            accepted + rejected
        );
    }
}

fn to(group: &mut BenchmarkGroup<'_, measurement::WallTime>, users: usize) {
    let (mut node, mut reported) = (Node::start(users), (0, 0));
    group.bench_function(format!("attempts/{users} users"), |b| b.iter_custom(|count| node.attempts(count)));
    node.report(&mut reported);
    group.bench_function(format!("deliveries/{users} users"), |b| {
        b.iter_custom(|count| node.deliveries(count))
    });
    node.report(&mut reported);
    group.bench_function(format!("one at a time, reported/{users} users"), |b| {
        let mut n = 0;
        b.iter(|| {
            let sent = node.server.send_to_user(&node.users[n % users], MESSAGE);
            assert_eq!(sent.status, Status::Delivered);
            (n, node.accepted) = (n + 1, node.accepted + 1);
        });
    });
    node.heard.wait(node.accepted);
}

fn send(c: &mut Criterion) {
    let mut group = c.benchmark_group("send");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(4));
    for users in [1, 100, 1000] {
        to(&mut group, users);
    }
    group.finish();
}

criterion_group!(benches, send);
criterion_main!(benches);
