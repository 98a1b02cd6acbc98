//! The thread that hears what other nodes send.
//!
//! Owns [`Subscriber`] and [`Ear`], by which the publisher tells it as which
//! incarnation to listen. Each envelope is posted to the reactor concerned
//! once, in the order of its stream; what is missing is asked for. A reactor
//! that is busy is waited for: Redis keeps what is sent meanwhile, and should
//! it give up on us, the streams tell what was missed.

mod asides;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::complaints::Complaints;
use super::connect::{self, Subscription};
use super::message::{ClusterMessage, Heard, Stray, Traced, Until};
use super::publisher::Plan;
use super::registry::Member;
use super::sources::{Name, Naming, SourceId};
use super::streams::{Event, Incoming};
use super::wire::{self, Answer, BatchHeader, Envelope, Stream};
use crate::ids::{ConnId, ReactorId};
use crate::metrics::Counter;
use crate::reactor::mailbox::Mailbox;
use crate::reactor::message::{Action, Kick, Origin, ReactorMessage, ReplyTo};
use crate::reactor::shared::Shared;
use crate::ws::frame::Frame;
use asides::traced;

/// Between attempts to subscribe.
const RETRY: Duration = Duration::from_millis(250);

/// Longest wait for a message before other duties are looked after.
const IDLE: Duration = Duration::from_millis(200);

/// How long a full mailbox is waited for before a message is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// The name of a request at its node, if that wants to know what comes of it,
/// and what the log is to say then.
type Wanted = Option<(u64, Option<Box<Traced>>)>;

/// Tells the subscriber as which incarnation it listens; 0 for not yet.
#[derive(Clone, Debug, Default)]
pub struct Ear(Arc<AtomicU64>);

impl Ear {
    /// From now on this incarnation is meant.
    pub fn listen(&self, incarnation: u64) {
        self.0.store(incarnation, Ordering::Release);
    }

