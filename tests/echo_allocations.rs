//! What the node asks of the allocator for a message that comes in and goes
//! out again: nothing, on whatever thread, however many are in flight.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use throng::ws::mask::unmask;
use throng::{Config, Server};

/// Counts what every thread but the clients' asks for.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// The size of the latest, to find it by.
static LATEST_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_CLIENT: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !IS_CLIENT.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            LATEST_BYTES.store(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MASK: [u8; 4] = [9, 8, 7, 6];

/// A text frame of a client.
fn frame(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut bytes = vec![0x81, 0x80 | payload.len() as u8];
    bytes.extend_from_slice(&MASK);
    bytes.extend_from_slice(payload);
    unmask(&mut bytes[6..], MASK, 0);
    bytes
}

/// A WebSocket connection to `path`, behind the node's welcome.
fn connect(address: SocketAddr, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    if path.starts_with("/ws") {
        read_frame(&mut socket, &mut [0; 4096]);
    }
    socket
}

/// Reads one short frame of the node; the length of its payload.
fn read_frame(socket: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut length = [0; 4];
    socket.read_exact(&mut length[..2]).unwrap();
    assert_eq!(length[0], 0x81);
    let payload = match length[1] {
        126 => {
            socket.read_exact(&mut length[2..]).unwrap();
            usize::from(u16::from_be_bytes([length[2], length[3]]))
        }
        short => usize::from(short),
    };
    socket.read_exact(&mut buffer[..payload]).unwrap();
    payload
}

/// Sends `message` and reads what comes back, `depth` at a time on each of
/// `clients`, for `rounds` rounds; the allocations that the rest of the
/// process made meanwhile.
fn exchange(clients: &mut [TcpStream], message: &[u8], depth: usize, rounds: usize) -> usize {
    let burst = frame(message).repeat(depth);
    let mut buffer = [0; 4096];
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    for _ in 0..rounds {
        for client in clients.iter_mut() {
            client.write_all(&burst).unwrap();
        }
        for client in clients.iter_mut() {
            for _ in 0..depth {
                read_frame(client, &mut buffer);
            }
        }
    }
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

/// Counts after a warm-up in which buffers find their size.
fn check(server: &Server, path: &str, message: &[u8], clients: usize, depth: usize) {
    let mut clients: Vec<_> = (0..clients).map(|_| connect(server.http_addr(), path)).collect();
    exchange(&mut clients, message, depth, 200);
    let rounds = 4_000 / depth;
    let allocations = exchange(&mut clients, message, depth, rounds);
    let (messages, latest) = (clients.len() * depth * rounds, LATEST_BYTES.load(Ordering::SeqCst));
    assert_eq!(
        allocations,
        0,
        "{path}, {} clients, {depth} in flight, {messages} messages; the latest was of {latest} bytes",
        clients.len(),
    );
}

/// One test, so that no other thread of the process has anything to do.
#[test]
fn a_message_that_comes_in_and_goes_out_costs_no_allocation() {
    let config = Config { port: 0, ws_port: None, reactors: 1, ..Config::default() };
    let server = Server::start(config).unwrap();
    IS_CLIENT.set(true);
    // A broadcast is encoded once, into memory that its audience shares.
    let mut client = [connect(server.http_addr(), "/ws")];
    assert!(exchange(&mut client, br#"{"type":"broadcast","content":1}"#, 1, 10) > 0, "the counter counts");
    drop(client);
    let text = [b'x'; 64];
    check(&server, "/echo", &text, 1, 1);
    check(&server, "/echo", &text, 1, 16);
    check(&server, "/echo", &text, 8, 16);
    check(&server, "/ws", br#"{"type":"ping"}"#, 4, 16);
    check(&server, "/ws", br#"{"type":"unknown","content":[1,2,3]}"#, 4, 16);
}
