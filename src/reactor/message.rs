//! What travels between threads: closed sets, nothing boxed that could be a
//! variant.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustls::ServerConfig;

use super::mailbox::Weigh;
use crate::cluster::sources::SourceId;
use crate::config::Config;
use crate::hub::gather::Report;
use crate::ids::{ConnId, ReactorId};
use crate::trace::TraceId;
use crate::ws::frame::Frame;

/// Data for a reactor. Travels in its bounded mailbox.
#[derive(Debug)]
pub enum ReactorMessage {
    /// To a user's home: the user has this connection.
    Join {
        /// The user.
        user: Arc<str>,
        /// On the reactor that sent this.
        connection: ConnId,
    },
    /// To a user's home: the user no longer has this connection.
    Leave {
        /// The user.
        user: Arc<str>,
        /// The connection that ended.
        connection: ConnId,
    },
    /// To the owner of a connection: the user has too many of them.
    JoinRefused(ConnId),
    /// To a user's home: do this to each connection of the user.
    Route {
        /// The user.
        user: Box<str>,
        /// What is to be done.
        action: Action,
        /// Who wants to know.
        reply: ReplyTo,
    },
    /// To the owner of a connection: do this.
    Apply {
        /// The connection.
        connection: ConnId,
        /// What is to be done.
        action: Action,
        /// Who wants to know.
        reply: ReplyTo,
    },
    /// To a user's home: a client's message that came by way of the cluster;
    /// if no connection takes it, it goes back.
    Deliver {
        /// The user.
        user: Box<str>,
        /// The frame.
        frame: Frame,
        /// Where it came from.
        origin: Origin,
    },
    /// To the owner of a user's only connection: as [`ReactorMessage::Deliver`].
    Hand {
        /// The user.
        user: Box<str>,
        /// The connection.
        connection: ConnId,
        /// The frame.
        frame: Frame,
        /// Where it came from.
        origin: Origin,
    },
    /// To every reactor: send this to every connection.
    Broadcast {
        /// The frame.
        frame: Frame,
        /// Who wants to know.
        reply: ReplyTo,
    },
    /// To the reactor whose HTTP request asked.
    Report {
        /// Which request.
        ticket: u64,
        /// What came of it.
        report: Report,
    },
    /// To a user's home: whether the user is on other nodes as well.
    Elsewhere {
        /// The user.
        user: Box<str>,
        /// Whether it is.
        elsewhere: bool,
    },
    /// To every reactor: list users at home with you.
    Page {
        /// The user after whom to begin.
        after: String,
        /// At most so many.
        limit: usize,
        /// Who wants to know.
        reply: ReplyTo,
    },
    /// To every reactor: tell the cluster which users are at home with you.
    ListUsers {
        /// Goes into the answer.
        round: u64,
    },
    /// To the owner of the connection that sent a message: it could not be passed on.
    Unreachable {
        /// The sender.
        sender: ConnId,
    },
    /// To the owner of the connection that sent a message to a user who is offline.
    Undelivered {
        /// The sender.
        sender: ConnId,
        /// The user who is not there.
        user: Box<str>,
    },
}

/// Where a client's message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node that looks for the user.
    pub source: SourceId,
    /// The connection there that sent it.
    pub sender: ConnId,
    /// How often it came back before.
    pub tries: u8,
}

/// What is to be done to a user's connections.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send this frame.
    Deliver(Frame),
    /// Close, telling the peer why.
    Kick(Arc<Kick>),
    /// Nothing: only where they are is asked.
    Locate,
}

/// An administrator's wish.
#[derive(Debug, PartialEq, Eq)]
pub struct Kick {
    /// Goes into the close frame; the usual text when empty.
    pub reason: String,
    /// Sent before the close frame.
    pub farewell: Option<String>,
}

impl Action {
    pub(crate) fn weight(&self) -> usize {
        match self {
            Action::Deliver(frame) => frame.len(),
            Action::Kick(kick) => kick.reason.len() + kick.farewell.as_ref().map_or(0, String::len),
            Action::Locate => 0,
        }
    }
}

