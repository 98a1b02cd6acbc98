//! Where a message for another node goes, and what its sender is told.
//!
//! Owns [`Router`]: the requests that are under way, in both directions, the
//! streams to other nodes, and what was lately learnt about where users are.
//! Pure: it is told what reactors and nodes say and what Redis found, and hands
//! out batches to publish and reports to pass on. One router serves one
//! incarnation; when the link breaks it is asked for its unanswered requests
//! and thrown away.

mod asks;
mod cache;
mod copies;
mod dispatch;
mod lanes;
mod lookups;
mod probes;
#[cfg(test)]
mod tests;
mod theirs;
mod unheard;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::{Traced, Until};
use super::registry::Member;
use super::streams::Missing;
use super::wire::{Aside, Envelope, Stream, WireError};
use crate::delivery::Outcome;
use crate::hub::gather::{RemoteAnswer, RemoteNode, Report};
use crate::ids::ConnId;
use crate::reactor::message::{Origin, ReplyTo};
use crate::ws::frame::Frame;
use asks::{Ask, Asks};
use cache::Cache;
use copies::Copies;
use lanes::Lanes;
use lookups::Lookups;
use probes::Probes;
use theirs::{Request, Theirs};

/// Where a batch is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// On the channel of one node.
    Node(String),
    /// On the channel of all.
    All,
}

/// What the router wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Publish this.
    Publish(Channel, Bytes),
    /// Tell whoever asked.
    Report(ReplyTo, Report),
    /// The user of a client's message is not there.
    Undelivered(ConnId, Box<str>),
    /// The client's message could not be passed on.
    Unreachable(ConnId),
    /// A request of this node that belongs to a trace was answered: what
    /// became of the user's connections, or for how many connections it was queued.
    Answered(String, Box<Traced>, Vec<(u64, Outcome)>, u64),
    /// The user of a client's message has come to this node. With an origin, it
    /// goes back if no connection takes it.
    Deliver(Box<str>, Frame, Option<Origin>),
}

/// What bounds a router.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Users whose nodes are remembered.
    pub cache_users: usize,
    /// How long they are.
    pub cache_time: Duration,
    /// Bytes kept of each stream, to be sent again.
    pub ring_bytes: usize,
    /// Reactors of this node.
    pub reactors: usize,
}

/// See the module.
pub struct Router {
    me: Member,
    lanes: Lanes,
    /// The other nodes that are alive.
    others: Vec<Member>,
    cache: Cache,
    asks: Asks,
    theirs: Theirs,
    lookups: Lookups,
    copies: Copies,
    probes: Probes,
    /// All but what is to be published.
    effects: Vec<Effect>,
}

impl Router {
    /// A router for one incarnation of a node that started at `started`.
    ///
    /// # Errors
    /// A node id that no batch can carry.
    pub fn new(me: Member, bounds: Bounds, started: Instant) -> Result<Self, WireError> {
        Ok(Router {
            lanes: Lanes::new(me.clone(), bounds.ring_bytes)?,
            me,
            others: Vec::new(),
            cache: Cache::new(bounds.cache_users, bounds.cache_time),
            asks: Asks::new(),
            theirs: Theirs::new(bounds.reactors),
            lookups: Lookups::default(),
            copies: Copies::default(),
            probes: Probes::new(started),
            effects: Vec::new(),
        })
    }

    /// The nodes that are alive now, this one left out.
    pub fn set_others(&mut self, others: Vec<Member>, now: Instant) {
        self.lanes.retain(&others, now);
        let settled = self.asks.give_up(|node| !others.iter().any(|other| other.node == node));
        self.close_all(settled);
        let former = std::mem::replace(&mut self.others, others);
        if former.iter().any(|member| !self.others.contains(member)) {
            self.cache.retain(|member| {
                let lives =
                    |other: &Member| other.node == member.node && other.incarnation <= member.incarnation;
                self.others.iter().any(lives)
            });
        }
        for newcomer in self.others.iter().filter(|other| !former.contains(other)) {
            // What is to be broadcast next is for it too, and may stand in a batch already.
            let begin = Envelope::Begin { number: self.lanes.next_to_all() };
            self.lanes.queue_for(&newcomer.node, newcomer.incarnation, &begin, now);
        }
    }

    /// The nodes that were alive when last asked.
    pub fn others(&self) -> &[Member] {
        &self.others
    }

    /// A frame is for every connection of the other nodes.
    pub fn broadcast(&mut self, frame: &Frame, reply: ReplyTo, now: Instant) {
        let Ok(text) = std::str::from_utf8(frame.payload()) else { return };
        let (id, wants_result) = (self.asks.take_id(), reply.wants_reports());
        let aside = Aside { probe: None, trace: reply.trace() };
        let sent = self.lanes.queue_for_all(&Envelope::Broadcast { id, text, wants_result, aside }, now);
        self.wait_for_all(id, reply, sent, now);
    }

