//! Connect: connections are opened, closed as soon as their handshake is done, and opened again.

use crate::cli;
use crate::fleet::{Fleet, Load, Outbox, note};
use crate::frame;
use crate::report::{Latencies, Meter, Report};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Normal closure (RFC 6455, section 7.4.1).
const CLOSE_NORMAL: [u8; 2] = 1000u16.to_be_bytes();
/// Failures after which no more is tried.
const FAILURES_MAX: u64 = 1000;

#[derive(Clone, Copy, Default)]
struct Lane {
    began_at: u64,
    is_open: bool,
}

struct Connect {
    path: String,
    lanes: Vec<Lane>,
    /// Lanes without a connection.
    free: Vec<usize>,
    stopping: bool,
    handshakes: u64,
    latencies: Latencies,
    failures: BTreeMap<String, u64>,
}

/// Warms up, measures, waits until the last connections are closed.
pub(crate) fn run(args: &cli::Connect) -> Result<Report, String> {
    let mut fleet = Fleet::new(&args.common, args.connections as usize)?;
    fleet.reopen(&args.common, &args.path);
    let mut connect = Connect::new(args)?;
    fleet.run(&mut connect, Instant::now() + Duration::from_millis(args.warmup_ms))?;
    connect.handshakes = 0;
    connect.latencies.clear();
    let (secured, resumed) = (fleet.secured, fleet.resumed);
    let meter = Meter::start(&args.common)?;
    let started = Instant::now();
    fleet.run(&mut connect, started + Duration::from_secs(args.seconds))?;
    let seconds = started.elapsed().as_secs_f64();
    let mut report = Report {
        mode: "connect",
        url: args.common.url(),
        path: args.path.clone(),
        connections: args.connections as usize,
        seconds: Some(seconds),
        handshakes: Some(connect.handshakes),
        handshakes_per_second: Some(connect.handshakes as f64 / seconds),
        tls_handshakes_resumed: (fleet.secured > secured).then(|| fleet.resumed - resumed),
        latency: connect.latencies.summary(),
        ..Report::default()
    };
    meter.stop(&mut report, connect.handshakes)?;
    connect.stopping = true;
    fleet.run(&mut connect, Instant::now() + Duration::from_secs(args.common.stall_timeout))?;
    report.connections_refused = connect.failed();
    report.reasons = connect.failures;
    Ok(report)
}

impl Connect {
    fn new(args: &cli::Connect) -> Result<Connect, String> {
        let lanes = args.connections as usize;
        Ok(Connect {
            path: args.path.clone(),
            lanes: vec![Lane::default(); lanes],
            free: (0..lanes).rev().collect(),
            stopping: false,
            handshakes: 0,
            latencies: Latencies::new()?,
            failures: BTreeMap::new(),
        })
    }

    fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

impl Load for Connect {
    fn message(&mut self, _: usize, _: u8, _: &[u8], _: u64) {}
    fn read_done(&mut self, _: usize, _: u64, _: &mut Outbox) {}

    fn opened(&mut self, index: usize, _welcome: &[u8], now: u64, outbox: &mut Outbox) {
        let lane = &mut self.lanes[index];
        lane.is_open = true;
        self.handshakes += 1;
        self.latencies.record(now - lane.began_at, 1);
        frame::write(&mut outbox.bytes, frame::CLOSE, &CLOSE_NORMAL);
    }

    fn ended(&mut self, index: usize, reason: &str, _now: u64) {
        if !std::mem::take(&mut self.lanes[index].is_open) {
            note(&mut self.failures, reason.to_owned());
        }
        self.free.push(index);
    }

    fn next_open(&mut self, now: u64) -> Option<(usize, String)> {
        if self.stopping || self.failed() > FAILURES_MAX {
            return None;
        }
        let index = self.free.pop()?;
        self.lanes[index].began_at = now;
        Some((index, self.path.clone()))
    }

    fn is_done(&self) -> bool {
        (self.stopping || self.failed() > FAILURES_MAX) && self.free.len() == self.lanes.len()
    }
}
