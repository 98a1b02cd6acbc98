//! What is to be done to a user: found out where the user is, and sent there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::asks::Ask;
use super::copies::Attempt;
use super::lookups::Lookup;
use super::{Effect, Router};
use crate::cluster::message::Stray;
use crate::cluster::registry::Member;
use crate::cluster::sources::SourceId;
use crate::cluster::wire::{Answer, Aside, Envelope};
use crate::hub::ANONYMOUS;
use crate::hub::gather::{RemoteNode, Report};
use crate::reactor::message::{Action, Origin, ReplyTo};

/// Waits before a user who was not where the directory said is looked up
/// again, and then once more.
pub(super) const RETRY_AFTER: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

impl Router {
    /// Something is to be done to a user's connections on other nodes. With
    /// [`ReplyTo::Client`] the user has none on this one.
    pub fn act(&mut self, user: Box<str>, action: Action, reply: ReplyTo, now: Instant) {
        if user.starts_with(ANONYMOUS) {
            // Only the node that gave the id knows it.
            return self.act_on_all(&user, &action, reply, now);
        }
        let lookup = Lookup { user, action, reply, tries: 0, due: now };
        match self.cache.nodes(&lookup.user, now) {
            Some(nodes) => self.dispatch(lookup, &nodes, now),
            None => self.look_up(lookup),
        }
    }

    fn act_on_all(&mut self, user: &str, action: &Action, reply: ReplyTo, now: Instant) {
        let id = self.asks.take_id();
        let answer = if reply.wants_reports() { Answer::Ack(id) } else { Answer::Nothing };
        let aside = Aside { probe: None, trace: reply.trace() };
        let envelope = envelope(id, user, action, answer, aside);
        let sent = envelope.is_some_and(|envelope| self.lanes.queue_for_all(&envelope, now));
        self.wait_for_all(id, reply, sent, now);
    }

    /// A client's message came back from a node, which may be this one or not be known: if it
    /// came back from all it was sent to, its user is looked up again, a few times.
    pub fn returned(&mut self, node: Option<&str>, stray: Stray, now: Instant) {
        self.cache.remove(&stray.user);
        if !self.copies.came_back(node, &stray, now) {
            return;
        }
        let Stray { user, frame, sender, tries } = stray;
        let (tries, reply) = (Attempt::unpack(tries).tries, ReplyTo::Client(sender));
        let Some(wait) = RETRY_AFTER.get(tries) else { return self.nobody(user, reply) };
        let (action, due) = (Action::Deliver(frame), now + *wait);
        self.look_up(Lookup { user, action, reply, tries: tries + 1, due });
    }

    /// No connection here took a client's message of another node, which is to
    /// look for the user elsewhere. A later life of it would not know the client.
    pub fn give_back(&mut self, source: &Member, stray: &Stray, now: Instant) {
        let Ok(text) = std::str::from_utf8(stray.frame.payload()) else { return };
        let lane = self.lanes.incarnation(&source.node).unwrap_or(source.incarnation);
        if self.latest(source).max(lane) > source.incarnation {
            return;
        }
        let Stray { user, sender, tries, .. } = stray;
        let returned = Envelope::Returned { sender: sender.as_u64(), tries: *tries, user, text };
        self.lanes.queue_for(&source.node, source.incarnation, &returned, now);
    }

    /// Has a user looked up; when too much waits for that already, the user counts as offline.
    fn look_up(&mut self, lookup: Lookup) {
        if let Err(lookup) = self.lookups.push(lookup) {
            self.nobody(lookup.user, lookup.reply);
        }
    }

    /// What was found by `now` for `users`, which [`Router::wanted`] returned at `asked`.
    pub fn found(&mut self, users: &[Box<str>], rows: Vec<Vec<Member>>, asked: Instant, now: Instant) {
        let rows: HashMap<&str, Vec<Member>> = users.iter().map(|user| &**user).zip(rows).collect();
        for (user, row) in &rows {
            let others: Vec<Member> = row.iter().filter(|member| !self.is_me(member)).cloned().collect();
            if !others.is_empty() {
                self.cache.insert(user, others, now);
            }
        }
        for lookup in self.lookups.take_due(asked) {
            let nodes = rows.get(&*lookup.user).map_or(&[][..], |row| row);
            self.dispatch(lookup, nodes, now);
        }
    }

