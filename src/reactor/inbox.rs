//! What other threads ask of a reactor.

use std::sync::Arc;

use super::Reactor;
use super::mailbox::Full;
use super::message::{Order, Presence, ReactorMessage, ReplyTo};
use crate::cluster::message::ClusterMessage;
use crate::hub::directory::{Edge, Refused};
use crate::ids::{ConnId, ReactorId};
use crate::metrics::{Counter, Gauge};
use crate::ws::close::CloseReason;

/// Users told to the cluster at once.
const USERS_PER_SLICE: usize = 1000;

impl Reactor {
    /// Takes orders; false when told to stop.
    pub(super) fn take_orders(&mut self) -> bool {
        self.orders.begin();
        while let Some(order) = self.orders.pop() {
            match order {
                Order::Close { reason, window } => self.begin_closing(reason, window),
                Order::Abort => self.abort(),
                Order::Reload(config) => {
                    self.sweep.reconfigure(&config);
                    self.config = config;
                }
                Order::Tls(identity) => self.identity = Some(identity),
                Order::Stop => return false,
            }
        }
        true
    }

    /// Takes all that was in the mailbox when the turn began. What is posted
    /// meanwhile rings again.
    pub(super) fn empty_inbox(&mut self) {
        let waiting = self.inbox.begin();
        self.counters().set(Gauge::MailboxDepth, waiting as u64);
        for _ in 0..waiting {
            let Some(message) = self.inbox.pop() else { return };
            self.take_message_from_inbox(message);
        }
    }

    fn take_message_from_inbox(&mut self, message: ReactorMessage) {
        match message {
            ReactorMessage::Join { user, connection } => self.join(&user, connection),
            ReactorMessage::Leave { user, connection } => {
                let edge = self.hub.leave(&user, connection);
                self.tell_presence(edge, &user);
            }
            ReactorMessage::JoinRefused(connection) => {
                if let Some(slot) = self.table.find(connection) {
                    self.close(slot, CloseReason::UserRefused, "");
                }
            }
            ReactorMessage::Route { user, action, reply } => self.route(&user, action, reply),
            ReactorMessage::Apply { connection, action, reply } => {
                self.apply(connection, &action, &reply);
                // A request of ours whose last report is our own.
                if let ReplyTo::Request { reactor, ticket, .. } = reply
                    && reactor == self.me
                {
                    self.settle_ask(ticket);
                }
            }
            ReactorMessage::Deliver { user, frame, origin } => self.deliver_or_return(user, frame, origin),
            ReactorMessage::Hand { user, connection, frame, origin } => {
                self.hand_or_return(user, connection, frame, origin);
            }
            ReactorMessage::Broadcast { frame, reply } => self.broadcast_here(&frame, &reply),
            ReactorMessage::Report { ticket, report } => {
                self.absorb(ticket, report);
                self.settle_ask(ticket);
            }
            ReactorMessage::Elsewhere { user, elsewhere } => self.hub.set_elsewhere(&user, elsewhere),
            ReactorMessage::Unreachable { sender } => {
                self.tell_sender(sender, |out| {
                    crate::protocol::write_error(out, "Other nodes cannot be reached at present");
                });
            }
            ReactorMessage::Page { after, limit, reply } => self.list_users(&after, limit, &reply),
            ReactorMessage::ListUsers { round } => self.begin_listing(round),
            ReactorMessage::Undelivered { sender, user } => {
                self.tell_sender(sender, |out| crate::protocol::write_undelivered(out, &user));
            }
        }
    }

    /// Records a connection of a user at home here.
    pub(super) fn join(&mut self, user: &Arc<str>, connection: ConnId) {
        match self.hub.join(user, connection) {
            Ok(edge) => self.tell_presence(edge, user),
            Err(Refused) => {
                self.post_surely(connection.reactor(), ReactorMessage::JoinRefused(connection));
            }
        }
    }

    /// Tells of a user's first or last connection.
    pub(super) fn tell_presence(&mut self, edge: Edge, user: &Arc<str>) {
        let (counter, presence) = match edge {
            Edge::None => return,
            Edge::Online => (Counter::UsersOnline, Presence::Online(user.clone())),
            Edge::Offline => (Counter::UsersOffline, Presence::Offline(user.clone())),
        };
        self.count(counter, 1);
        if self.shared.cluster.is_some() {
            self.tell_cluster(match edge {
                Edge::Online => ClusterMessage::Joined(user.clone()),
                Edge::Offline | Edge::None => ClusterMessage::Left(user.clone()),
            });
        }
        if let Some(listener) = self.shared.presence.get()
            && listener.try_send(presence).is_err()
        {
            self.count(Counter::PresenceDropped, 1);
        }
    }

    /// Tells the cluster what it must learn, in order: what does not fit its
    /// mailbox is kept. The cluster's thread takes its mail whether Redis is
    /// there or not, so what is kept is what comes in during one round trip.
    fn tell_cluster(&mut self, message: ClusterMessage) {
        self.cluster_backlog.push_back(message);
        self.post_cluster_backlog();
    }

    /// Posts what is kept for the cluster, as far as there is room.
    pub(super) fn post_cluster_backlog(&mut self) {
        let Some(cluster) = &self.shared.cluster else { return };
        while let Some(message) = self.cluster_backlog.pop_front() {
            if let Err(Full(message)) = cluster.post(message) {
                self.cluster_backlog.push_front(message);
                return;
            }
        }
    }

    /// Tells the cluster all users at home here, in slices.
    fn begin_listing(&mut self, round: u64) {
        let all: Vec<Arc<str>> = self.hub.all_users().cloned().collect();
        // What was to be told one by one is in the list.
        self.cluster_backlog.clear();
        let slices = all.chunks(USERS_PER_SLICE).map(<[_]>::to_vec).collect::<Vec<_>>();
        for users in slices {
            self.tell_cluster(ClusterMessage::Users { round, users, done: false });
        }
        self.tell_cluster(ClusterMessage::Users { round, users: Vec::new(), done: true });
    }

    /// Posts what must arrive: if the mailbox is full it is kept and posted
    /// later, in order.
    pub(super) fn post_surely(&mut self, to: ReactorId, message: ReactorMessage) {
        self.backlog.push_back((to, message));
        if self.backlog.len() == 1 {
            self.post_backlog();
        }
    }

    /// Posts what is kept, as far as there is room.
    pub(super) fn post_backlog(&mut self) {
        while let Some((to, message)) = self.backlog.pop_front() {
            let Some(mailbox) = self.shared.mailbox(to) else { continue };
            if let Err(Full(message)) = mailbox.post(message) {
                self.backlog.push_front((to, message));
                return;
            }
        }
    }
}
