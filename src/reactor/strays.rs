//! Clients' messages that come by way of the cluster: given to the user's
//! connections or, if none takes them, given back, since the user may have gone
//! to another node meanwhile.

use super::Reactor;
use super::message::{Action, Origin, ReactorMessage, ReplyTo};
use crate::cluster::message::{ClusterMessage, Stray};
use crate::delivery::Outcome;
use crate::hub::Route;
use crate::ids::ConnId;
use crate::ws::frame::Frame;

impl Reactor {
    /// Gives a message to each connection of a user at home here.
    pub(super) fn deliver_or_return(&mut self, user: Box<str>, frame: Frame, origin: Origin) {
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        if let Route::Connections(connections) = self.hub.route(&user) {
            targets.extend_from_slice(connections);
        }
        let taken = self.give_to_ours(&targets, &frame);
        let mut others = targets.iter().filter(|connection| connection.reactor() != self.me);
        match (taken, others.next(), others.next()) {
            (true, None, _) => {}
            (false, None, _) => self.give_back(user, frame, origin),
            (false, Some(&connection), None) => {
                self.post(connection.reactor(), ReactorMessage::Hand { user, connection, frame, origin });
            }
            // If one of several has gone, another has it; it must not come twice.
            _ => self.give_to_others(&targets, &frame),
        }
        self.targets = targets;
    }

    /// Gives a message to the only connection its user had a moment ago.
    pub(super) fn hand_or_return(
        &mut self,
        user: Box<str>,
        connection: ConnId,
        frame: Frame,
        origin: Origin,
    ) {
        if !self.give(connection, &frame) {
            self.give_back(user, frame, origin);
        }
    }

    /// Whether any of this reactor's connections took it.
    fn give_to_ours(&mut self, targets: &[ConnId], frame: &Frame) -> bool {
        let (me, mut taken) = (self.me, false);
        for connection in targets.iter().filter(|connection| connection.reactor() == me) {
            taken |= self.give(*connection, frame);
        }
        taken
    }

    fn give_to_others(&self, targets: &[ConnId], frame: &Frame) {
        for &connection in targets.iter().filter(|connection| connection.reactor() != self.me) {
            let (action, reply) = (Action::Deliver(frame.clone()), ReplyTo::Nobody);
            self.post(connection.reactor(), ReactorMessage::Apply { connection, action, reply });
        }
    }

    /// Whether a connection took it; one that is too slow did, and lost it.
    fn give(&mut self, connection: ConnId, frame: &Frame) -> bool {
        let Some(slot) = self.table.find(connection) else { return false };
        let open = self.table.get(slot).is_some_and(|row| row.is_open());
        open && self.deliver(slot, frame) != Outcome::Gone
    }

    fn give_back(&self, user: Box<str>, frame: Frame, origin: Origin) {
        let Origin { source, sender, tries } = origin;
        self.post_to_cluster(ClusterMessage::Return { source, stray: Stray { user, frame, sender, tries } });
    }
}
