//! What reactors and the handle ask of the cluster.

use std::sync::Arc;

use crate::hub::gather::Report;
use crate::reactor::mailbox::Weigh;
use crate::reactor::message::{Action, ReplyTo};
use crate::ws::frame::Frame;

/// Travels in the cluster's bounded mailbox.
#[derive(Debug)]
pub enum ClusterMessage {
    /// A user's first connection on this node came.
    Joined(Arc<str>),
    /// A user's last connection on this node went.
    Left(Arc<str>),
    /// Some of the users a reactor is home to, asked for by
    /// [`crate::reactor::message::ReactorMessage::ListUsers`].
    Users {
        /// Which time of asking this answers.
        round: u64,
        /// Users.
        users: Vec<Arc<str>>,
        /// Whether these are the reactor's last.
        done: bool,
    },
    /// Do this to the user's connections on other nodes.
    Act {
        /// The user.
        user: Box<str>,
        /// What is to be done.
        action: Action,
        /// Who wants to know.
        reply: ReplyTo,
    },
    /// Send this to every connection of the other nodes.
    Broadcast {
        /// The frame.
        frame: Frame,
        /// Who wants to know.
        reply: ReplyTo,
    },
    /// What a reactor says about a request of another node.
    Report {
        /// Which request.
        ticket: u64,
        /// What came of it.
        report: Report,
    },
}

impl Weigh for ClusterMessage {
    fn weight(&self) -> usize {
        match self {
            ClusterMessage::Act { action, .. } => action.weight(),
            ClusterMessage::Broadcast { frame, .. } => frame.len(),
            ClusterMessage::Users { users, .. } => users.len() * size_of::<Arc<str>>(),
            ClusterMessage::Joined(_) | ClusterMessage::Left(_) | ClusterMessage::Report { .. } => 0,
        }
    }
}
