//! Requests of ours that other nodes have not all answered.
//!
//! Owns [`Asks`]. Never: what happens to a request whose answers are complete.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::registry::Member;
use crate::delivery::Outcome;
use crate::hub::gather::{RemoteAnswer, RemoteNode, Report};
use crate::reactor::message::{Action, ReplyTo};

/// How long other nodes have to answer; shorter than what callers wait.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(4);

/// A request of ours.
pub(super) struct Ask {
    pub(super) reply: ReplyTo,
    /// Nodes that have not answered.
    pub(super) waiting: Vec<String>,
    pub(super) answers: Vec<RemoteNode>,
    /// For trying again elsewhere; `None` for a broadcast.
    pub(super) errand: Option<(Box<str>, Action)>,
    pub(super) tries: usize,
}

impl Ask {
    /// Whether the user was nowhere where the directory said.
    pub(super) fn has_missed(&self) -> bool {
        self.answers.iter().all(RemoteNode::has_nobody)
    }

    /// All that is known of it.
    pub(super) fn into_report(self) -> (ReplyTo, Report) {
        (self.reply, Report::Remote(self.answers))
    }

    /// Gives nodes up that will not answer.
    fn give_up(&mut self, gone: impl Fn(&str) -> bool) {
        let silent = self.waiting.extract_if(.., |node| gone(node));
        self.answers.extend(silent.map(|node| RemoteNode::unavailable(&node)));
    }
}

/// See the module.
pub(super) struct Asks {
    /// By id, so oldest first; when each is due.
    waiting: BTreeMap<u64, (Ask, Instant)>,
    next_id: u64,
}

impl Asks {
    /// None.
    pub(super) fn new() -> Self {
        Asks { waiting: BTreeMap::new(), next_id: 1 }
    }

    /// A name for the next request.
    pub(super) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The name that was taken last.
    #[cfg(test)]
    pub(super) fn last_id(&self) -> u64 {
        self.next_id
    }

    /// Waits for the answers to a request; the request itself if none is missing.
    pub(super) fn wait(&mut self, id: u64, ask: Ask, now: Instant) -> Option<Ask> {
        if ask.waiting.is_empty() {
            return Some(ask);
        }
        self.waiting.insert(id, (ask, now + ANSWER_TIME));
        None
    }

    /// A node answered; the request if this was the last answer.
    pub(super) fn acked(&mut self, from: &Member, id: u64, answer: RemoteAnswer) -> Option<Ask> {
        let (ask, _) = self.waiting.get_mut(&id)?;
        let place = ask.waiting.iter().position(|node| *node == from.node)?;
        let node = ask.waiting.swap_remove(place);
        ask.answers.push(RemoteNode { node, answer });
        if !ask.waiting.is_empty() {
            return None;
        }
        self.waiting.remove(&id).map(|(ask, _)| ask)
    }

    /// Gives nodes up that will not answer; the requests that waited for no others.
    pub(super) fn give_up(&mut self, gone: impl Fn(&str) -> bool) -> Vec<Ask> {
        self.waiting.values_mut().for_each(|(ask, _)| ask.give_up(&gone));
        self.take(|ask, _| ask.waiting.is_empty())
    }

    /// Requests that have waited too long.
    pub(super) fn late(&mut self, now: Instant) -> Vec<Ask> {
        let mut late = self.take(|_, deadline| deadline <= now);
        for ask in &mut late {
            let silent = ask.waiting.drain(..);
            ask.answers.extend(silent.map(|node| RemoteNode { node, answer: RemoteAnswer::TimedOut }));
        }
        late
    }

    /// When [`Asks::late`] has something to give.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // All wait equally long, so the oldest is due first.
        self.waiting.values().next().map(|(_, deadline)| *deadline)
    }

    fn take(&mut self, done: impl Fn(&Ask, Instant) -> bool) -> Vec<Ask> {
        let done = self.waiting.iter().filter(|(_, (ask, deadline))| done(ask, *deadline));
        let ids: Vec<u64> = done.map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| self.waiting.remove(id)).map(|(ask, _)| ask).collect()
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
