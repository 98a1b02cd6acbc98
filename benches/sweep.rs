//! Looking through a million connections for deadlines: what heartbeats cost
//! when nothing is due, and when every connection is due for a ping. The
//! sockets here take everything, so what is left out is the kernel.
//!
//! `cargo bench --bench sweep`

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::io::{self, Write};
use std::time::Duration;
use throng::Config;
use throng::clock::Tick;
use throng::ids::ReactorId;
use throng::reactor::conn_table::ConnTable;
use throng::reactor::connection::{Connection, Phase};
use throng::reactor::outgoing::Outgoing;
use throng::reactor::sweep::{Deadlines, Verdict, judge};
use throng::ws::frame::PING;

const ROWS: usize = 1_000_000;

/// Connections looked through before what is due is written, as in a reactor.
const SLICE: u32 = ROWS as u32 / 16;

/// As wide as a descriptor, so that a row has its true size.
struct Socket(i32);

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        black_box(self.0);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A full table, last heard of at the beginning of time.
fn table() -> ConnTable<Connection<Socket>> {
    let mut table = ConnTable::with_capacity(ReactorId(0), ROWS);
    for descriptor in 0..ROWS {
        let mut row = Connection::accepted(Socket(descriptor as i32), Tick(0), false);
        row.phase = Phase::Open;
        table.insert(row);
    }
    table
}

/// One pass; the connections that were due for a ping.
fn judge_all(table: &mut ConnTable<Connection<Socket>>, now: Tick, deadlines: &Deadlines) -> usize {
    let mut due = |slot| table.get(slot).is_some_and(|row| judge(row, now, deadlines) == Verdict::Ping);
    (0..ROWS as u32).filter(|slot| due(*slot)).count()
}

/// One pass that lays out and writes the pings that are due; their number.
fn ping_all(
    table: &mut ConnTable<Connection<Socket>>,
    outgoing: &mut Outgoing,
    now: Tick,
    deadlines: &Deadlines,
) -> usize {
    let mut pings = 0;
    for start in (0..ROWS as u32).step_by(SLICE as usize) {
        for slot in start..start + SLICE {
            let Some(row) = table.get(slot) else { continue };
            if judge(row, now, deadlines) == Verdict::Ping {
                row.pings += 1;
                outgoing.push(row, slot, |out| out.extend_from_slice(&PING));
            }
        }
        for index in 0..outgoing.debtors() {
            let slot = outgoing.debtor(index);
            let row = table.get(slot).unwrap();
            pings += outgoing.settle(row, slot, 1 << 20).written / PING.len();
            row.debt = Connection::<Socket>::CLEAN;
            // So that it is due again in the next pass.
            row.pings = 0;
        }
        outgoing.clear();
    }
    pings
}

fn sweep(c: &mut Criterion) {
    let deadlines = Deadlines::new(&Config::default());
    let (idle, due) = (Tick(deadlines.heartbeat_interval - 1), Tick(deadlines.heartbeat_interval));
    let (mut table, mut outgoing) = (table(), Outgoing::default());
    let mut group = c.benchmark_group("sweep/1000000 connections");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    group.bench_function("all idle", |b| {
        b.iter(|| assert_eq!(judge_all(&mut table, black_box(idle), &deadlines), 0));
    });
    group.bench_function("all due", |b| {
        b.iter(|| assert_eq!(judge_all(&mut table, black_box(due), &deadlines), ROWS));
    });
    group.bench_function("a million pings", |b| {
        b.iter(|| assert_eq!(ping_all(&mut table, &mut outgoing, black_box(due), &deadlines), ROWS));
    });
    group.finish();
}

criterion_group!(benches, sweep);
criterion_main!(benches);
