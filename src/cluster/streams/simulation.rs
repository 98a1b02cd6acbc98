//! Two nodes and a channel that loses, repeats, delays and is cut, with
//! restarts of either node, in virtual time, against a shadow model that knows
//! what became of every envelope. `THRONG_SEED` replays one run.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;

use super::*;
use crate::cluster::wire::{Answer, Aside, BatchHeader, BatchWriter, Envelope, Stream, read};
use crate::limits::{STREAM_REPAIR_TIMEOUT, STREAM_RING_AGE, STREAM_TICK_MAX};

const STEP: Duration = Duration::from_millis(10);
const NAMES: [&str; 2] = ["a", "b"];

/// What a run is like.
#[derive(Clone, Debug)]
struct Weather {
    loss: f64,
    repeat: f64,
    delay_ms: u64,
    /// Per step.
    restart: f64,
    /// Per step: the subscription of a node is interrupted for a while.
    cut: f64,
    ring_bytes: usize,
    steps: u32,
}

impl Weather {
    fn of(rng: &mut Rng) -> Self {
        let mut some = |chance: f64, most: f64| if rng.f64() < chance { rng.f64() * most } else { 0.0 };
        let (loss, repeat) = (some(0.8, 0.4), some(0.5, 0.4));
        let (restart, cut) = (some(0.5, 0.004), some(0.5, 0.01));
        let delay_ms = if rng.bool() { rng.u64(1..300) } else { 1 };
        let ring_bytes = if rng.bool() { 1 << 20 } else { rng.usize(0..4000) };
        Weather { loss, repeat, delay_ms, restart, cut, ring_bytes, steps: rng.u32(100..1500) }
    }

    fn is_calm(&self) -> bool {
        self.loss + self.repeat + self.restart + self.cut == 0.0 && self.delay_ms == 1
    }

    /// Whether everything that gets lost can be repaired in time.
    fn is_repairable(&self) -> bool {
        let in_time = if self.cut == 0.0 { self.loss < 0.25 } else { self.loss == 0.0 };
        in_time && self.restart == 0.0 && self.ring_bytes == 1 << 20
    }
}

/// One end: a node's streams to the other.
struct Sender {
    outgoing: Outgoing,
    writer: BatchWriter,
    stream: Stream,
}

impl Sender {
    fn new(name: &str, incarnation: u64, stream: Stream, ring_bytes: usize) -> Self {
        let writer = BatchWriter::new(name, incarnation, stream).expect("a valid name");
        Sender { outgoing: Outgoing::new(ring_bytes), writer, stream }
    }
}

struct Node {
    incarnation: u64,
    /// The incarnation of the other node that this one knows of.
    peer: u64,
    direct: Sender,
    broadcast: Sender,
    incoming: Incoming,
    /// Until when nothing reaches it.
    cut_until: Option<Instant>,
}

/// What the receiver did with an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    Lost,
}

/// One stream from one incarnation of a node to one incarnation of the other.
type Path = (usize, u64, Stream, u64);

/// What a receiver did with one stream.
#[derive(Default)]
struct Record {
    fates: BTreeMap<u64, Fate>,
    /// The first number it was to receive.
    begin: u64,
    /// The number after the last that it has learnt of.
    known: u64,
    in_order: bool,
}

