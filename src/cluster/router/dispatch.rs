//! What is to be done to a user: found out where the user is, and sent there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::asks::Ask;
use super::lookups::Lookup;
use super::{Effect, Router};
use crate::cluster::registry::Member;
use crate::cluster::wire::Envelope;
use crate::hub::ANONYMOUS;
use crate::hub::gather::{RemoteNode, Report};
use crate::reactor::message::{Action, ReplyTo};

/// Waits before a user who was not where the directory said is looked up
/// again, and then once more.
pub(super) const RETRY_AFTER: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

impl Router {
    /// Something is to be done to a user's connections on other nodes.
    pub fn act(&mut self, user: Box<str>, action: Action, reply: ReplyTo, now: Instant) {
        if user.starts_with(ANONYMOUS) {
            // Only the node that gave the id knows it.
            return self.act_on_all(&user, &action, reply, now);
        }
        match self.cache.nodes(&user, now) {
            Some(nodes) => self.dispatch(user, action, reply, &nodes, 0, now),
            None => self.lookups.push(Lookup { user, action, reply, tries: 0, due: now }),
        }
    }

    fn act_on_all(&mut self, user: &str, action: &Action, reply: ReplyTo, now: Instant) {
        let id = self.asks.take_id();
        let envelope = envelope(id, user, action, reply.wants_reports());
        let sent = envelope.is_some_and(|envelope| self.lanes.queue_for_all(&envelope, now));
        self.wait_for_all(id, reply, sent, now);
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
        for lookup in self.lookups.take_due(now) {
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
        let (id, wants_result) = (self.asks.take_id(), reply.wants_reports());
        let (mut waiting, mut answers) = (Vec::new(), Vec::new());
        let envelope = envelope(id, &user, &action, wants_result);
        for node in nodes {
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
            return self.lookups.push(Lookup { user, action, reply: ask.reply, tries, due });
        }
        self.close(ask);
    }
}

/// What another node is to do; `None` for a frame that is no text.
fn envelope<'a>(id: u64, user: &'a str, action: &'a Action, wants_result: bool) -> Option<Envelope<'a>> {
    Some(match action {
        Action::Deliver(frame) => {
            let text = std::str::from_utf8(frame.payload()).ok()?;
            Envelope::Send { id, user, text, wants_result }
        }
        Action::Kick(kick) => {
            Envelope::Kick { id, user, reason: &kick.reason, farewell: kick.farewell.as_deref() }
        }
        Action::Locate => Envelope::Locate { id, user },
    })
}
