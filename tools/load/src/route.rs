//! Routed messages: in every pair of users one sends to the other, who must get each message once and in order.

use crate::cli;
use crate::fleet::{Fleet, Load, Outbox, Outcome};
use crate::frame;
use crate::numbering::{Faults, Sequence, Template, find};
use crate::report::{Fairness, Latencies, Meter, Report};
use std::time::{Duration, Instant};

/// Connection 2 i is the sender of pair i, connection 2 i + 1 its receiver.
struct Pair {
    template: Template,
    sequence: Sequence,
    sent: u32,
    outstanding: u32,
    sent_at: u64,
    measured: u64,
}

struct Route {
    pairs: Vec<Pair>,
    depth: u32,
    stopping: bool,
    outstanding: u64,
    place: usize,
    in_this_read: u64,
    latencies: Latencies,
    faults: Faults,
    unnumbered: u64,
    unnumbered_example: Option<String>,
}

/// Opens the connections, measures, waits for what is owed.
pub(crate) fn run(args: &cli::Route) -> Result<Report, String> {
    let pairs = args.connections / 2;
    let mut route = Route::new(args, pairs)?;
    let mut fleet = Fleet::new(&args.common, 2 * pairs as usize)?;
    let separator = if args.path.contains('?') { '&' } else { '?' };
    let path = |role: char, pair: u32| format!("{}{separator}user_id={role}{pair}", args.path);
    if let Some(peer) = &args.peer_url {
        let crosses = |pair: u32| (pair + 1) * args.peer_share / 100 > pair * args.peer_share / 100;
        fleet.set_peer(peer, (0..pairs).flat_map(|pair| [false, crosses(pair)]).collect())?;
    }
    fleet.open_all(&args.common, (0..pairs).flat_map(|pair| [path('a', pair), path('b', pair)]))?;
    if args.peer_url.is_some() {
        fleet.idle(Duration::from_millis(args.peer_settle_ms))?;
    }
    let mut outbox = Outbox::default();
    for pair in 0..pairs as usize {
        route.send(pair, fleet.now(), &mut outbox);
        fleet.send(outbox.target, &outbox.bytes);
        outbox.bytes.clear();
    }
    let mut outcome = fleet.run(&mut route, Instant::now() + Duration::from_millis(args.warmup_ms))?;
    route.begin();
    let meter = Meter::start(args.common.pid)?;
    let started = Instant::now();
    if outcome == Outcome::Deadline {
        outcome = fleet.run(&mut route, started + Duration::from_secs(args.seconds))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let measured: Vec<u64> = route.pairs.iter().map(|pair| pair.measured).collect();
    let messages = measured.iter().sum();
    let mut report = Report {
        mode: "route",
        url: args.common.url.clone(),
        path: args.path.clone(),
        connections: 2 * pairs as usize,
        depth: Some(args.depth),
        size_bytes: route.pairs.first_mut().map(|pair| pair.template.numbered(0).len()),
        ..Report::default()
    };
    meter.stop(&mut report, messages)?;
    report.rate_of(messages, seconds, &route.latencies);
    report.fairness = Fairness::of(measured, report.latency.as_ref());
    route.stopping = true;
    if outcome == Outcome::Deadline {
        outcome = fleet.run(&mut route, Instant::now() + Duration::from_secs(args.common.open_timeout))?;
    }
    let finish = |pair: &Pair| pair.sequence.finish(pair.sent, &mut route.faults);
    route.pairs.iter().for_each(finish);
    report.faults_of(route.faults, outcome);
    report.unnumbered = route.unnumbered;
    report.unnumbered_example = route.unnumbered_example;
    report.connections_of(&fleet);
    Ok(report)
}

impl Route {
    fn new(args: &cli::Route, pairs: u32) -> Result<Route, String> {
        let pair = |index: u32| {
            let text = args.send_template.replace("{target}", &format!("b{index}"));
            Ok(Pair {
                template: Template::new(&text, args.size as usize)?,
                sequence: Sequence::default(),
                sent: 0,
                outstanding: 0,
                sent_at: 0,
                measured: 0,
            })
        };
        Ok(Route {
            pairs: (0..pairs).map(pair).collect::<Result<_, String>>()?,
            depth: args.depth,
            stopping: false,
            outstanding: 0,
            place: 0,
            in_this_read: 0,
            latencies: Latencies::new()?,
            faults: Faults::default(),
            unnumbered: 0,
            unnumbered_example: None,
        })
    }

    fn send(&mut self, pair: usize, now: u64, outbox: &mut Outbox) {
        outbox.target = 2 * pair;
        let pair = &mut self.pairs[pair];
        for _ in 0..self.depth {
            frame::write(&mut outbox.bytes, frame::TEXT, pair.template.numbered(pair.sent));
            pair.sent += 1;
        }
        pair.sent_at = now;
        pair.outstanding = self.depth;
        self.outstanding += u64::from(self.depth);
    }

    /// Forgets the warm-up.
    fn begin(&mut self) {
        self.latencies.clear();
        self.pairs.iter_mut().for_each(|pair| pair.measured = 0);
    }
}

impl Load for Route {
    fn message(&mut self, from: usize, _opcode: u8, payload: &[u8], _now: u64) {
        let number = find(payload, &mut self.place).filter(|_| from % 2 == 1);
        let Some(number) = number else {
            self.unnumbered += 1;
            let text = || String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned();
            self.unnumbered_example.get_or_insert_with(text);
            return;
        };
        let pair = &mut self.pairs[from / 2];
        pair.sequence.arrived(number, &mut self.faults);
        if pair.outstanding > 0 {
            pair.outstanding -= 1;
            self.outstanding -= 1;
        }
        self.in_this_read += 1;
    }

    fn read_done(&mut self, from: usize, now: u64, outbox: &mut Outbox) {
        let count = std::mem::take(&mut self.in_this_read);
        let pair = &mut self.pairs[from / 2];
        pair.measured += count;
        self.latencies.record(now - pair.sent_at, count);
        if count > 0 && pair.outstanding == 0 && !self.stopping {
            self.send(from / 2, now, outbox);
        }
    }

    fn is_done(&self) -> bool {
        self.stopping && self.outstanding == 0
    }
}
