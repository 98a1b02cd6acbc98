//! Where a message for another node goes, and what its sender is told.
//!
//! Owns [`Router`]: the requests that are under way, in both directions, the
//! streams to other nodes, and what was lately learnt about where users are.
//! Pure: it is told what reactors and nodes say and what Redis found, and hands
//! out batches to publish and reports to pass on. One router serves one
//! incarnation; when the link breaks it is asked for its unanswered requests
//! and thrown away.

mod cache;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::Until;
use super::registry::Member;
use super::streams::{Missing, Outgoing};
use super::wire::{BatchWriter, Envelope, Refused, Stream};
use crate::delivery::Outcome;
use crate::hub::ANONYMOUS;
use crate::hub::gather::{Gather, RemoteAnswer, RemoteNode, Report};
use crate::ids::ConnId;
use crate::limits::STREAM_ABSENCE;
use crate::reactor::message::{Action, ReplyTo};
use crate::ws::frame::Frame;
use cache::Cache;

/// How long other nodes have to answer; shorter than what callers wait.
const ANSWER_TIME: Duration = Duration::from_secs(4);

/// How long our reactors have to answer a request of another node; shorter than that node waits.
const REPORT_TIME: Duration = Duration::from_secs(3);

/// Waits before a user who was not where the directory said is looked up
/// again, and then once more.
const RETRY_AFTER: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

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
}

/// A request of ours that other nodes have not all answered.
struct Ask {
    reply: ReplyTo,
    waiting: Vec<String>,
    answers: Vec<RemoteNode>,
    deadline: Instant,
    /// For trying again elsewhere; `None` for a broadcast.
    errand: Option<(Box<str>, Action)>,
    tries: usize,
}

/// A request of another node that our reactors have not all answered.
struct Theirs {
    from: Member,
    id: u64,
    gather: Gather,
    until: Until,
    deadline: Instant,
}

/// Something to be done to a user whose nodes have to be looked up.
struct Lookup {
    user: Box<str>,
    action: Action,
    reply: ReplyTo,
    tries: usize,
    due: Instant,
}

/// A stream of ours, with what is to go into its next batch.
struct Lane {
    incarnation: u64,
    /// Since when its node has not been among the living.
    absent_since: Option<Instant>,
    outgoing: Outgoing,
    writer: BatchWriter,
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
    bounds: Bounds,
    lanes: HashMap<String, Lane>,
    all: Lane,
    /// The other nodes that are alive.
    others: Vec<Member>,
    cache: Cache,
    asks: BTreeMap<u64, Ask>,
    theirs: BTreeMap<u64, Theirs>,
    lookups: Vec<Lookup>,
    next_id: u64,
    effects: Vec<Effect>,
}

impl Router {
    /// A router for one incarnation of a node.
    ///
    /// # Errors
    /// A node id that no batch can carry.
    pub fn new(me: Member, bounds: Bounds) -> Result<Self, super::wire::WireError> {
        let all = Lane::new(&me, Stream::Broadcast, 0, bounds.ring_bytes)?;
        let cache = Cache::new(bounds.cache_users, bounds.cache_time);
        Ok(Router {
            me,
            bounds,
            lanes: HashMap::new(),
            all,
            others: Vec::new(),
            cache,
            asks: BTreeMap::new(),
            theirs: BTreeMap::new(),
            lookups: Vec::new(),
            next_id: 1,
            effects: Vec::new(),
        })
    }

    /// The nodes that are alive now, this one left out.
    pub fn set_others(&mut self, others: Vec<Member>, now: Instant) {
        self.lanes.retain(|node, lane| lane.is_kept(others.iter().find(|other| other.node == *node), now));
        let gone = |node: &String| !others.iter().any(|other| other.node == *node);
        for ask in self.asks.values_mut() {
            for node in ask.waiting.extract_if(.., |node| gone(node)) {
                ask.answers.push(RemoteNode::unavailable(&node));
            }
        }
        let former = std::mem::replace(&mut self.others, others);
        for newcomer in self.others.clone().iter().filter(|other| !former.contains(other)) {
            // What is to be broadcast next is for it too, and may stand in a batch already.
            let begin = Envelope::Begin { number: self.all.outgoing.next() };
            self.append(Channel::Node(newcomer.node.clone()), newcomer.incarnation, &begin, now);
        }
        self.settle_asks();
    }

