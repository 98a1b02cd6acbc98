//! Routed messages: in every pair of users one sends to the other, who must get each message once and in order.

use crate::cli;
use crate::fleet::{Fleet, Load, Outbox, Outcome};
use crate::frame;
use crate::numbering::{Faults, Sequence, Template, find};
use crate::pace::Pace;
use crate::probe;
use crate::report::{Fairness, Latencies, Meter, Report};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Connection 2 i is the sender of pair i, connection 2 i + 1 its receiver.
struct Pair {
    template: Template,
    sequence: Sequence,
    sent: u32,
    outstanding: u32,
    sent_at: u64,
    /// At a steady rate: when the last messages were sent, those before them have arrived.
    sent_times: VecDeque<u64>,
    measured: u64,
}

struct Route {
    pairs: Vec<Pair>,
    depth: u32,
    /// `None`: the next messages follow when the ones before have arrived.
    pace: Option<Pace>,
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
        fleet.set_peer(&args.common, peer, (0..pairs).flat_map(|pair| [false, crosses(pair)]).collect())?;
    }
    fleet.open_all(&args.common, (0..pairs).flat_map(|pair| [path('a', pair), path('b', pair)]))?;
    let mut routable_seconds = None;
    if args.peer_url.is_some() {
        let texts: Vec<String> = (0..pairs).map(|pair| text(args, pair)).collect();
        let timeout = Duration::from_secs(args.routable_timeout);
        routable_seconds = Some(probe::until_routable(&mut fleet, &texts, timeout)?);
    }
    route.launch(args.rate, &mut fleet);
    let mut outcome = fleet.run(&mut route, Instant::now() + Duration::from_millis(args.warmup_ms))?;
    route.begin();
    let meter = Meter::start(&args.common)?;
    let started = Instant::now();
    if outcome == Outcome::Deadline {
        outcome = fleet.run(&mut route, started + Duration::from_secs(args.seconds))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let measured: Vec<u64> = route.pairs.iter().map(|pair| pair.measured).collect();
    let messages = measured.iter().sum();
    let mut report = Report {
        mode: "route",
        url: args.common.url(),
        path: args.path.clone(),
        connections: 2 * pairs as usize,
        depth: args.rate.is_none().then_some(args.depth),
        routable_seconds,
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

/// What the sender of a pair sends, with places for number and filling.
fn text(args: &cli::Route, pair: u32) -> String {
    args.send_template.replace("{target}", &format!("b{pair}"))
}

impl Pair {
    /// When message `number` was sent, if it has not been overtaken. What was sent before it is forgotten.
    fn sent_time(&mut self, number: u32) -> Option<u64> {
        let first = self.sent - self.sent_times.len() as u32;
        let skipped = number.checked_sub(first)? as usize;
        self.sent_times.drain(..skipped.min(self.sent_times.len()));
        self.sent_times.pop_front()
    }
}

impl Route {
    fn new(args: &cli::Route, pairs: u32) -> Result<Route, String> {
        let pair = |index: u32| {
            Ok(Pair {
                template: Template::new(&text(args, index), args.size as usize)?,
                sequence: Sequence::default(),
                sent: 0,
                outstanding: 0,
                sent_at: 0,
                sent_times: VecDeque::new(),
                measured: 0,
            })
        };
        Ok(Route {
            pairs: (0..pairs).map(pair).collect::<Result<_, String>>()?,
            depth: args.depth,
            pace: None,
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

    /// Sends the first messages, or begins to at a steady rate.
    fn launch(&mut self, rate: Option<u32>, fleet: &mut Fleet) {
        if let Some(rate) = rate {
            self.depth = 1;
            self.pace = Some(Pace::new(rate, fleet.now()));
            return;
        }
        let mut outbox = Outbox::default();
        for pair in 0..self.pairs.len() {
            self.send(pair, fleet.now(), &mut outbox);
            fleet.send(outbox.target, &outbox.bytes);
            outbox.bytes.clear();
        }
    }

    fn send(&mut self, pair: usize, now: u64, outbox: &mut Outbox) {
        outbox.target = 2 * pair;
        let pair = &mut self.pairs[pair];
        for _ in 0..self.depth {
            frame::write(&mut outbox.bytes, frame::TEXT, pair.template.numbered(pair.sent));
            pair.sent += 1;
        }
        pair.sent_at = now;
        if self.pace.is_some() {
            pair.sent_times.push_back(now);
        }
        pair.outstanding += self.depth;
        self.outstanding += u64::from(self.depth);
    }

    /// Forgets the warm-up.
    fn begin(&mut self) {
        self.latencies.clear();
        self.pairs.iter_mut().for_each(|pair| pair.measured = 0);
    }
}

impl Load for Route {
    fn message(&mut self, from: usize, _opcode: u8, payload: &[u8], now: u64) {
        let number = find(payload, &mut self.place).filter(|_| from % 2 == 1);
        let Some(number) = number else {
            self.unnumbered += 1;
            let text = || String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned();
            self.unnumbered_example.get_or_insert_with(text);
            return;
        };
        let pair = &mut self.pairs[from / 2];
        pair.sequence.arrived(number, &mut self.faults);
        if self.pace.is_some()
            && let Some(sent_at) = pair.sent_time(number)
        {
            self.latencies.record(now - sent_at, 1);
        }
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
        if self.pace.is_some() {
            return;
        }
        self.latencies.record(now - pair.sent_at, count);
        if count > 0 && pair.outstanding == 0 && !self.stopping {
            self.send(from / 2, now, outbox);
        }
    }

    fn next_send(&self) -> Option<u64> {
        self.pace.as_ref().filter(|_| !self.stopping).map(Pace::next)
    }

    fn send_due(&mut self, now: u64, outbox: &mut Outbox) {
        let Some(number) = self.pace.as_mut().map(Pace::take) else { return };
        self.send(number as usize % self.pairs.len(), now, outbox);
    }

    fn is_done(&self) -> bool {
        self.stopping && self.outstanding == 0
    }
}