impl Weigh for ReactorMessage {
    /// Names are bounded by their own limit and count as nothing.
    fn weight(&self) -> usize {
        match self {
            ReactorMessage::Route { action, .. } | ReactorMessage::Apply { action, .. } => action.weight(),
            ReactorMessage::Broadcast { frame, .. }
            | ReactorMessage::Deliver { frame, .. }
            | ReactorMessage::Hand { frame, .. } => frame.len(),
            ReactorMessage::Join { .. }
            | ReactorMessage::Leave { .. }
            | ReactorMessage::JoinRefused(_)
            | ReactorMessage::Report { .. }
            | ReactorMessage::Elsewhere { .. }
            | ReactorMessage::ListUsers { .. }
            | ReactorMessage::Page { .. }
            | ReactorMessage::Unreachable { .. }
            | ReactorMessage::Undelivered { .. } => 0,
        }
    }
}

impl Weigh for Order {
    fn weight(&self) -> usize {
        0
    }
}

/// Who wants to know what came of it.
#[derive(Clone, Debug)]
pub enum ReplyTo {
    /// Nobody.
    Nobody,
    /// The client that sent it; told only when the user is offline.
    Client(ConnId),
    /// An HTTP request on a reactor.
    Request {
        /// Which reactor.
        reactor: ReactorId,
        /// Which request.
        ticket: u64,
        /// The trace it belongs to, if its caller said so.
        trace: Option<Arc<TraceId>>,
    },
    /// A thread of the program that embeds this library.
    Thread(Sender<Report>),
    /// Another node, by way of the cluster. What comes from there is not passed on to further nodes.
    Cluster {
        /// Which of its requests; `None` when it does not want to know.
        ticket: Option<u64>,
    },
}

impl ReplyTo {
    /// Whether the request came from another node.
    pub fn is_remote(&self) -> bool {
        matches!(self, ReplyTo::Cluster { .. })
    }

    /// The trace the request belongs to.
    pub fn trace(&self) -> Option<TraceId> {
        match self {
            ReplyTo::Request { trace, .. } => trace.as_deref().copied(),
            _ => None,
        }
    }

    /// Whether each connection's outcome is wanted.
    pub fn wants_reports(&self) -> bool {
        match self {
            ReplyTo::Request { .. } | ReplyTo::Thread(_) => true,
            ReplyTo::Cluster { ticket } => ticket.is_some(),
            ReplyTo::Nobody | ReplyTo::Client(_) => false,
        }
    }
}

/// An order for a reactor. Travels in a queue of its own that data cannot fill.
#[derive(Debug)]
pub enum Order {
    /// Tell every client, then close them as scheduled.
    Close {
        /// Told to the clients.
        reason: &'static str,
        /// Over which the closes are spread: that of the drain's beginning,
        /// whatever has been reloaded since.
        window: Duration,
    },
    /// Cut off what is left.
    Abort,
    /// New settings.
    Reload(Arc<Config>),
    /// Who we are, from now on, to clients that speak TLS.
    Tls(Arc<ServerConfig>),
    /// End the thread.
    Stop,
}

/// What a reactor tells the supervisor.
#[derive(Debug)]
pub enum News {
    /// It holds no WebSocket any more and was ordered to close them all.
    Drained {
        /// The reactor.
        reactor: ReactorId,
        /// What the drain did there.
        tally: Tally,
    },
    /// Its thread has ended, by order or not.
    Ended(ReactorId),
}

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Clients that were sent the notice.
    pub told: u64,
    /// Connections closed with a completed closing handshake, or by the peer.
    pub closed: u64,
    /// Connections cut off at the deadline.
    pub forced: u64,
    /// Business messages sent at the end, in simulation mode.
    pub business: u64,
}

/// A user's first or last connection on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The first connection came.
    Online(Arc<str>),
    /// The last connection went.
    Offline(Arc<str>),
}
