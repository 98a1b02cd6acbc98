//! Who is to be sent what, carried out: routes across reactors, frames into
//! the turn's layout, reports to who asked.

use super::Reactor;
use super::connection::{Connection, Endpoint, Flag};
use super::message::{Action, Kick, ReactorMessage, ReplyTo};
use crate::cluster::message::ClusterMessage;
use crate::delivery::Outcome;
use crate::hub::Route;
use crate::hub::gather::{RemoteNode, Report};
use crate::ids::{ConnId, ReactorId};
use crate::limits::DEFLATE_MIN_BYTES;
use crate::metrics::{Counter, Sent};
use crate::protocol;
use crate::ws::close::CloseReason;
use crate::ws::deflate::Deflater;
use crate::ws::frame::{self, Data, Frame, OpCode};

impl Reactor {
    /// Does `action` to every connection of `user`, wherever they are.
    pub(super) fn route(&mut self, user: &str, action: Action, reply: ReplyTo) {
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        let elsewhere = match self.hub.route(user) {
            Route::Connections(connections) => {
                targets.extend_from_slice(connections);
                None
            }
            Route::Offline => None,
            Route::Home(home) => Some(home),
            Route::Anonymous(connection) if connection.reactor() != self.me => Some(connection.reactor()),
            Route::Anonymous(connection) => {
                let open = self.table.find(connection).and_then(|slot| self.table.get(slot));
                targets.extend(open.filter(|row| row.is_open()).map(|_| connection));
                None
            }
        };
        match elsewhere {
            Some(reactor) => self.send_route(reactor, user, action, reply),
            None => self.carry_out(user, &targets, action, &reply),
        }
        self.targets = targets;
    }

    fn send_route(&mut self, to: ReactorId, user: &str, action: Action, reply: ReplyTo) {
        let message = ReactorMessage::Route { user: user.into(), action, reply: reply.clone() };
        if !self.post(to, message) {
            self.report(&reply, Report::Overloaded);
            if let ReplyTo::Client(sender) = reply {
                self.tell_sender(sender, |out| protocol::write_error(out, "The node is overloaded"));
            }
        }
    }

    /// Does `action` to the user's connections on this node, `targets`, and
    /// has the cluster do it on the nodes the user may be on besides.
    fn carry_out(&mut self, user: &str, targets: &[ConnId], action: Action, reply: &ReplyTo) {
        let ask_cluster = self.shared.cluster.is_some()
            && !reply.is_remote()
            && (targets.is_empty() || self.hub.is_elsewhere(user));
        if reply.wants_reports() {
            let connections = targets.to_vec();
            self.report(reply, Report::Located { connections, elsewhere: ask_cluster });
        }
        if ask_cluster {
            // Who is given it here is not offline, whatever the other nodes find.
            let silenced = matches!(reply, ReplyTo::Client(_)) && !targets.is_empty();
            self.ask_cluster(user, action.clone(), if silenced { &ReplyTo::Nobody } else { reply });
        } else if let (&ReplyTo::Client(sender), []) = (reply, targets) {
            return self.undelivered(sender, user);
        }
        for &connection in targets {
            if connection.reactor() == self.me {
                self.apply(connection, &action, reply);
            } else if !matches!(action, Action::Locate) {
                let (action, reply) = (action.clone(), reply.clone());
                let refused = reply.clone();
                if !self.post(connection.reactor(), ReactorMessage::Apply { connection, action, reply }) {
                    self.report(&refused, Report::Outcome(connection, Outcome::Overloaded));
                }
            }
        }
    }

    fn ask_cluster(&mut self, user: &str, action: Action, reply: &ReplyTo) {
        let message = ClusterMessage::Act { user: user.into(), action, reply: reply.clone() };
        if !self.post_to_cluster(message) {
            self.report(reply, Report::Overloaded);
            if let ReplyTo::Client(sender) = reply {
                self.tell_sender(*sender, |out| protocol::write_error(out, "The node is overloaded"));
            }
        }
    }

    /// Posts to the cluster, if there is one; what does not fit is counted.
    pub(super) fn post_to_cluster(&self, message: ClusterMessage) -> bool {
        let Some(cluster) = &self.shared.cluster else { return false };
        let posted = cluster.post(message).is_ok();
        if !posted {
            self.count(Counter::DroppedMailboxFull, 1);
        }
        posted
    }

    /// Does `action` to a connection of this reactor.
    pub(super) fn apply(&mut self, connection: ConnId, action: &Action, reply: &ReplyTo) {
        let slot = self.table.find(connection);
        let open = slot.filter(|&slot| self.table.get(slot).is_some_and(|row| row.is_open()));
        let outcome = match (action, open) {
            (Action::Locate, _) => return,
            (_, None) => Outcome::Gone,
            (Action::Deliver(frame), Some(slot)) => self.deliver(slot, frame),
            (Action::Kick(kick), Some(slot)) => self.kick(slot, kick),
        };
        if outcome == Outcome::Gone && matches!(action, Action::Deliver(_)) {
            self.count(Counter::DroppedGone, 1);
        }
        self.report(reply, Report::Outcome(connection, outcome));
    }