    /// The nodes that were alive when last asked.
    pub fn others(&self) -> &[Member] {
        &self.others
    }

    /// Something is to be done to a user's connections on other nodes.
    pub fn act(&mut self, user: Box<str>, action: Action, reply: ReplyTo, now: Instant) {
        if user.starts_with(ANONYMOUS) {
            // Only the node that gave the id knows it.
            return self.act_on_all(user, action, reply, now);
        }
        match self.cache.nodes(&user, now) {
            Some(nodes) => self.dispatch(user, action, reply, &nodes, 0, now),
            None => self.lookups.push(Lookup { user, action, reply, tries: 0, due: now }),
        }
    }

    /// A frame is for every connection of the other nodes.
    pub fn broadcast(&mut self, frame: &Frame, reply: ReplyTo, now: Instant) {
        let Ok(text) = std::str::from_utf8(frame.payload()) else { return };
        let (id, wants_result) = (self.take_id(), reply.wants_reports());
        let sent = self.append(Channel::All, 0, &Envelope::Broadcast { id, text, wants_result }, now);
        if wants_result {
            let waiting = if sent { self.other_ids() } else { Vec::new() };
            self.wait_for_all(id, reply, waiting, now);
        }
    }

    fn act_on_all(&mut self, user: Box<str>, action: Action, reply: ReplyTo, now: Instant) {
        let id = self.take_id();
        let sent = self.append_action(Channel::All, 0, id, &user, &action, reply.wants_reports(), now);
        if reply.wants_reports() {
            let waiting = if sent { self.other_ids() } else { Vec::new() };
            self.wait_for_all(id, reply, waiting, now);
        }
    }