    fn incarnation(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// See the module.
pub struct Subscriber {
    plan: Plan,
    shared: Arc<Shared>,
    publisher: Mailbox<ClusterMessage>,
    ear: Ear,
    stop: Arc<AtomicBool>,
    incoming: Incoming,
    incarnation: u64,
    events: Vec<Event>,
    next_ticket: u64,
    next_probe: u32,
    /// Whether what was missed before the subscription is still being repaired.
    resynchronising: bool,
    /// That it cannot subscribe.
    complaints: Complaints,
    /// Of the nodes that were heard of.
    naming: Naming,
}

impl Subscriber {
    /// A subscriber that does not listen yet.
    pub fn new(
        plan: Plan,
        shared: Arc<Shared>,
        publisher: Mailbox<ClusterMessage>,
        ear: Ear,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Subscriber {
            plan,
            shared,
            publisher,
            ear,
            stop,
            incoming: Incoming::new(0),
            incarnation: 0,
            events: Vec::new(),
            next_ticket: 0,
            next_probe: 0,
            resynchronising: false,
            complaints: Complaints::default(),
            naming: Naming::default(),
        }
    }

    /// Listens until told to stop.
    pub fn run(mut self) {
        let channels = {
            let names = &self.plan.names;
            [names.node_channel(&self.shared.node_id), names.broadcast_channel()]
        };
        while !self.stopped() {
            if self.ear.incarnation() == 0 {
                thread::park_timeout(RETRY);
                continue;
            }
            match connect::subscribe(&self.plan.settings, &[&channels[0], &channels[1]]) {
                Ok(subscription) => {
                    self.complaints.clear();
                    self.listen(subscription);
                }
                Err(error) => {
                    let error = error.to_string();
                    if self.complaints.is_news(&error, Instant::now()) {
                        log::warn!("cannot subscribe in Redis, hearing nothing of other nodes: {error}");
                    }
                    thread::park_timeout(RETRY);
                }
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Hears a subscription to its end.
    fn listen(&mut self, mut subscription: Subscription) {
        self.begin();
        while !self.stopped() {
            if self.ear.incarnation() != self.incarnation {
                self.begin();
            }
            self.tell_when_synchronised();
            match subscription.next(self.wait()) {
                Ok(Some(message)) => self.take_batch(&message.payload),
                Ok(None) => {}
                Err(error) => {
                    log::debug!("the subscription ended: {error}");
                    self.complaints.said(error.to_string(), Instant::now());
                    return self.tell(Heard::Deaf);
                }
            }
            self.incoming.poll(Instant::now(), &mut self.events);
            self.tell_events();
        }
    }

    /// Subscribed: from now on nothing is missed. What was missed since the last
    /// subscription is to be found out; a new incarnation has missed nothing.
    fn begin(&mut self) {
        let incarnation = self.ear.incarnation();
        if incarnation == self.incarnation {
            self.incoming.resynchronise(Instant::now());
        } else {
            self.incarnation = incarnation;
            self.incoming = Incoming::new(incarnation);
        }
        self.resynchronising = true;
        self.tell(Heard::Subscribed { incarnation });
    }

    /// Tells once that nothing is missing any more from before the subscription.
    fn tell_when_synchronised(&mut self) {
        if self.resynchronising && self.incoming.is_synchronised() {
            self.resynchronising = false;
            self.tell(Heard::Synchronised { incarnation: self.incarnation });
        }
    }

    fn wait(&self) -> Duration {
        let due = self.incoming.deadline().map(|due| due.saturating_duration_since(Instant::now()));
        due.map_or(IDLE, |due| due.clamp(Duration::from_millis(1), IDLE))
    }

    fn take_batch(&mut self, batch: &[u8]) {
        let (header, envelopes) = match wire::read(batch) {
            Ok(read) => read,
            Err(error) => return log::warn!("a batch from another node cannot be read: {error}"),
        };
        if header.source == self.shared.node_id {
            return;
        }
        self.shared.metrics.node().add(Counter::ClusterBatchesReceived, 1);
        let verdict = self.incoming.accept(&header, Instant::now(), &mut self.events);
        let from = Member::new(header.source, header.incarnation);
        let source = self.name(&from);
        for item in envelopes {
            match item {
                Ok(item) if verdict.admits(item.number) => self.take(&header, &from, source, item.envelope),
                Ok(_) => {}
                Err(error) => log::warn!("an envelope from {} cannot be read: {error}", header.source),
            }
        }
    }

    /// The name of a node's life, which the publisher is told when it is a new
    /// one; `None` for one that has ended.
    fn name(&mut self, from: &Member) -> Option<SourceId> {
        match self.naming.name(&from.node, from.incarnation) {
            Name::Known(source) => Some(source),
            Name::New(source) => {
                self.tell(Heard::Newcomer(source, from.clone()));
                Some(source)
            }
            Name::Outdated => None,
        }
    }

    fn take(
        &mut self,
        header: &BatchHeader<'_>,
        from: &Member,
        source: Option<SourceId>,
        envelope: Envelope<'_>,
    ) {
        match envelope {
            Envelope::Send { answer, user, text, aside } => {
                let stamp = aside.probe.map(|probe| self.stamp(from, probe));
                let (frame, stream) = (Frame::text(text.as_bytes()).stamped(stamp), header.stream);
                let traced = traced(&aside, "send", Some(user));
                match (answer, source) {
                    (Answer::Return { sender, tries }, Some(source)) if stream != Stream::Broadcast => {
                        let origin = Origin { source, sender: ConnId::from_u64(sender), tries };
                        let home = self.shared.homes.of(user);
                        self.post(home, ReactorMessage::Deliver { user: user.into(), frame, origin });
                    }
                    (Answer::Ack(id), _) => {
                        self.route(from, Some((id, traced)), user, Action::Deliver(frame), stream);
                    }
                    _ => self.route(from, None, user, Action::Deliver(frame), stream),
                }
            }
            Envelope::Returned { sender, tries, user, text } => {
                let (user, frame) = (user.into(), Frame::text(text.as_bytes()));
                let sender = ConnId::from_u64(sender);
                let stray = Stray { user, frame, sender, tries };
                self.tell_publisher(ClusterMessage::Returned { from: source, stray });
            }
            Envelope::Probed { probe, held_micros, stayed_micros } => {
                self.time_delivery(probe, held_micros, stayed_micros);
            }
            Envelope::Kick { id, user, reason, farewell, aside } => {
                let kick = Kick { reason: reason.to_owned(), farewell: farewell.map(str::to_owned) };
                let wanted = Some((id, traced(&aside, "kick", Some(user))));
                self.route(from, wanted, user, Action::Kick(Arc::new(kick)), header.stream);
            }
            Envelope::Locate { id, user } => {
                self.route(from, Some((id, None)), user, Action::Locate, header.stream);
            }
            Envelope::Broadcast { id, text, wants_result, aside } => {
                let wanted = wants_result.then(|| (id, traced(&aside, "broadcast", None)));
                let ticket = self.ticket(from, wanted, Until::Heard);
                let frame = Frame::text(text.as_bytes());
                for reactor in 0..self.shared.mailboxes.len() {
                    let (frame, reply) = (frame.clone(), ReplyTo::Cluster { ticket });
                    self.post(ReactorId(reactor as u8), ReactorMessage::Broadcast { frame, reply });
                }
            }
            Envelope::Ack { id, connections, audience, unconfirmed } => {
                let connections =
                    connections.into_iter().map(|(id, outcome)| (ConnId::from_u64(id), outcome)).collect();
                self.tell(Heard::Acked {
                    from: from.clone(),
                    id,
                    connections,
                    audience,
                    unconfirmed: unconfirmed.into(),
                });
            }
            Envelope::Elsewhere { user, elsewhere } => {
                let home = self.shared.homes.of(user);
                self.post(home, ReactorMessage::Elsewhere { user: user.into(), elsewhere });
            }
            Envelope::Begin { number } => {
                self.incoming.begin(header, number, Instant::now(), &mut self.events);
            }
            Envelope::Forget { user } => self.tell(Heard::Forget(user.into())),
            Envelope::Resend { stream, from: first, to: last } => {
                self.tell(Heard::Resend { from: from.clone(), stream, first, last });
            }
            Envelope::Lost { stream, from, to } => {
                self.incoming.give_up(header, stream, (from, to), Instant::now(), &mut self.events);
            }
        }
    }

    fn route(&mut self, from: &Member, wanted: Wanted, user: &str, action: Action, stream: Stream) {
        let anonymous = self.shared.homes.anonymous_connection(user);
        // A request to all nodes is about an anonymous user, whom one of them knows.
        let concerned = stream != Stream::Broadcast || anonymous.is_some();
        if !concerned {
            if let Some(ticket) = self.ticket(from, wanted.map(|(id, _)| (id, None)), Until::Located) {
                let connections = Vec::new();
                let report = crate::hub::gather::Report::Located { connections, elsewhere: false };
                self.tell_publisher(ClusterMessage::Report { ticket, report });
            }
            return;
        }
        let home = anonymous.map_or_else(|| self.shared.homes.of(user), |connection| connection.reactor());
        let until = match action {
            Action::Locate => Until::Located,
            Action::Deliver(_) | Action::Kick(_) => Until::Done,
        };
        let reply = ReplyTo::Cluster { ticket: self.ticket(from, wanted, until) };
        self.post(home, ReactorMessage::Route { user: user.into(), action, reply });
    }

    /// Names a request to the reactors, if its node wants to know what comes of it.
    fn ticket(&mut self, from: &Member, wanted: Wanted, until: Until) -> Option<u64> {
        let (id, traced) = wanted?;
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.tell(Heard::Asked { ticket, from: from.clone(), id, until, traced });
        Some(ticket)
    }

    fn tell_events(&mut self) {
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Ask(missing) => self.tell(Heard::Missing(missing)),
                Event::Lost(missing) => {
                    let count = missing.to.saturating_sub(missing.from).saturating_add(1);
                    self.shared.metrics.node().add(Counter::ClusterEnvelopesLost, count);
                    log::warn!("{count} envelopes from node {} are lost", missing.source);
                }
            }
        }
    }

    fn tell(&self, heard: Heard) {
        self.tell_publisher(ClusterMessage::Heard(heard));
    }

    /// The publisher always takes its mail, so this waits for a round trip at most.
    fn tell_publisher(&self, message: ClusterMessage) {
        let mut message = message;
        while let Err(full) = self.publisher.post(message) {
            if self.stopped() {
                return;
            }
            message = full.0;
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Posts to a reactor; one that is busy for long loses the message, which is counted.
    fn post(&self, reactor: ReactorId, message: ReactorMessage) {
        let Some(mailbox) = self.shared.mailbox(reactor) else { return };
        let deadline = Instant::now() + PATIENCE;
        let mut message = message;
        while let Err(full) = mailbox.post(message) {
            if self.stopped() || Instant::now() > deadline {
                return self.shared.metrics.node().add(Counter::DroppedMailboxFull, 1);
            }
            message = full.0;
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}
