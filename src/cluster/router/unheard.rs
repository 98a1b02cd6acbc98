//! Clients' messages to a node that does not listen.
//!
//! Redis says of each batch how many it was handed to. A batch that was handed
//! to nobody has not come: its node is dead, or about to subscribe again and to
//! ask for what it missed. It is given time to do so; then its clients'
//! messages are taken back, so that they cannot be sent again, and looked after
//! like those that a node returned.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;

use super::{Effect, Router};
use crate::cluster::message::Stray;
use crate::cluster::wire::{self, Answer, Envelope, Stream};
use crate::ids::ConnId;
use crate::limits::CLUSTER_UNHEARD;
use crate::ws::frame::Frame;

/// Since when, and from which number of the stream to it on, a node has not heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    since: Instant,
    from: u64,
    /// Whether anything was published since it was last looked for.
    has_more: bool,
}

/// Nodes that did not hear what was last published for them. Nearly always none.
#[derive(Debug, Default)]
pub(super) struct Unheard(HashMap<String, Silence>);

impl Unheard {
    /// A node did not hear what begins with this number.
    fn note(&mut self, node: &str, from: u64, now: Instant) {
        match self.0.get_mut(node) {
            Some(silence) => silence.has_more = true,
            None => drop(self.0.insert(node.to_owned(), Silence { since: now, from, has_more: true })),
        }
    }

    /// A node listens (again) and will ask for what it missed.
    pub(super) fn clear(&mut self, node: &str) {
        if !self.0.is_empty() {
            self.0.remove(node);
        }
    }

    /// The number from which on a node did not hear, if it is known not to.
    pub(super) fn end(&mut self, node: &str) -> Option<u64> {
        if self.0.is_empty() { None } else { self.0.remove(node).map(|silence| silence.from) }
    }

    /// Nodes that have had their time, and from which number on they did not hear.
    fn over(&self, now: Instant) -> Vec<(String, u64)> {
        let over = self.0.iter().filter(|(_, silence)| silence.due().is_some_and(|due| due <= now));
        over.map(|(node, silence)| (node.clone(), silence.from)).collect()
    }

    fn go_on_from(&mut self, node: &str, from: u64) {
        if let Some(silence) = self.0.get_mut(node) {
            *silence = Silence { from, has_more: false, ..*silence };
        }
    }

    fn nodes(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// When the first has had its time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(Silence::due).min()
    }
}

impl Silence {
    /// When what was published is to be taken back.
    fn due(&self) -> Option<Instant> {
        self.has_more.then_some(self.since + CLUSTER_UNHEARD)
    }
}

impl Router {
    /// Nobody listens on a node's channel, so that it did not hear this batch:
    /// who waits for its answer is told so. Clients' messages are taken back if
    /// it does not listen again soon.
    pub fn unheard(&mut self, node: &str, batch: &[u8], now: Instant) {
        let settled = self.asks.give_up(|waiting| waiting == node);
        self.close_all(settled);
        if let Ok((header, _)) = wire::read(batch)
            && header.count > 0
            && self.lanes.incarnation(node).is_some_and(|life| header.stream == Stream::To(life))
        {
            self.lanes.unheard.note(node, header.first, now);
        }
    }

    /// A node heard what was published for it just now.
    pub fn heard(&mut self, node: &str) {
        self.lanes.unheard.clear(node);
    }

    /// Takes back clients' messages that nodes had time enough to ask for, or
    /// whose nodes are dead. Returns how many there were.
    pub fn take_back(&mut self, now: Instant) -> usize {
        for (node, from) in self.lanes.unheard.over(now) {
            let next = self.lanes.take_back(&node, from);
            self.lanes.unheard.go_on_from(&node, next);
        }
        let batches = std::mem::take(&mut self.lanes.taken_back);
        let strays: Vec<_> = batches.iter().flat_map(|(node, batch)| strays(node, batch)).collect();
        let count = strays.len();
        for (node, stray) in strays {
            self.returned(Some(node), stray, now);
        }
        count
    }

    /// The link broke: the senders of what nobody heard are told.
    pub(super) fn give_up_unheard(&mut self) {
        for node in self.lanes.unheard.nodes() {
            self.lanes.end_unheard(&node);
        }
        let batches = std::mem::take(&mut self.lanes.taken_back);
        let strays = batches.iter().flat_map(|(node, batch)| strays(node, batch));
        self.effects.extend(strays.map(|(_, stray)| Effect::Unreachable(stray.sender)));
    }
}

/// Clients' messages in a batch that was for a node.
fn strays<'a>(node: &'a str, batch: &'a Bytes) -> impl Iterator<Item = (&'a str, Stray)> {
    let envelopes = wire::read(batch).into_iter().flat_map(|(_, envelopes)| envelopes);
    envelopes.filter_map(move |item| match item.ok()?.envelope {
        Envelope::Send { answer: Answer::Return { sender, tries }, user, text, .. } => {
            let (user, frame) = (user.into(), Frame::text(text.as_bytes()));
            Some((node, Stray { user, frame, sender: ConnId::from_u64(sender), tries }))
        }
        _ => None,
    })
}