    /// Users that have to be looked up now.
    pub fn wanted(&self, now: Instant) -> Vec<Box<str>> {
        let due = self.lookups.iter().filter(|lookup| lookup.due <= now);
        due.map(|lookup| &lookup.user).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// What was found for `users`, which [`Router::wanted`] returned at the same `now`.
    pub fn found(&mut self, users: &[Box<str>], rows: Vec<Vec<Member>>, now: Instant) {
        let me = self.me.node.clone();
        let others = |row: Vec<Member>| row.into_iter().filter(|member| member.node != me).collect();
        let rows: HashMap<&str, Vec<Member>> =
            users.iter().map(|user| &**user).zip(rows.into_iter().map(others)).collect();
        for (user, row) in &rows {
            if !row.is_empty() {
                self.cache.insert(user, row.clone(), now);
            }
        }
        let due: Vec<Lookup> = self.lookups.extract_if(.., |lookup| lookup.due <= now).collect();
        for lookup in due {
            let nodes = rows.get(&*lookup.user).map_or(&[][..], |row| row);
            self.dispatch(lookup.user, lookup.action, lookup.reply, nodes, lookup.tries, now);
        }
    }

    fn dispatch(
        &mut self,
        user: Box<str>,
        action: Action,
        reply: ReplyTo,
        nodes: &[Member],
        tries: usize,
        now: Instant,
    ) {
        if nodes.is_empty() {
            return self.nobody(user, reply);
        }
        let (id, wants_result) = (self.take_id(), reply.wants_reports());
        let (mut waiting, mut answers) = (Vec::new(), Vec::new());
        for node in nodes {
            let channel = Channel::Node(node.node.clone());
            let incarnation = self.latest(node);
            let sent = self.append_action(channel, incarnation, id, &user, &action, wants_result, now);
            match (wants_result, sent) {
                (false, _) => {}
                (true, true) => waiting.push(node.node.clone()),
                (true, false) => answers.push(RemoteNode::unavailable(&node.node)),
            }
        }
        if wants_result {
            let deadline = now + ANSWER_TIME;
            let errand = Some((user, action));
            self.asks.insert(id, Ask { reply, waiting, answers, deadline, errand, tries });
            self.settle_ask(id, now);
        }
    }

    fn nobody(&mut self, user: Box<str>, reply: ReplyTo) {
        match reply {
            ReplyTo::Client(sender) => self.effects.push(Effect::Undelivered(sender, user)),
            reply if reply.wants_reports() => {
                self.effects.push(Effect::Report(reply, Report::Remote(Vec::new())));
            }
            _ => {}
        }
    }

    fn wait_for_all(&mut self, id: u64, reply: ReplyTo, waiting: Vec<String>, now: Instant) {
        let deadline = now + ANSWER_TIME;
        self.asks.insert(id, Ask { reply, waiting, answers: Vec::new(), deadline, errand: None, tries: 0 });
        self.settle_ask(id, now);
    }

    /// The incarnation to address: what was remembered of a user may name one
    /// that a newer one has followed.
    fn latest(&self, member: &Member) -> u64 {
        let living = self.others.iter().filter(|other| other.node == member.node);
        living.map(|other| other.incarnation).fold(member.incarnation, u64::max)
    }

    /// Nobody listens on a node's channel: who waits for its answer is told so.
    /// Should the node only be subscribing anew, it will ask for what it missed.
    pub fn unheard(&mut self, node: &str) {
        for ask in self.asks.values_mut() {
            let silent = ask.waiting.extract_if(.., |waiting| waiting == node);
            ask.answers.extend(silent.map(|node| RemoteNode::unavailable(&node)));
        }
        self.settle_asks();
    }

    /// A node answered a request of ours.
    pub fn acked(&mut self, from: &Member, id: u64, answer: RemoteAnswer, now: Instant) {
        let Some(ask) = self.asks.get_mut(&id) else { return };
        let Some(place) = ask.waiting.iter().position(|node| *node == from.node) else { return };
        let node = ask.waiting.swap_remove(place);
        ask.answers.push(RemoteNode { node, answer });
        self.settle_ask(id, now);
    }

    /// Closes a request whose answers are complete; one for a user who was
    /// nowhere where the directory said is tried again after a new lookup.
    fn settle_ask(&mut self, id: u64, now: Instant) {
        let Some(ask) = self.asks.get(&id) else { return };
        if !ask.waiting.is_empty() {
            return;
        }
        let Some(mut ask) = self.asks.remove(&id) else { return };
        let missed = ask.answers.iter().all(RemoteNode::has_nobody);
        if let (Some((user, action)), true, Some(wait)) =
            (ask.errand.take(), missed, RETRY_AFTER.get(ask.tries))
        {
            self.cache.remove(&user);
            let due = now + *wait;
            return self.lookups.push(Lookup { user, action, reply: ask.reply, tries: ask.tries + 1, due });
        }
        self.close(ask);
    }

    fn settle_asks(&mut self) {
        let complete: Vec<u64> =
            self.asks.iter().filter(|(_, ask)| ask.waiting.is_empty()).map(|(id, _)| *id).collect();
        for id in complete {
            if let Some(ask) = self.asks.remove(&id) {
                self.close(ask);
            }
        }
    }

    fn close(&mut self, ask: Ask) {
        self.effects.push(Effect::Report(ask.reply, Report::Remote(ask.answers)));
    }

    /// A node asked our reactors for something, under this ticket.
    pub fn asked(&mut self, ticket: u64, from: Member, id: u64, until: Until, now: Instant) {
        let deadline = now + REPORT_TIME;
        self.theirs.insert(ticket, Theirs { from, id, gather: Gather::default(), until, deadline });
    }

    /// A reactor answered a request of another node.
    pub fn reported(&mut self, ticket: u64, report: Report, now: Instant) {
        let Some(theirs) = self.theirs.get_mut(&ticket) else { return };
        theirs.gather.absorb(report);
        let complete = match theirs.until {
            Until::Located => theirs.gather.is_located(),
            Until::Done => theirs.gather.is_complete(),
            Until::Heard => theirs.gather.is_heard(self.bounds.reactors),
        };
        if complete && let Some(theirs) = self.theirs.remove(&ticket) {
            self.answer(&theirs, now);
        }
    }

    fn answer(&mut self, theirs: &Theirs, now: Instant) {
        let (connections, audience, unconfirmed) = theirs.gather.answer(match theirs.until {
            Until::Heard => self.bounds.reactors,
            Until::Located | Until::Done => 0,
        });
        let connections = connections.into_iter().map(|(id, outcome)| (id.as_u64(), outcome)).collect();
        let ack = Envelope::Ack { id: theirs.id, connections, audience, unconfirmed };
        self.append(Channel::Node(theirs.from.node.clone()), theirs.from.incarnation, &ack, now);
    }

    /// Tells a node whether a user is on other nodes than itself.
    pub fn tell_elsewhere(&mut self, node: &Member, user: &str, elsewhere: bool, now: Instant) {
        let channel = Channel::Node(node.node.clone());
        self.append(channel, node.incarnation, &Envelope::Elsewhere { user, elsewhere }, now);
    }

    /// Tells all nodes that what they remember of where a user is is outdated.
    pub fn tell_forget(&mut self, user: &str, now: Instant) {
        self.cache.remove(user);
        self.append(Channel::All, 0, &Envelope::Forget { user }, now);
    }

    /// What is remembered of where a user is is outdated.
    pub fn forget(&mut self, user: &str) {
        self.cache.remove(user);
    }

    /// Asks a node for what did not come.
    pub fn ask_for(&mut self, missing: &Missing, now: Instant) {
        let resend = Envelope::Resend { stream: missing.stream, from: missing.from, to: missing.to };
        self.append(Channel::Node(missing.source.to_string()), missing.incarnation, &resend, now);
    }

    /// A node asks for numbers of a stream of ours.
    pub fn resend(&mut self, from: &Member, stream: Stream, first: u64, last: u64, now: Instant) {
        let lane = match stream {
            Stream::Broadcast => Some(&self.all),
            Stream::To(incarnation) => {
                self.lanes.get(&from.node).filter(|lane| lane.incarnation == incarnation)
            }
        };
        let Some(lane) = lane else { return };
        let repair = lane.outgoing.resend(first, last);
        let standing = lane.baseline(&self.me, stream);
        let channel = Channel::Node(from.node.clone());
        for batch in repair.batches {
            self.effects.push(Effect::Publish(channel.clone(), batch));
        }
        self.effects.extend(standing.map(|batch| Effect::Publish(channel.clone(), batch)));
        if let Some((first, last)) = repair.lost {
            let lost = Envelope::Lost { stream, from: first, to: last };
            self.append(channel, from.incarnation, &lost, now);
        }
    }

    /// Seals what was appended and takes out all there is to do.
    pub fn take_effects(&mut self, now: Instant) -> Vec<Effect> {
        for (node, lane) in &mut self.lanes {
            if lane.outgoing.poll(now) || !lane.writer.is_empty() {
                self.effects.push(lane.seal(Channel::Node(node.clone()), now));
            }
        }
        if self.all.outgoing.poll(now) || !self.all.writer.is_empty() {
            self.effects.push(self.all.seal(Channel::All, now));
        }
        std::mem::take(&mut self.effects)
    }

    /// Answers what has waited too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = |ask: &Ask| ask.deadline <= now;
        let ids: Vec<u64> = self.asks.iter().filter(|(_, ask)| late(ask)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(mut ask) = self.asks.remove(&id) else { continue };
            let silent = ask.waiting.drain(..);
            ask.answers.extend(silent.map(|node| RemoteNode { node, answer: RemoteAnswer::TimedOut }));
            self.close(ask);
        }
        let due: Vec<u64> = self
            .theirs
            .iter()
            .filter(|(_, theirs)| theirs.deadline <= now)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in due {
            if let Some(theirs) = self.theirs.remove(&ticket) {
                self.answer(&theirs, now);
            }
        }
    }

