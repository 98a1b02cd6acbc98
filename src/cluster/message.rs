//! What reactors, the handle and the subscriber ask of the cluster's publisher.

use std::sync::Arc;

use crate::delivery::Outcome;
use crate::hub::gather::Report;
use crate::ids::ConnId;
use crate::reactor::mailbox::Weigh;
use crate::reactor::message::{Action, ReplyTo};
use crate::stamp::Micros;
use crate::trace::TraceId;
use crate::ws::frame::Frame;

use super::registry::Member;
use super::sources::SourceId;
use super::streams::Missing;
use super::wire::{Probe, Stream};

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
    /// List users of all nodes.
    Page {
        /// The user after whom to begin.
        after: String,
        /// At most so many.
        limit: usize,
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
    /// No connection took a client's message that came from this node.
    Return {
        /// Where it is to go.
        source: SourceId,
        /// The message.
        stray: Stray,
    },
    /// A client's message came back from a node where its user was not.
    Returned {
        /// The node; unknown if it has had another life since.
        from: Option<SourceId>,
        /// The message.
        stray: Stray,
    },
    /// A reactor has written a message that is a probe of another node.
    Written {
        /// Its name.
        probe: u32,
        /// When.
        at: Micros,
    },
    /// From the subscriber.
    Heard(Heard),
}

/// A client's message whose user was not where it was sent.
#[derive(Debug)]
pub struct Stray {
    /// For whom it is.
    pub user: Box<str>,
    /// The frame.
    pub frame: Frame,
    /// The connection that sent it, on the node that looks for the user.
    pub sender: ConnId,
    /// How often it came back before, and from how many nodes it is to come
    /// back: for the node that sent it to read.
    pub tries: u8,
}

const _: () = {
    use crate::reactor::message::ReactorMessage;
    // Mailboxes hold many of them, and each is moved several times.
    assert!(size_of::<ReactorMessage>() <= 88 && size_of::<ClusterMessage>() <= 88);
};

/// What the subscriber heard and does not deal with itself.
#[derive(Debug)]
pub enum Heard {
    /// It is subscribed, as this incarnation; from now on nothing is missed.
    Subscribed {
        /// Of this node.
        incarnation: u64,
    },
    /// What it missed before it was subscribed has come, or will not.
    Synchronised {
        /// Of this node.
        incarnation: u64,
    },
    /// Its connection broke; it is opening another.
    Deaf,
    /// A node asked for something and wants to know what came of it.
    Asked {
        /// Names the request to the reactors.
        ticket: u64,
        /// Who asked.
        from: Member,
        /// The request's name at that node.
        id: u64,
        /// Who is to answer.
        until: Until,
        /// What the log is to say when it is answered; `None` for nothing.
        traced: Option<Box<Traced>>,
    },
    /// A node's message is a probe and was posted to our reactors.
    Probe {
        /// Its name, here.
        name: u32,
        /// Whose.
        from: Member,
        /// As it came.
        probe: Probe,
        /// When it was heard.
        heard: Micros,
    },
    /// A node answered a request of ours.
    Acked {
        /// Who.
        from: Member,
        /// Which request.
        id: u64,
        /// The user's connections there.
        connections: Vec<(ConnId, Outcome)>,
        /// Connections a broadcast was queued for.
        audience: u64,
        /// Reactors that did not confirm.
        unconfirmed: u64,
    },
    /// Ask the source for what did not come.
    Missing(Missing),
    /// A node asks for numbers of a stream of ours.
    Resend {
        /// Who asks.
        from: Member,
        /// Which stream.
        stream: Stream,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
    },
    /// Where this user is has changed.
    Forget(Box<str>),
    /// A life of a node was heard of that was not known, and given a name.
    Newcomer(SourceId, Member),
}

/// A request of another node that belongs to a trace.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The trace.
    pub trace: TraceId,
    /// What was asked for.
    pub call: &'static str,
    /// Whom it is about; `None` for everybody.
    pub user: Option<Box<str>>,
}

/// When a request of another node is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The user's home has said which connections there are.
    Located,
    /// Each of the user's connections has said what happened.
    Done,
    /// Every reactor has said whom a broadcast was queued for.
    Heard,
}

impl Weigh for ClusterMessage {
    fn weight(&self) -> usize {
        match self {
            ClusterMessage::Act { action, .. } => action.weight(),
            ClusterMessage::Broadcast { frame, .. } => frame.len(),
            ClusterMessage::Return { stray, .. } | ClusterMessage::Returned { stray, .. } => {
                stray.frame.len()
            }
            ClusterMessage::Users { users, .. } => users.len() * size_of::<Arc<str>>(),
            ClusterMessage::Joined(_)
            | ClusterMessage::Left(_)
            | ClusterMessage::Report { .. }
            | ClusterMessage::Page { .. }
            | ClusterMessage::Written { .. }
            | ClusterMessage::Heard(_) => 0,
        }
    }
}
