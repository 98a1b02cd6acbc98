//! Density: opens connections and leaves them idle, and says what one costs the server in resident memory.

use crate::cli;
use crate::fleet::{Fleet, Load, Outbox, Outcome};
use crate::frame;
use crate::procfs::Usage;
use crate::report::{Latencies, Memory, Meter, Report};
use std::time::{Duration, Instant};

/// Memory is at rest when it has not moved by more than this between two looks …
const REST_BYTES: u64 = 64 * 1024;
/// … so many times in a row …
const REST_LOOKS: u32 = 5;
/// … this far apart.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Counts the answers to the burst.
struct Burst {
    expected: Vec<u32>,
    outstanding: u64,
    answered: u64,
    surplus: u64,
    in_this_read: u64,
    sent_at: u64,
    latencies: Latencies,
}

/// Opens, measures, bursts, measures again, closes, measures a last time.
pub(crate) fn run(args: &cli::Density) -> Result<Report, String> {
    let mut fleet = Fleet::new(&args.common, args.connections as usize)?;
    let meter = Meter::start(&args.common)?;
    let mut memory = Memory { rss_before_bytes: rss(args)?.unwrap_or_default(), ..Memory::default() };
    fleet.open(&args.common, (0..args.connections).map(|index| path(args, index)))?;
    let mut report = Report {
        mode: "density",
        url: args.common.url(),
        path: args.path.clone(),
        connections: fleet.ready,
        ..Report::default()
    };
    let per_connection =
        |rss: u64, fleet: &Fleet| (rss as f64 - memory.rss_before_bytes as f64) / fleet.ready.max(1) as f64;
    memory.rss_open_bytes = rest(args, &mut fleet)?;
    memory.bytes_per_connection = per_connection(memory.rss_open_bytes, &fleet);
    if args.burst > 0 {
        burst(args, &mut fleet, &mut report)?;
        let rss = rest(args, &mut fleet)?;
        memory.rss_after_burst_bytes = Some(rss);
        memory.bytes_per_connection_after_burst = Some(per_connection(rss, &fleet));
    }
    fleet.idle(Duration::from_secs(args.hold))?;
    let answered = report.messages;
    meter.stop(&mut report, answered)?;
    report.connections_of(&fleet);
    drop(fleet);
    if args.common.pid.is_some() {
        memory.rss_closed_bytes = rest(args, &mut Fleet::new(&args.common, 0)?)?;
        report.memory = Some(memory);
    }
    Ok(report)
}

/// The path of a connection, with a user id of the length asked for.
fn path(args: &cli::Density, index: u32) -> String {
    match args.user_id_bytes {
        None => args.path.clone(),
        Some(bytes) => {
            let separator = if args.path.contains('?') { '&' } else { '?' };
            format!("{}{separator}user_id=u{index:0width$}", args.path, width = bytes as usize - 1)
        }
    }
}

fn rss(args: &cli::Density) -> Result<Option<u64>, String> {
    Ok(args.common.pid.map(Usage::of).transpose()?.map(|usage| usage.rss_bytes))
}

/// Waits until the server's memory is at rest, at most the settle timeout, and reads it. Zero without a process id.
fn rest(args: &cli::Density, fleet: &mut Fleet) -> Result<u64, String> {
    let Some(mut last) = rss(args)? else { return Ok(0) };
    let deadline = Instant::now() + Duration::from_secs(args.settle_timeout);
    let mut calm = 0;
    while calm < REST_LOOKS && Instant::now() < deadline {
        fleet.idle(LOOK_INTERVAL)?;
        let now = rss(args)?.unwrap_or_default();
        calm = if now.abs_diff(last) <= REST_BYTES { calm + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

fn burst(args: &cli::Density, fleet: &mut Fleet, report: &mut Report) -> Result<(), String> {
    let mut frames = Vec::new();
    (0..args.burst).for_each(|_| frame::write(&mut frames, frame::TEXT, args.burst_message.as_bytes()));
    let open = fleet.open_indexes();
    let mut burst = Burst {
        expected: vec![0; args.connections as usize],
        outstanding: open.len() as u64 * u64::from(args.burst),
        answered: 0,
        surplus: 0,
        in_this_read: 0,
        sent_at: fleet.now(),
        latencies: Latencies::new()?,
    };
    for index in open {
        burst.expected[index] = args.burst;
        fleet.send(index, &frames);
    }
    let started = Instant::now();
    let outcome = fleet.run(&mut burst, started + Duration::from_secs(args.common.open_timeout))?;
    report.rate_of(burst.answered, started.elapsed().as_secs_f64(), &burst.latencies);
    report.depth = Some(args.burst);
    report.size_bytes = Some(args.burst_message.len());
    report.lost = burst.outstanding;
    report.duplicated = burst.surplus;
    report.stalled = outcome != Outcome::Done;
    Ok(())
}

impl Load for Burst {
    fn message(&mut self, from: usize, _opcode: u8, _payload: &[u8], _now: u64) {
        match self.expected[from].checked_sub(1) {
            Some(left) => {
                self.expected[from] = left;
                self.outstanding -= 1;
                self.answered += 1;
                self.in_this_read += 1;
            }
            None => self.surplus += 1,
        }
    }

    fn read_done(&mut self, _from: usize, now: u64, _outbox: &mut Outbox) {
        self.latencies.record(now - self.sent_at, std::mem::take(&mut self.in_this_read));
    }

    fn is_done(&self) -> bool {
        self.outstanding == 0
    }
}