    /// When [`Router::handle_timeout`], [`Router::wanted`] or [`Router::take_effects`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        // Requests of one kind wait equally long, so the oldest is due first.
        let asks = self.asks.values().next().map(|ask| ask.deadline);
        let theirs = self.theirs.values().next().map(|theirs| theirs.deadline);
        let lookups = self.lookups.iter().map(|lookup| lookup.due).min();
        let streams =
            self.lanes.values().chain([&self.all]).filter_map(|lane| lane.outgoing.deadline()).min();
        [asks, theirs, lookups, streams].into_iter().flatten().min()
    }

    /// The link broke: everybody who waits is told so.
    pub fn give_up(mut self) -> Vec<Effect> {
        for (_, mut ask) in std::mem::take(&mut self.asks) {
            let silent = ask.waiting.drain(..);
            ask.answers.extend(silent.map(|node| RemoteNode::unavailable(&node)));
            self.close(ask);
        }
        for lookup in std::mem::take(&mut self.lookups) {
            self.effects.push(unavailable(lookup.reply));
        }
        self.effects.retain(|effect| !matches!(effect, Effect::Publish(..)));
        self.effects
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn other_ids(&self) -> Vec<String> {
        self.others.iter().map(|other| other.node.clone()).collect()
    }

    #[allow(clippy::too_many_arguments, reason = "one envelope's fields and where it goes")]
    fn append_action(
        &mut self,
        channel: Channel,
        incarnation: u64,
        id: u64,
        user: &str,
        action: &Action,
        wants_result: bool,
        now: Instant,
    ) -> bool {
        let envelope = match action {
            Action::Deliver(frame) => {
                let Ok(text) = std::str::from_utf8(frame.payload()) else { return false };
                Envelope::Send { id, user, text, wants_result }
            }
            Action::Kick(kick) => {
                Envelope::Kick { id, user, reason: &kick.reason, farewell: kick.farewell.as_deref() }
            }
            Action::Locate => Envelope::Locate { id, user },
        };
        self.append(channel, incarnation, &envelope, now)
    }

    /// Adds an envelope to the next batch of a stream; false for one no batch can carry.
    fn append(&mut self, channel: Channel, incarnation: u64, envelope: &Envelope<'_>, now: Instant) -> bool {
        let lane = match &channel {
            Channel::All => &mut self.all,
            Channel::Node(node) => {
                let outdated = self.lanes.get(node).is_some_and(|lane| lane.incarnation < incarnation);
                if outdated {
                    self.lanes.remove(node);
                }
                if !self.lanes.contains_key(node) {
                    let stream = Stream::To(incarnation);
                    let Ok(lane) = Lane::new(&self.me, stream, incarnation, self.bounds.ring_bytes) else {
                        return false;
                    };
                    self.lanes.insert(node.clone(), lane);
                }
                let Some(lane) = self.lanes.get_mut(node) else { return false };
                lane
            }
        };
        match lane.writer.append(envelope) {
            Ok(()) => true,
            Err(Refused::TooBig) => false,
            Err(Refused::Full) => {
                let sealed = lane.seal(channel, now);
                let fits = lane.writer.append(envelope).is_ok();
                self.effects.push(sealed);
                fits
            }
        }
    }
}