    fn is_me(&self, member: &Member) -> bool {
        member.node == self.me.node
    }

    fn dispatch(&mut self, lookup: Lookup, nodes: &[Member], now: Instant) {
        let others = nodes.iter().filter(|member| !self.is_me(member)).count();
        // Our reactors had nobody for a client's message; by now the user is here.
        let is_here = others < nodes.len() && matches!(lookup.reply, ReplyTo::Client(_));
        let attempt = Attempt { tries: lookup.tries, copies: others + usize::from(is_here) }.pack();
        if is_here {
            self.deliver_here(&lookup, attempt);
        }
        match others {
            0 if is_here => {}
            0 => self.nobody(lookup.user, lookup.reply),
            _ => self.send(lookup, nodes, attempt, now),
        }
    }

    /// Has our reactors deliver a client's message, which comes back with
    /// `attempt`, if there is one, when none of the user's connections is there.
    fn deliver_here(&mut self, lookup: &Lookup, attempt: Option<u8>) {
        if let (Action::Deliver(frame), &ReplyTo::Client(sender)) = (&lookup.action, &lookup.reply) {
            let origin = attempt.map(|tries| Origin { source: SourceId::HERE, sender, tries });
            let deliver = Effect::Deliver(lookup.user.clone(), frame.clone(), origin);
            self.effects.push(deliver);
        }
    }

    /// Sends it to those of `nodes` that are not this one. As for `attempt`,
    /// see [`Router::deliver_here`].
    fn send(&mut self, lookup: Lookup, nodes: &[Member], attempt: Option<u8>, now: Instant) {
        let Lookup { user, action, reply, tries, .. } = lookup;
        let (id, wants_result) = (self.asks.take_id(), reply.wants_reports());
        let answer = match (&reply, attempt) {
            (ReplyTo::Client(sender), Some(tries)) => Answer::Return { sender: sender.as_u64(), tries },
            _ if wants_result => Answer::Ack(id),
            _ => Answer::Nothing,
        };
        let (mut waiting, mut answers) = (Vec::new(), Vec::new());
        let aside = Aside { probe: self.probes.send(&action, now), trace: reply.trace() };
        let envelope = envelope(id, &user, &action, answer, aside);
        for node in nodes.iter().filter(|member| member.node != self.me.node) {
            let incarnation = self.latest(node);
            let sent = envelope
                .as_ref()
                .is_some_and(|envelope| self.lanes.queue_for(&node.node, incarnation, envelope, now));
            match (wants_result, sent) {
                (false, _) => {}
                (true, true) => waiting.push(node.node.clone()),
                (true, false) => answers.push(RemoteNode::unavailable(&node.node)),
            }
        }
        if wants_result {
            let ask = Ask { reply, waiting, answers, errand: Some((user, action)), tries };
            self.wait(id, ask, now);
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

    /// The incarnation to address: what was remembered of a user may name one
    /// that a newer one has followed.
    fn latest(&self, member: &Member) -> u64 {
        let living = self.others.iter().filter(|other| other.node == member.node);
        living.map(|other| other.incarnation).fold(member.incarnation, u64::max)
    }

    /// Closes a request whose answers are complete; one for a user who was
    /// nowhere where the directory said is tried again after a new lookup.
    pub(super) fn settle(&mut self, mut ask: Ask, now: Instant) {
        let missed = ask.has_missed();
        if let (Some((user, action)), true, Some(wait)) =
            (ask.errand.take(), missed, RETRY_AFTER.get(ask.tries))
        {
            self.cache.remove(&user);
            let (tries, due) = (ask.tries + 1, now + *wait);
            return self.look_up(Lookup { user, action, reply: ask.reply, tries, due });
        }
        self.close(ask);
    }
}

/// What another node is to do; `None` for a frame that is no text.
fn envelope<'a>(
    id: u64,
    user: &'a str,
    action: &'a Action,
    answer: Answer,
    aside: Aside,
) -> Option<Envelope<'a>> {
    Some(match action {
        Action::Deliver(frame) => {
            let text = std::str::from_utf8(frame.payload()).ok()?;
            Envelope::Send { answer, user, text, aside }
        }
        Action::Kick(kick) => {
            let (reason, farewell) = (&*kick.reason, kick.farewell.as_deref());
            Envelope::Kick { id, user, reason, farewell, aside }
        }
        Action::Locate => Envelope::Locate { id, user },
    })
}
