//! One broadcast to 10 000 connections up to the system call: the layout that
//! the whole audience shares, and the same by one tungstenite context per
//! connection. The sockets here take everything or nothing, so what is left out
//! is the same for both: the kernel.
//!
//! `cargo bench --bench fanout`

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement};
use std::hint::black_box;
use std::io::{self, IoSlice, Read, Write};
use std::time::{Duration, Instant};
use throng::clock::Tick;
use throng::ids::ReactorId;
use throng::reactor::conn_table::ConnTable;
use throng::reactor::connection::{Audience, Connection, Phase};
use throng::reactor::outgoing::Outgoing;
use throng::ws::frame::Frame;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

const CONNECTIONS: usize = 10_000;
const PAYLOAD_BYTES: usize = 64;
const OUTBOUND_BYTES_MAX: usize = 1 << 20;

/// Whether a socket takes what it is offered.
#[derive(Clone, Copy)]
enum Socket {
    Writable,
    Blocked,
}

impl Socket {
    fn answer(self, bytes: usize) -> io::Result<usize> {
        match self {
            Socket::Writable => Ok(black_box(bytes)),
            Socket::Blocked => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answer(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.answer(slices.iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A reactor's table, all in the audience of broadcasts.
fn table(socket: Socket) -> ConnTable<Connection<Socket>> {
    let mut table = ConnTable::with_capacity(ReactorId(0), CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut row = Connection::accepted(socket, Tick(0), false);
        row.phase = Phase::Open;
        row.audience = Audience::Plain;
        table.insert(row);
    }
    table
}

/// A turn that sends `frames` to everyone; the connections that are left owing.
fn turn(
    outgoing: &mut Outgoing,
    table: &mut ConnTable<Connection<Socket>>,
    frame: &Frame,
    frames: usize,
) -> usize {
    for _ in 0..frames {
        outgoing.broadcast(frame.wire(), |_| ());
    }
    let mut owing = 0;
    for slot in 0..table.high_water() {
        let Some(row) = table.get(slot) else { continue };
        if row.audience != Audience::None && row.debt == Connection::<Socket>::CLEAN {
            owing += usize::from(outgoing.settle(row, slot, OUTBOUND_BYTES_MAX).owing);
        }
    }
    outgoing.clear();
    owing
}

/// Times `turn` alone: queues are emptied in between.
fn time_turns(socket: Socket, frames: usize, turns: u64) -> Duration {
    let (mut table, mut outgoing) = (table(socket), Outgoing::default());
    let frame = Frame::text(&[b'x'; PAYLOAD_BYTES]);
    let expected = if matches!(socket, Socket::Blocked) { CONNECTIONS } else { 0 };
    let mut total = Duration::ZERO;
    for _ in 0..turns {
        let start = Instant::now();
        let owing = turn(&mut outgoing, &mut table, &frame, frames);
        total += start.elapsed();
        assert_eq!(owing, expected);
        (0..table.high_water()).filter_map(|slot| table.get(slot)?.outbound.take()).for_each(drop);
    }
    total
}

/// A context per connection, with the smallest read buffer that makes sense:
/// by default each has 128 KiB.
fn contexts() -> Vec<WebSocketContext> {
    let config = WebSocketConfig::default().read_buffer_size(4096);
    (0..CONNECTIONS).map(|_| WebSocketContext::new(Role::Server, Some(config))).collect()
}

/// The same as [`turn`], by one context per connection.
fn tungstenite_turn(
    contexts: &mut [WebSocketContext],
    mut socket: Socket,
    text: &Utf8Bytes,
    frames: usize,
) -> usize {
    let mut owing = 0;
    for context in contexts {
        for _ in 0..frames {
            context.write(&mut socket, Message::Text(text.clone())).unwrap();
        }
        match context.flush(&mut socket) {
            Ok(()) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => owing += 1,
            Err(error) => panic!("{error}"),
        }
    }
    owing
}

fn time_tungstenite_turns(socket: Socket, frames: usize, turns: u64) -> Duration {
    let text = Utf8Bytes::from("x".repeat(PAYLOAD_BYTES));
    let mut contexts = contexts();
    let mut total = Duration::ZERO;
    for _ in 0..turns {
        let start = Instant::now();
        let owing = tungstenite_turn(&mut contexts, socket, &text, frames);
        total += start.elapsed();
        if owing > 0 {
            assert_eq!(owing, CONNECTIONS);
            contexts = self::contexts();
        }
    }
    total
}

type Group<'a> = BenchmarkGroup<'a, measurement::WallTime>;

fn both(group: &mut Group<'_>, sockets: &str, socket: Socket, frames: usize) {
    group.throughput(Throughput::Elements((CONNECTIONS * frames) as u64));
    group.bench_function(format!("throng/{sockets}/{frames} frames"), |b| {
        b.iter_custom(|turns| time_turns(socket, frames, turns));
    });
    group.bench_function(format!("tungstenite/{sockets}/{frames} frames"), |b| {
        b.iter_custom(|turns| time_tungstenite_turns(socket, frames, turns));
    });
}

fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("fanout/10000 connections");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for frames in [1, 8] {
        both(&mut group, "writable", Socket::Writable, frames);
        both(&mut group, "blocked", Socket::Blocked, frames);
    }
    group.finish();
}

criterion_group!(benches, fanout);
criterion_main!(benches);