struct World {
    rng: Rng,
    weather: Weather,
    now: Instant,
    /// No node is cut off before then.
    spared_until: Instant,
    nodes: [Node; 2],
    on_their_way: Vec<(Instant, usize, Bytes)>,
    /// What each number of a stream says: number n stands at n - 1.
    sent: HashMap<(usize, u64, Stream), Vec<u64>>,
    records: HashMap<Path, Record>,
    /// Where a broadcast begins, as its source says.
    told: HashMap<Path, u64>,
    last_id: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weather = Weather::of(&mut rng);
        let nodes = [0, 1].map(|name| node(name, 1, 1, weather.ring_bytes));
        let now = Instant::now();
        World {
            rng,
            weather,
            now,
            spared_until: now,
            nodes,
            on_their_way: Vec::new(),
            sent: HashMap::new(),
            records: HashMap::new(),
            told: HashMap::new(),
            last_id: 0,
        }
    }

    /// How many envelopes were delivered and how many lost.
    fn run(mut self) -> (usize, usize) {
        for name in [0, 1] {
            self.tell_where_the_broadcast_begins(name);
        }
        for _ in 0..self.weather.steps {
            for name in [0, 1] {
                self.write(name);
                self.strike(name);
            }
            self.step();
        }
        self.calm_down();
        self.judge()
    }

    /// Sends a few envelopes, sometimes.
    fn write(&mut self, name: usize) {
        while self.rng.f64() < 0.2 {
            let direct = self.rng.bool();
            for _ in 0..self.rng.u32(1..6) {
                self.last_id += 1;
                let id = self.last_id;
                let node = &mut self.nodes[name];
                let sender = if direct { &mut node.direct } else { &mut node.broadcast };
                let text = "x".repeat(self.rng.usize(0..100));
                let aside = Aside::default();
                let send = Envelope::Send { answer: Answer::Ack(id), user: "ann", text: &text, aside };
                sender.writer.append(&send).expect("it fits");
                self.sent.entry((name, node.incarnation, sender.stream)).or_default().push(id);
            }
            self.publish(name, direct);
        }
    }

    /// Seals what a node has for a stream, if only that there is nothing.
    fn publish(&mut self, name: usize, direct: bool) {
        let node = &mut self.nodes[name];
        let sender = if direct { &mut node.direct } else { &mut node.broadcast };
        let count = sender.writer.count();
        let batch = sender.writer.seal(sender.outgoing.next());
        sender.outgoing.sent(&batch, count, self.now);
        assert!(sender.outgoing.ring_bytes() <= self.weather.ring_bytes);
        self.transmit(1 - name, batch);
    }

    fn transmit(&mut self, to: usize, batch: Bytes) {
        let mut copies = u32::from(self.rng.f64() >= self.weather.loss);
        copies += u32::from(self.rng.f64() < self.weather.repeat);
        for _ in 0..copies {
            let delay = Duration::from_millis(self.rng.u64(0..self.weather.delay_ms));
            self.on_their_way.push((self.now + delay, to, batch.clone()));
        }
    }

    /// Restarts a node or cuts it off, sometimes.
    fn strike(&mut self, name: usize) {
        if self.rng.f64() < self.weather.restart {
            let incarnation = self.nodes[name].incarnation + 1;
            let peer = self.nodes[1 - name].incarnation;
            self.nodes[name] = node(name, incarnation, peer, self.weather.ring_bytes);
        }
        // The other learns of a restart from the registry, a little later.
        if self.nodes[name].peer != self.nodes[1 - name].incarnation && self.rng.f64() < 0.1 {
            self.learn_of_peer(name);
        }
        if self.now >= self.spared_until && self.rng.f64() < self.weather.cut {
            let until = self.now + Duration::from_millis(self.rng.u64(1..3000));
            self.nodes[name].cut_until = Some(until);
            // Time for a repair before the next one.
            self.spared_until = until + Duration::from_millis(1500);
        }
    }

    fn learn_of_peer(&mut self, name: usize) {
        let (peer, ring_bytes) = (self.nodes[1 - name].incarnation, self.weather.ring_bytes);
        let node = &mut self.nodes[name];
        node.peer = peer;
        node.direct = Sender::new(NAMES[name], node.incarnation, Stream::To(peer), ring_bytes);
        self.tell_where_the_broadcast_begins(name);
    }

    /// What is broadcast from now on is for the other node.
    fn tell_where_the_broadcast_begins(&mut self, name: usize) {
        self.last_id += 1;
        let node = &mut self.nodes[name];
        let number = node.broadcast.outgoing.next();
        node.direct.writer.append(&Envelope::Begin { number }).expect("it fits");
        let (incarnation, stream) = (node.incarnation, node.direct.stream);
        self.sent.entry((name, incarnation, stream)).or_default().push(self.last_id);
        let path = (name, incarnation, Stream::Broadcast, self.nodes[name].peer);
        self.told.insert(path, number);
        self.publish(name, true);
    }

    /// Time passes: what is due arrives, and timers run.
    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        let mut due: Vec<_> = self.on_their_way.extract_if(.., |(at, ..)| *at <= now).collect();
        // Stable, so that without delays the order is kept.
        due.sort_by_key(|(at, ..)| *at);
        for (_, to, batch) in due {
            if self.nodes[to].cut_until.is_none() {
                self.receive(to, &batch);
            }
        }
        for name in [0, 1] {
            if self.nodes[name].cut_until.is_some_and(|until| now >= until) {
                self.nodes[name].cut_until = None;
                self.nodes[name].incoming.resynchronise(now);
            }
            self.timers(name);
        }
    }

    fn timers(&mut self, name: usize) {
        let now = self.now;
        if self.nodes[name].cut_until.is_none() {
            self.poll(name);
        }
        for direct in [true, false] {
            let node = &mut self.nodes[name];
            let sender = if direct { &mut node.direct } else { &mut node.broadcast };
            if sender.outgoing.poll(now) {
                self.publish(name, direct);
            }
        }
    }

    fn poll(&mut self, name: usize) {
        let mut events = Vec::new();
        let incoming = &mut self.nodes[name].incoming;
        let due = incoming.deadline().is_some_and(|at| at <= self.now);
        incoming.poll(self.now, &mut events);
        assert!(due || events.is_empty(), "events before their deadline");
        assert!(incoming.deadline().is_none_or(|at| at > self.now), "not all was polled");
        self.handle(name, events);
    }

    fn receive(&mut self, to: usize, batch: &Bytes) {
        let (header, envelopes) = read(batch).expect("batches are not damaged");
        let mut events = Vec::new();
        let node = &mut self.nodes[to];
        let verdict = node.incoming.accept(&header, self.now, &mut events);
        let receiver = node.incarnation;
        self.handle(to, events);
        if let Verdict::Refused(refusal) = verdict {
            assert_ne!(refusal, Refusal::Crowded);
            return;
        }
        self.note(receiver, to, &header);
        for item in envelopes {
            let item = item.expect("envelopes are not damaged");
            if verdict.admits(item.number) {
                self.deliver(to, &header, item.number, &item.envelope);
            }
        }
    }

    /// Keeps in mind what the receiver has now learnt of a stream.
    fn note(&mut self, receiver: u64, to: usize, header: &BatchHeader<'_>) {
        let end = header.first + u64::from(header.count);
        let begin = if header.stream == Stream::Broadcast { header.first } else { 1 };
        let path = (1 - to, header.incarnation, header.stream, receiver);
        let fresh = || Record { begin, known: begin, in_order: true, ..Record::default() };
        let record = self.records.entry(path).or_insert_with(fresh);
        record.known = record.known.max(end);
    }

    fn deliver(&mut self, to: usize, header: &BatchHeader<'_>, number: Option<u64>, envelope: &Envelope<'_>) {
        match (envelope, number) {
            (Envelope::Send { answer: Answer::Ack(id), .. }, Some(number)) => {
                let sent = &self.sent[&(1 - to, header.incarnation, header.stream)];
                assert_eq!(sent[number as usize - 1], *id, "number {number} of {header:?}");
                let path = (1 - to, header.incarnation, header.stream, self.nodes[to].incarnation);
                self.decide(path, number..=number, Fate::Delivered);
            }
            (Envelope::Begin { number: begin }, Some(number)) => {
                let mut events = Vec::new();
                self.nodes[to].incoming.begin(header, *begin, self.now, &mut events);
                let receiver = self.nodes[to].incarnation;
                let fresh = || Record { begin: *begin, known: *begin, in_order: true, ..Record::default() };
                let path = (1 - to, header.incarnation, Stream::Broadcast, receiver);
                let record = self.records.entry(path).or_insert_with(fresh);
                record.begin = record.begin.min(*begin);
                self.handle(to, events);
                let path = (1 - to, header.incarnation, header.stream, receiver);
                self.decide(path, number..=number, Fate::Delivered);
            }
            (Envelope::Resend { stream, from, to: last }, None) => self.resend(to, *stream, *from, *last),
            (Envelope::Lost { stream, from, to: last }, None) => {
                let mut events = Vec::new();
                self.nodes[to].incoming.give_up(header, *stream, (*from, *last), self.now, &mut events);
                self.handle(to, events);
            }
            other => panic!("nobody sent {other:?}"),
        }
    }

    /// Answers a request to send again.
    fn resend(&mut self, name: usize, stream: Stream, from: u64, to: u64) {
        let node = &mut self.nodes[name];
        let direct = stream != Stream::Broadcast;
        let sender = if direct { &node.direct } else { &node.broadcast };
        if sender.stream != stream {
            return;
        }
        let repair = sender.outgoing.resend(from, to);
        if let Some((from, to)) = repair.lost {
            node.direct.writer.append(&Envelope::Lost { stream, from, to }).expect("it fits");
            self.publish(name, true);
        }
        for batch in repair.batches {
            self.transmit(1 - name, batch);
        }
        self.publish(name, direct);
    }

    fn handle(&mut self, name: usize, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Ask(Missing { incarnation, stream, from, to, .. }) => {
                    let node = &mut self.nodes[name];
                    // A node answers only for the incarnation that is asked.
                    if node.peer == incarnation {
                        let ask = Envelope::Resend { stream, from, to };
                        node.direct.writer.append(&ask).expect("it fits");
                        self.publish(name, true);
                    }
                }
                Event::Lost(Missing { source, incarnation, stream, from, to }) => {
                    assert_eq!(&*source, NAMES[1 - name]);
                    let path = (1 - name, incarnation, stream, self.nodes[name].incarnation);
                    self.decide(path, from..=to, Fate::Lost);
                }
            }
        }
    }

    fn decide(&mut self, path: Path, numbers: RangeInclusive<u64>, fate: Fate) {
        let (source, incarnation, stream, _) = path;
        let sent = self.sent.get(&(source, incarnation, stream)).map_or(0, Vec::len);
        assert!(*numbers.end() <= sent as u64, "{path:?}: {numbers:?} of {sent} sent");
        let record = self.records.entry(path).or_default();
        for number in numbers {
            record.in_order &= record.fates.keys().next_back().is_none_or(|last| number == last + 1);
            assert!(number >= record.begin, "{path:?}: {number} was before {}", record.begin);
            assert_eq!(record.fates.insert(number, fate), None, "{path:?}: {number} now {fate:?}");
        }
    }

    /// The weather clears; all that is due comes to an end.
    fn calm_down(&mut self) {
        let calm = Weather { loss: 0.0, repeat: 0.0, delay_ms: 1, restart: 0.0, cut: 0.0, ..self.weather };
        let weather = std::mem::replace(&mut self.weather, calm);
        for name in [0, 1] {
            if self.nodes[name].peer != self.nodes[1 - name].incarnation {
                self.learn_of_peer(name);
            }
            self.publish(name, false);
        }
        let span = STREAM_RING_AGE + STREAM_TICK_MAX + 2 * STREAM_REPAIR_TIMEOUT;
        for _ in 0..span.as_millis() / STEP.as_millis() {
            self.step();
        }
        self.weather = weather;
    }

    /// Every envelope a receiver learnt of has come to an end.
    fn judge(&self) -> (usize, usize) {
        let (mut delivered, mut lost) = (0, 0);
        for (path, record) in &self.records {
            let (source, incarnation, stream, receiver) = *path;
            let live = self.nodes[source].incarnation == incarnation;
            if self.nodes[1 - source].incarnation != receiver {
                continue;
            }
            let sent = self.sent.get(&(source, incarnation, stream)).map_or(0, Vec::len) as u64;
            // The tail that nothing told of ended with its source.
            let end = if live { sent + 1 } else { record.known };
            let numbers: Vec<_> = record.fates.keys().copied().collect();
            let expected: Vec<_> = (record.begin..end).collect();
            assert_eq!(numbers, expected, "{path:?}: sent {sent}");
            lost += record.fates.values().filter(|fate| **fate == Fate::Lost).count();
            delivered += record.fates.values().filter(|fate| **fate == Fate::Delivered).count();
            assert!(!self.weather.is_calm() || record.in_order, "{path:?} is out of order");
        }
        if self.weather.is_repairable() {
            for (path, told) in &self.told {
                let began = self.records.get(path).map(|record| record.begin);
                assert!(began.is_some_and(|begin| begin <= *told), "{path:?}: from {began:?}, not {told}");
            }
        }
        for node in &self.nodes {
            assert!(node.incoming.is_synchronised());
            assert_eq!(node.direct.outgoing.ring_bytes() + node.broadcast.outgoing.ring_bytes(), 0);
        }
        assert!(lost == 0 || !self.weather.is_repairable(), "{lost} lost: {:?}", self.weather);
        (delivered, lost)
    }
}

fn node(name: usize, incarnation: u64, peer: u64, ring_bytes: usize) -> Node {
    let sender = |stream| Sender::new(NAMES[name], incarnation, stream, ring_bytes);
    Node {
        incarnation,
        peer,
        direct: sender(Stream::To(peer)),
        broadcast: sender(Stream::Broadcast),
        incoming: Incoming::new(incarnation),
        cut_until: None,
    }
}

/// Says how to repeat a run that failed.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with THRONG_SEED={}", self.0);
        }
    }
}

#[test]
fn each_envelope_is_delivered_once_or_reported_lost() {
    if let Ok(seed) = std::env::var("THRONG_SEED") {
        World::new(seed.parse().expect("THRONG_SEED is a number")).run();
        return;
    }
    let fresh = std::iter::repeat_with(|| fastrand::u64(..)).take(32);
    let (mut delivered, mut lost) = (0, 0);
    for seed in (0..96).chain(fresh) {
        let _replay = Replay(seed);
        let fates = World::new(seed).run();
        delivered += fates.0;
        lost += fates.1;
    }
    assert!(lost > 100 && delivered > 10 * lost, "{delivered} delivered and {lost} lost: a poor simulation");
}