/// What to tell who asked while there is no link.
pub fn unavailable(reply: ReplyTo) -> Effect {
    match reply {
        ReplyTo::Client(sender) => Effect::Unreachable(sender),
        reply => Effect::Report(reply, Report::Remote(vec![RemoteNode::all_unavailable()])),
    }
}

impl Lane {
    fn new(
        me: &Member,
        stream: Stream,
        incarnation: u64,
        ring_bytes: usize,
    ) -> Result<Self, super::wire::WireError> {
        let writer = BatchWriter::new(&me.node, me.incarnation, stream)?;
        Ok(Lane { incarnation, absent_since: None, outgoing: Outgoing::new(ring_bytes), writer })
    }

    /// Whether the stream goes on, given which incarnation of its node lives.
    /// A node that was only late with its beat comes back as the one it was.
    fn is_kept(&mut self, living: Option<&Member>, now: Instant) -> bool {
        match living {
            Some(member) => {
                self.absent_since = None;
                member.incarnation <= self.incarnation
            }
            None => now < *self.absent_since.get_or_insert(now) + STREAM_ABSENCE,
        }
    }

    /// A batch of nothing, which tells where the stream stands.
    fn baseline(&self, me: &Member, stream: Stream) -> Option<Bytes> {
        let mut writer = BatchWriter::new(&me.node, me.incarnation, stream).ok()?;
        Some(writer.seal(self.outgoing.next()))
    }

    fn seal(&mut self, channel: Channel, now: Instant) -> Effect {
        let count = self.writer.count();
        let batch = self.writer.seal(self.outgoing.next());
        self.outgoing.sent(&batch, count, now);
        Effect::Publish(channel, batch)
    }
}

impl RemoteNode {
    /// Whether the node answered that the user has no connection there that took it.
    fn has_nobody(&self) -> bool {
        match &self.answer {
            RemoteAnswer::Said { connections, .. } => {
                connections.iter().all(|(_, outcome)| *outcome == Outcome::Gone)
            }
            RemoteAnswer::TimedOut | RemoteAnswer::Unavailable => false,
        }
    }
}
