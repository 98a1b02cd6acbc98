//! Fan-out: one publisher sends numbered messages, every subscriber must get each of them once and in order.

use crate::cli;
use crate::fleet::{Fleet, Load, Outbox, Outcome};
use crate::frame;
use crate::numbering::{Faults, Sequence, Template, find};
use crate::report::{Latencies, Meter, Report};
use std::time::{Duration, Instant};

struct Fanout {
    subscribers: Vec<Sequence>,
    publisher: usize,
    depth: u32,
    template: Template,
    published: u32,
    sent_at: u64,
    /// Deliveries of this round that have not arrived.
    outstanding: u64,
    stopping: bool,
    place: usize,
    in_this_read: u64,
    measured: u64,
    latencies: Latencies,
    faults: Faults,
    unnumbered: u64,
    unnumbered_example: Option<String>,
}

/// Opens the connections, measures, waits for what is owed.
pub(crate) fn run(args: &cli::Fanout) -> Result<Report, String> {
    let mut fanout = Fanout::new(args)?;
    let mut fleet = Fleet::new(&args.common, args.connections as usize + 1)?;
    let publisher_path = args.publisher_path.as_ref().unwrap_or(&args.path);
    let paths = (0..args.connections).map(|_| args.path.clone()).chain([publisher_path.clone()]);
    fleet.open_all(&args.common, paths)?;
    let mut outbox = Outbox::default();
    fanout.publish(fleet.now(), &mut outbox);
    fleet.send(outbox.target, &outbox.bytes);
    let mut outcome = fleet.run(&mut fanout, Instant::now() + Duration::from_millis(args.warmup_ms))?;
    fanout.begin();
    let meter = Meter::start(&args.common)?;
    let started = Instant::now();
    if outcome == Outcome::Deadline {
        outcome = fleet.run(&mut fanout, started + Duration::from_secs(args.seconds))?;
    }
    let mut report = Report {
        mode: "fanout",
        url: args.common.url(),
        path: args.path.clone(),
        connections: args.connections as usize,
        depth: Some(args.depth),
        size_bytes: Some(fanout.template.numbered(0).len()),
        ..Report::default()
    };
    meter.stop(&mut report, fanout.measured)?;
    report.rate_of(fanout.measured, started.elapsed().as_secs_f64(), &fanout.latencies);
    fanout.stopping = true;
    if outcome == Outcome::Deadline {
        outcome = fleet.run(&mut fanout, Instant::now() + Duration::from_secs(args.common.open_timeout))?;
    }
    let finish = |sequence: &Sequence| sequence.finish(fanout.published, &mut fanout.faults);
    fanout.subscribers.iter().for_each(finish);
    report.faults_of(fanout.faults, outcome);
    report.unnumbered = fanout.unnumbered;
    report.unnumbered_example = fanout.unnumbered_example;
    report.connections_of(&fleet);
    Ok(report)
}

impl Fanout {
    fn new(args: &cli::Fanout) -> Result<Fanout, String> {
        Ok(Fanout {
            subscribers: vec![Sequence::default(); args.connections as usize],
            publisher: args.connections as usize,
            depth: args.depth,
            template: Template::new(&args.publish_template, args.size as usize)?,
            published: 0,
            sent_at: 0,
            outstanding: 0,
            stopping: false,
            place: 0,
            in_this_read: 0,
            measured: 0,
            latencies: Latencies::new()?,
            faults: Faults::default(),
            unnumbered: 0,
            unnumbered_example: None,
        })
    }

    fn publish(&mut self, now: u64, outbox: &mut Outbox) {
        outbox.target = self.publisher;
        for _ in 0..self.depth {
            frame::write(&mut outbox.bytes, frame::TEXT, self.template.numbered(self.published));
            self.published += 1;
        }
        self.sent_at = now;
        self.outstanding = u64::from(self.depth) * self.subscribers.len() as u64;
    }

    /// Forgets the warm-up.
    fn begin(&mut self) {
        self.latencies.clear();
        self.measured = 0;
    }
}

impl Load for Fanout {
    fn message(&mut self, from: usize, _opcode: u8, payload: &[u8], _now: u64) {
        let number = find(payload, &mut self.place);
        match (number, self.subscribers.get_mut(from)) {
            (Some(number), Some(subscriber)) => {
                subscriber.arrived(number, &mut self.faults);
                self.outstanding = self.outstanding.saturating_sub(1);
                self.in_this_read += 1;
            }
            (Some(_), None) => {}
            (None, _) => {
                self.unnumbered += 1;
                let text = || String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned();
                self.unnumbered_example.get_or_insert_with(text);
            }
        }
    }

    fn read_done(&mut self, _from: usize, now: u64, outbox: &mut Outbox) {
        let count = std::mem::take(&mut self.in_this_read);
        self.measured += count;
        self.latencies.record(now - self.sent_at, count);
        if count > 0 && self.outstanding == 0 && !self.stopping {
            self.publish(now, outbox);
        }
    }

    fn is_done(&self) -> bool {
        self.stopping && self.outstanding == 0
    }
}