    /// Users that have to be looked up now.
    pub fn wanted(&self, now: Instant) -> Vec<Box<str>> {
        self.lookups.wanted(now)
    }

    /// Waits for the answers of all nodes to what was `sent`, if they are wanted.
    fn wait_for_all(&mut self, id: u64, reply: ReplyTo, sent: bool, now: Instant) {
        if reply.wants_reports() {
            let waiting =
                if sent { self.others.iter().map(|other| other.node.clone()).collect() } else { Vec::new() };
            self.wait(id, Ask { reply, waiting, answers: Vec::new(), errand: None, tries: 0 }, now);
        }
    }

    fn wait(&mut self, id: u64, ask: Ask, now: Instant) {
        if let Some(settled) = self.asks.wait(id, ask, now) {
            self.settle(settled, now);
        }
    }

    /// A node answered a request of ours.
    pub fn acked(&mut self, from: &Member, id: u64, answer: RemoteAnswer, now: Instant) {
        if let Some(settled) = self.asks.acked(from, id, answer) {
            self.settle(settled, now);
        }
    }

    fn close(&mut self, ask: Ask) {
        let (reply, report) = ask.into_report();
        self.effects.push(Effect::Report(reply, report));
    }

    fn close_all(&mut self, asks: Vec<Ask>) {
        asks.into_iter().for_each(|ask| self.close(ask));
    }

    /// A node asked our reactors for something, under this ticket.
    pub fn asked(
        &mut self,
        ticket: u64,
        asked: (Member, u64),
        until: Until,
        traced: Option<Box<Traced>>,
        now: Instant,
    ) {
        self.theirs.asked(ticket, asked, until, traced, now);
    }

    /// A reactor answered a request of another node.
    pub fn reported(&mut self, ticket: u64, report: Report, now: Instant) {
        if let Some(request) = self.theirs.reported(ticket, report) {
            self.answer(request, now);
        }
    }

    fn answer(&mut self, request: Request, now: Instant) {
        let ack = self.theirs.answer(&request);
        self.lanes.queue_for(&request.from.node, request.from.incarnation, &ack, now);
        if let (Some(traced), Envelope::Ack { connections, audience, .. }) = (request.traced, ack) {
            self.effects.push(Effect::Answered(request.from.node, traced, connections, audience));
        }
    }

    /// Tells a node whether a user is on other nodes than itself.
    pub fn tell_elsewhere(&mut self, node: &Member, user: &str, elsewhere: bool, now: Instant) {
        self.lanes.queue_for(&node.node, node.incarnation, &Envelope::Elsewhere { user, elsewhere }, now);
    }

    /// Tells all nodes that what they remember of where a user is is outdated.
    pub fn tell_forget(&mut self, user: &str, now: Instant) {
        self.cache.remove(user);
        self.lanes.queue_for_all(&Envelope::Forget { user }, now);
    }

    /// What is remembered of where a user is is outdated.
    pub fn forget(&mut self, user: &str) {
        self.cache.remove(user);
    }

    /// Asks a node for what did not come.
    pub fn ask_for(&mut self, missing: &Missing, now: Instant) {
        let resend = Envelope::Resend { stream: missing.stream, from: missing.from, to: missing.to };
        self.lanes.queue_for(&missing.source, missing.incarnation, &resend, now);
    }

    /// A node asks for numbers of a stream of ours.
    pub fn resend(&mut self, from: &Member, stream: Stream, first: u64, last: u64, now: Instant) {
        self.lanes.unheard.clear(&from.node);
        self.lanes.resend(from, stream, first, last, now);
    }

    /// Seals what was appended and takes out all there is to do.
    pub fn take_effects(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        effects
            .extend(self.lanes.take(now).into_iter().map(|(channel, batch)| Effect::Publish(channel, batch)));
        effects
    }

    /// Answers what has waited too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = self.asks.late(now);
        self.close_all(late);
        for request in self.theirs.late(now) {
            self.answer(request, now);
        }
        self.copies.handle_timeout(now);
    }

    /// When [`Router::handle_timeout`], [`Router::take_back`], [`Router::wanted`] or [`Router::take_effects`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let due = [
            self.asks.deadline(),
            self.theirs.deadline(),
            self.lookups.deadline(),
            self.lanes.deadline(),
            self.copies.deadline(),
        ];
        due.into_iter().flatten().min()
    }

    /// The link broke: everybody who waits is told so.
    pub fn give_up(mut self) -> Vec<Effect> {
        let settled = self.asks.give_up(|_| true);
        self.close_all(settled);
        self.give_up_unheard();
        self.effects.extend(self.lookups.take_all().into_iter().map(|lookup| unavailable(lookup.reply)));
        self.effects
    }
}

/// What to tell who asked while there is no link.
pub fn unavailable(reply: ReplyTo) -> Effect {
    match reply {
        ReplyTo::Client(sender) => Effect::Unreachable(sender),
        reply => Effect::Report(reply, Report::Remote(vec![RemoteNode::all_unavailable()])),
    }
}
