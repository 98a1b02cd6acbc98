//! Echo: every connection keeps `depth` numbered messages in flight, or sends at a steady rate; what comes back must be
//! what was sent.

use crate::cli;
use crate::fleet::{Fleet, Load, Outbox, Outcome};
use crate::frame::{self, MASK};
use crate::numbering::{Faults, Sequence, from_hex, hex};
use crate::pace::Pace;
use crate::report::{Fairness, Latencies, Meter, Report};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes of connection and message number at the start of a payload.
const NUMBERS: usize = 16;

#[derive(Clone, Default)]
struct Lane {
    sequence: Sequence,
    sent: u32,
    outstanding: u32,
    sent_at: u64,
    /// At a steady rate: when each message that is not back yet was sent.
    sent_times: VecDeque<u64>,
    /// Messages that came back in the measurement.
    measured: u64,
}

struct Echo {
    lanes: Vec<Lane>,
    depth: u32,
    /// `None`: the next messages follow when the ones before are back.
    pace: Option<Pace>,
    opcode: u8,
    /// A whole masked frame; the numbers are put in place for each message.
    frame: Vec<u8>,
    payload_at: usize,
    /// What follows the numbers in a payload.
    fill: Vec<u8>,
    stopping: bool,
    outstanding: u64,
    in_this_read: u32,
    latencies: Latencies,
    faults: Faults,
    corrupted: u64,
}

/// Opens the connections, measures, waits for what is owed.
pub(crate) fn run(args: &cli::Echo) -> Result<Report, String> {
    let mut fleet = Fleet::new(&args.common, args.connections as usize)?;
    fleet.open_all(&args.common, (0..args.connections).map(|_| args.path.clone()))?;
    let mut echo = Echo::new(args)?;
    echo.start(args.rate, &mut fleet);
    let mut outcome = fleet.run(&mut echo, Instant::now() + Duration::from_millis(args.warmup_ms))?;
    echo.begin();
    let meter = Meter::start(&args.common)?;
    let started = Instant::now();
    if outcome == Outcome::Deadline {
        outcome = fleet.run(&mut echo, started + Duration::from_secs(args.seconds))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let measured: Vec<u64> = echo.lanes.iter().map(|lane| lane.measured).collect();
    let messages = measured.iter().sum();
    let mut report = Report {
        mode: "echo",
        url: args.common.url(),
        path: args.path.clone(),
        connections: args.connections as usize,
        depth: args.rate.is_none().then_some(args.depth),
        size_bytes: Some(args.size as usize),
        ..Report::default()
    };
    meter.stop(&mut report, messages)?;
    report.rate_of(messages, seconds, &echo.latencies);
    report.fairness = Fairness::of(measured, report.latency.as_ref());
    echo.stopping = true;
    if outcome == Outcome::Deadline {
        outcome = fleet.run(&mut echo, Instant::now() + Duration::from_secs(args.common.open_timeout))?;
    }
    let finish = |lane: &Lane| lane.sequence.finish(lane.sent, &mut echo.faults);
    echo.lanes.iter().for_each(finish);
    report.faults_of(echo.faults, outcome);
    report.corrupted = echo.corrupted;
    report.connections_of(&fleet);
    Ok(report)
}

impl Echo {
    fn new(args: &cli::Echo) -> Result<Echo, String> {
        let opcode = if args.binary { frame::BINARY } else { frame::TEXT };
        let payload: Vec<u8> = (0..args.size as usize).map(|index| b'a' + (index % 26) as u8).collect();
        let mut whole = Vec::new();
        frame::write(&mut whole, opcode, &payload);
        Ok(Echo {
            lanes: vec![Lane::default(); args.connections as usize],
            depth: args.depth,
            pace: None,
            opcode,
            payload_at: whole.len() - payload.len(),
            frame: whole,
            fill: payload[NUMBERS..].to_vec(),
            stopping: false,
            outstanding: 0,
            in_this_read: 0,
            latencies: Latencies::new()?,
            faults: Faults::default(),
            corrupted: 0,
        })
    }

    /// Sends the first messages, or begins to at a steady rate.
    fn start(&mut self, rate: Option<u32>, fleet: &mut Fleet) {
        if let Some(rate) = rate {
            self.depth = 1;
            self.pace = Some(Pace::new(rate, fleet.now()));
            return;
        }
        let mut outbox = Outbox::default();
        for index in 0..self.lanes.len() {
            self.burst(index, fleet.now(), &mut outbox.bytes);
            fleet.send(index, &outbox.bytes);
            outbox.bytes.clear();
        }
    }

    /// Forgets the warm-up.
    fn begin(&mut self) {
        self.latencies.clear();
        self.lanes.iter_mut().for_each(|lane| lane.measured = 0);
    }

    fn burst(&mut self, index: usize, now: u64, out: &mut Vec<u8>) {
        let lane = &mut self.lanes[index];
        for _ in 0..self.depth {
            let numbers = hex(index as u32).into_iter().chain(hex(lane.sent));
            let places = self.frame[self.payload_at..].iter_mut().zip(MASK.iter().cycle());
            places.zip(numbers).for_each(|((place, mask), digit)| *place = digit ^ mask);
            out.extend_from_slice(&self.frame);
            lane.sent += 1;
        }
        lane.sent_at = now;
        if self.pace.is_some() {
            lane.sent_times.push_back(now);
        }
        lane.outstanding += self.depth;
        self.outstanding += u64::from(self.depth);
    }
}

impl Load for Echo {
    fn message(&mut self, from: usize, opcode: u8, payload: &[u8], now: u64) {
        let lane = &mut self.lanes[from];
        if let Some(sent_at) = lane.sent_times.pop_front() {
            self.latencies.record(now - sent_at, 1);
        }
        self.in_this_read += 1;
        if lane.outstanding > 0 {
            lane.outstanding -= 1;
            self.outstanding -= 1;
        }
        let whole = payload.split_at_checked(NUMBERS).filter(|(numbers, fill)| {
            opcode == self.opcode && *fill == self.fill && numbers[..8] == hex(from as u32)
        });
        match whole.and_then(|(numbers, _)| from_hex(&numbers[8..])) {
            Some(number) => lane.sequence.arrived(number, &mut self.faults),
            None => self.corrupted += 1,
        }
    }

    fn read_done(&mut self, from: usize, now: u64, outbox: &mut Outbox) {
        let count = u64::from(std::mem::take(&mut self.in_this_read));
        let lane = &mut self.lanes[from];
        lane.measured += count;
        if self.pace.is_some() {
            return;
        }
        self.latencies.record(now - lane.sent_at, count);
        if lane.outstanding == 0 && !self.stopping {
            self.burst(from, now, &mut outbox.bytes);
        }
    }

    fn next_send(&self) -> Option<u64> {
        self.pace.as_ref().filter(|_| !self.stopping).map(Pace::next)
    }

    fn send_due(&mut self, now: u64, outbox: &mut Outbox) {
        let Some(number) = self.pace.as_mut().map(Pace::take) else { return };
        outbox.target = number as usize % self.lanes.len();
        self.burst(outbox.target, now, &mut outbox.bytes);
    }

    fn is_done(&self) -> bool {
        self.stopping && self.outstanding == 0
    }
}