    fn kick(&mut self, slot: u32, kick: &Kick) -> Outcome {
        if let Some(farewell) = &kick.farewell {
            self.send_text(slot, farewell.as_bytes());
        }
        self.close(slot, CloseReason::Kicked, &kick.reason);
        Outcome::Closed
    }

    /// Sends a frame to every connection of the node.
    pub(super) fn broadcast(&mut self, frame: Frame, reply: ReplyTo) {
        self.count(Counter::Broadcasts, 1);
        if self.shared.cluster.is_some() && !reply.is_remote() {
            let message = ClusterMessage::Broadcast { frame: frame.clone(), reply: reply.clone() };
            if !self.post_to_cluster(message) {
                self.report(&reply, Report::Remote(vec![RemoteNode::all_unavailable()]));
            }
        }
        for index in 0..self.shared.mailboxes.len() {
            let reactor = ReactorId(index as u8);
            if reactor == self.me {
                continue;
            }
            let message = ReactorMessage::Broadcast { frame: frame.clone(), reply: reply.clone() };
            if !self.post(reactor, message) {
                self.report(&reply, Report::Overloaded);
            }
        }
        self.broadcast_here(&frame, &reply);
    }

    /// Sends a frame to every connection of this reactor.
    pub(super) fn broadcast_here(&mut self, frame: &Frame, reply: &ReplyTo) {
        let (deflater, members) = (&mut self.deflater, self.members);
        self.outgoing.broadcast(frame.wire(), |out| {
            if members.deflated > 0 {
                write_data(out, deflater, Some(WINDOW_BITS_MAX), Data::Text, frame.payload());
            }
        });
        self.batch_for_all(frame.payload());
        if members.hub > 0 {
            self.note_laid_out(frame);
        }
        // Who gathers batches is counted as they are filled and sent.
        let sent = members.hub.saturating_sub(self.batches.connections());
        self.count(Counter::Delivered, sent);
        self.counters().sent(Sent::of(frame.payload()), sent, sent * frame.payload().len() as u64);
        self.report(reply, Report::Audience(members.hub));
        if self.outgoing.is_full(self.config.outbound_bytes_max) {
            self.flush();
        }
    }

    /// Queues a frame for a connection, or a part of its next batch.
    pub(super) fn deliver(&mut self, slot: u32, frame: &Frame) -> Outcome {
        let Some(row) = self.table.get(slot) else { return Outcome::Gone };
        if row.endpoint != Endpoint::Hub {
            return Outcome::Gone;
        }
        if row.is(Flag::Batching) {
            return self.batch(slot, frame.payload());
        }
        let deflates = row.deflate_bits().is_some() && frame.payload().len() >= DEFLATE_MIN_BYTES;
        if !self.has_room(slot, frame.len()) {
            return self.slow_consumer(slot);
        }
        self.count(Counter::Delivered, 1);
        self.note_laid_out(frame);
        if deflates {
            self.queue_text(slot, frame.payload());
        } else if let Some(row) = self.table.get(slot) {
            self.outgoing.push_frame(row, slot, frame);
            self.count_sent(Sent::of(frame.payload()), frame.payload());
        }
        self.flush_when_full();
        Outcome::Delivered
    }

    /// Sends a text to a connection if there is room for it.
    pub(super) fn send_text(&mut self, slot: u32, text: &[u8]) -> Outcome {
        if !self.table.get(slot).is_some_and(|row| row.is_open()) {
            return Outcome::Gone;
        }
        if !self.has_room(slot, text.len() + frame::HEADER_BYTES_MAX) {
            return self.slow_consumer(slot);
        }
        self.queue_text(slot, text);
        self.flush_when_full();
        Outcome::Delivered
    }

    /// Answers a client's own message. Always queued: what a client does not
    /// read of its answers stops its input instead.
    pub(super) fn answer(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        write(&mut scratch);
        self.queue_text(slot, &scratch);
        self.scratch = scratch;
    }

    /// Lays out one data frame, compressed if that was agreed and is worth it.
    pub(super) fn queue_payload(&mut self, slot: u32, opcode: Data, what: Sent, payload: &[u8]) {
        let Some(row) = self.table.get(slot) else { return };
        let (deflater, bits) = (&mut self.deflater, row.deflate_bits());
        self.outgoing.push(row, slot, |out| write_data(out, deflater, bits, opcode, payload));
        self.count_sent(what, payload);
    }

    fn queue_text(&mut self, slot: u32, text: &[u8]) {
        self.queue_payload(slot, Data::Text, Sent::of(text), text);
    }

    fn count_sent(&self, what: Sent, payload: &[u8]) {
        self.counters().sent(what, 1, payload.len() as u64);
    }

    /// Lays out bytes that are no data frame.
    pub(super) fn write(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(row) = self.table.get(slot) {
            self.outgoing.push(row, slot, write);
        }
    }

    /// Whether `more` bytes may be queued for a connection; what is laid out
    /// already is given to the socket first if that decides it.
    pub(super) fn has_room(&mut self, slot: u32, more: usize) -> bool {
        let max = self.config.outbound_bytes_max;
        if self.owed(slot) + more <= max {
            return true;
        }
        self.flush_one(slot);
        self.owed(slot) + more <= max && self.table.get(slot).is_some_and(|row| row.is_open())
    }

    /// Bytes a connection has not been sent yet.
    pub(super) fn owed(&mut self, slot: u32) -> usize {
        let Some(row) = self.table.get(slot) else { return 0 };
        row.outbound_bytes() + self.outgoing.owed(row) + self.sessions.unsent_bytes(slot)
    }

    fn undelivered(&mut self, sender: ConnId, user: &str) {
        self.count(Counter::Undelivered, 1);
        if sender.reactor() != self.me {
            let user = user.into();
            self.post(sender.reactor(), ReactorMessage::Undelivered { sender, user });
            return;
        }
        self.tell_sender(sender, |out| protocol::write_undelivered(out, user));
    }

    /// Tells the client that sent a message what became of it.
    pub(super) fn tell_sender(&mut self, sender: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
        if sender.reactor() != self.me {
            return;
        }
        if let Some(slot) = self.table.find(sender)
            && self.table.get(slot).is_some_and(|row| row.is_open())
        {
            let mut text = Vec::new();
            write(&mut text);
            self.send_text(slot, &text);
        }
    }

    /// Says what became of a request to who wanted to know.
    pub(super) fn report(&mut self, reply: &ReplyTo, report: Report) {
        match reply {
            ReplyTo::Nobody | ReplyTo::Client(_) => {}
            ReplyTo::Request { reactor, ticket, .. } if *reactor == self.me => self.absorb(*ticket, report),
            ReplyTo::Request { reactor, ticket, .. } => {
                self.post(*reactor, ReactorMessage::Report { ticket: *ticket, report });
            }
            ReplyTo::Cluster { ticket: None } => {}
            ReplyTo::Cluster { ticket: Some(ticket) } => {
                self.post_to_cluster(ClusterMessage::Report { ticket: *ticket, report });
            }
            // A caller that gave up has dropped the other end.
            ReplyTo::Thread(caller) => drop(caller.try_send(report)),
        }
    }

    /// Posts data to another reactor; what does not fit is counted.
    pub(super) fn post(&self, to: ReactorId, message: ReactorMessage) -> bool {
        let posted = self.shared.mailbox(to).is_some_and(|mailbox| mailbox.post(message).is_ok());
        if !posted {
            self.count(Counter::DroppedMailboxFull, 1);
        }
        posted
    }
}

/// The window of those who agreed to compression without asking for a smaller one.
pub(super) const WINDOW_BITS_MAX: u8 = 15;

/// Appends a data frame, compressed if that was agreed and makes it smaller.
fn write_data(out: &mut Vec<u8>, deflater: &mut Deflater, bits: Option<u8>, opcode: Data, payload: &[u8]) {
    if let Some(bits) = bits.filter(|_| payload.len() >= DEFLATE_MIN_BYTES) {
        let deflated = deflater.deflate(bits, payload);
        if deflated.len() < payload.len() {
            frame::write_header(out, OpCode::Data(opcode), true, deflated.len());
            return out.extend_from_slice(deflated);
        }
    }
    frame::write_frame(out, OpCode::Data(opcode), payload);
}

impl Kick {
    /// An administrator's wish: with `notify` the message, or a standard one, is sent first.
    pub fn new(reason: &str, notify: bool, message: Option<&str>) -> Self {
        let standard = || {
            let mut text = Vec::new();
            protocol::write_kicked(&mut text, reason);
            String::from_utf8(text).unwrap_or_default()
        };
        let farewell = notify.then(|| message.map_or_else(standard, str::to_owned));
        Kick { reason: reason.to_owned(), farewell }
    }
}

/// Open connections of a reactor, by what a broadcast must do for them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Members {
    /// All that receive broadcasts.
    pub(super) hub: u64,
    /// Those that receive them compressed.
    pub(super) deflated: u64,
}

impl Members {
    pub(super) fn count<S>(&mut self, row: &Connection<S>, coming: bool) {
        use super::connection::Audience;
        let step = |number: &mut u64, concerned: bool| match (concerned, coming) {
            (true, true) => *number += 1,
            (true, false) => *number -= 1,
            (false, _) => {}
        };
        step(&mut self.hub, row.endpoint == Endpoint::Hub);
        step(&mut self.deflated, row.audience == Audience::Deflated);
    }
}
