//! A node: its reactors, its supervisor, and the handle a program holds.
//!
//! Owns: [`Server`]. Wires everything together and then stays out of the way:
//! no message passes through here unless a program sends it by the handle.

mod crew;
mod start;
pub(crate) mod supervisor;
pub(crate) mod threads;
mod token_keys;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

pub use start::StartError;
pub use supervisor::{Ending, ServerEvent};

use crate::cluster::message::ClusterMessage;
use crate::config::Config;
use crate::delivery::{BroadcastResult, KickResult, SendResult, UserConnections};
use crate::drain::Phase;
use crate::hub::gather::{Gather, RemoteNode, Report};
use crate::identity::Identity;
use crate::ids::ReactorId;
use crate::limits::{ANSWER_TIMEOUT, CONNECTIONS_PER_USER};
use crate::metrics::{Counter, Metrics};
use crate::net::Inherited;
use crate::reactor::message::{Action, Kick, Presence, ReactorMessage, ReplyTo};
use crate::reactor::shared::Shared;
use crate::ws::frame::Frame;
use supervisor::Command;

/// Presence events that wait for a listener before further ones are dropped and counted.
const PRESENCE_EVENTS: usize = 64 * 1024;

/// A running node.
///
/// All methods may be called from any thread. Dropping the handle ends the
/// node at once, without a drain; [`Server::drain`] and [`Server::wait`] end it well.
///
/// ```
/// use throng::{Config, Server};
///
/// let config = Config { port: 0, ws_port: None, ..Config::default() };
/// let server = Server::start(config)?;
/// println!("clients connect to ws://{}/ws?user_id=alice", server.http_addr());
///
/// let result = server.send_to_user("alice", r#"{"hello":"alice"}"#);
/// assert_eq!(result.status, throng::delivery::Status::Offline, "nobody has connected yet");
/// assert_eq!(server.broadcast(r#"{"hello":"all"}"#).connections, 0);
///
/// server.drain();
/// server.wait();
/// # Ok::<(), throng::server::StartError>(())
/// ```
pub struct Server {
    shared: Arc<Shared>,
    identity: Identity,
    ws_addr: Option<SocketAddr>,
    tls: start::Tls,
    commands: Sender<Command<Config>>,
    events: Receiver<ServerEvent>,
    supervisor: Option<JoinHandle<Ending>>,
}

/// The reactor was too busy to take the message; nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded;

/// What a kick does besides closing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KickOptions {
    /// Goes into the close frame, cut to 123 bytes; empty for the usual text.
    pub reason: String,
    /// Whether a message is sent before the close frame.
    pub notify: bool,
    /// That message; `None` for `{"type":"kicked","reason":…}`.
    pub message: Option<String>,
}

impl Server {
    /// Starts a node. When this returns it is serving.
    ///
    /// # Errors
    /// A configuration out of bounds, an address in use, or a resource the
    /// kernel does not grant; the text says which and what to do.
    pub fn start(config: Config) -> Result<Server, StartError> {
        start::start(config, Inherited::default())
    }

    /// Starts a node with the sockets that the service manager passed, instead
    /// of those it would open: `http` for [`Config::port`], `ws` for [`Config::ws_port`].
    ///
    /// # Errors
    /// As [`Server::start`]; a socket of another name.
    pub fn start_with(config: Config, inherited: Inherited) -> Result<Server, StartError> {
        start::start(config, inherited)
    }

    /// Where HTTP and `/ws` are served; with port 0 the port that was free.
    pub fn http_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Where WebSocket is spoken on any path, if configured.
    pub fn ws_addr(&self) -> Option<SocketAddr> {
        self.ws_addr
    }

    /// Which listeners speak TLS: `http,ws`, one of the two, or nothing.
    pub fn tls_listeners(&self) -> &'static str {
        match (self.tls.http, self.tls.ws) {
            (true, true) => "http,ws",
            (true, false) => "http",
            (false, true) => "ws",
            (false, false) => "",
        }
    }

    /// The node's id.
    pub fn node_id(&self) -> &str {
        &self.shared.node_id
    }

    /// What the node says about itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The node's counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// WebSocket connections open now.
    pub fn connections(&self) -> usize {
        self.shared.open.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Where the node is in its life.
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// Sends a text message to every connection of a user and says what became
    /// of it for each. `message` is sent as it is; clients expect JSON.
    ///
    /// Blocks until all have reported, at most [`ANSWER_TIMEOUT`].
    pub fn send_to_user(&self, user: &str, message: &str) -> SendResult {
        let gather = self.ask_home(user, deliver(message), Gather::is_complete);
        gather.send_result(user, self.node_id())
    }

    /// Sends a text message to a user without waiting for what becomes of it.
    ///
    /// # Errors
    /// [`Overloaded`] when the user's home takes no more at present.
    pub fn post_to_user(&self, user: &str, message: &str) -> Result<(), Overloaded> {
        let message =
            ReactorMessage::Route { user: user.into(), action: deliver(message), reply: ReplyTo::Nobody };
        if self.post(self.home(user), message) { Ok(()) } else { Err(Overloaded) }
    }

    /// Sends a text message to every connection.
    ///
    /// Blocks until every reactor has queued it, at most [`ANSWER_TIMEOUT`].
    pub fn broadcast(&self, message: &str) -> BroadcastResult {
        let reactors = self.shared.mailboxes.len();
        let frame = Frame::text(message.as_bytes());
        let submit = |reply: &ReplyTo| {
            let message = |_| ReactorMessage::Broadcast { frame: frame.clone(), reply: reply.clone() };
            let posted = |index: usize| self.post(ReactorId(index as u8), message(index));
            self.tell_other_nodes(&frame, reply);
            (0..reactors).filter(|index| !posted(*index)).count()
        };
        let empty =
            if self.shared.cluster.is_some() { Gather::with_other_nodes() } else { Gather::default() };
        let gather = self.gather(empty, reactors + 1, submit, |gather| gather.is_heard(reactors));
        gather.broadcast_result(self.node_id(), reactors)
    }

    /// Closes every connection of a user with code 4003.
    ///
    /// Blocks until all have reported, at most [`ANSWER_TIMEOUT`].
    pub fn kick_user(&self, user: &str, options: &KickOptions) -> KickResult {
        let kick = Kick::new(&options.reason, options.notify, options.message.as_deref());
        let gather = self.ask_home(user, Action::Kick(Arc::new(kick)), Gather::is_complete);
        gather.kick_result(user, self.node_id())
    }

    /// Where a user is connected.
    ///
    /// # Errors
    /// [`Overloaded`] when the user's home did not answer within [`ANSWER_TIMEOUT`].
    pub fn user_connections(&self, user: &str) -> Result<UserConnections, Overloaded> {
        let gather = self.ask_home(user, Action::Locate, Gather::is_located);
        gather.user_connections(user, self.node_id()).ok_or(Overloaded)
    }

    /// Users' first and last connections, from the first call on. Clones of the
    /// receiver share the events. What is not taken fast enough is dropped and counted.
    ///
    /// `None` when it was called before: there is one stream of events.
    pub fn presence(&self) -> Option<Receiver<Presence>> {
        let (sender, receiver) = bounded(PRESENCE_EVENTS);
        self.shared.presence.set(sender).ok().map(|()| receiver)
    }

    /// Begins to drain: lame duck, notices, closes spread over the window.
    /// Returns at once; [`Server::wait`] waits for the end.
    pub fn drain(&self) {
        self.command(Command::Drain);
    }

    /// Takes over the settings of `config` that can change while the node
    /// runs. Returns the keys that changed, and those that differ but need a restart.
    pub fn reload(&self, config: &Config) -> (Vec<&'static str>, Vec<&'static str>) {
        let (sender, receiver) = bounded(1);
        self.command(Command::Reload(Box::new(config.clone()), sender));
        receiver.recv().unwrap_or_default()
    }

    /// What happens to the node: its phases, its end.
    pub fn events(&self) -> &Receiver<ServerEvent> {
        &self.events
    }

    /// Whether every reactor has taken a turn since `turns` was filled; fills it anew.
    /// Reactors take turns at least once a second, traffic or not.
    pub fn is_alive_since(&self, turns: &mut Vec<u64>) -> bool {
        let count = |index| self.shared.metrics.thread(ReactorId(index as u8)).get(Counter::Turns);
        let now: Vec<u64> = (0..self.shared.mailboxes.len()).map(count).collect();
        let alive = turns.iter().zip(&now).all(|(before, after)| before != after);
        *turns = now;
        alive
    }

    /// Waits until the node has ended and says how.
    pub fn wait(mut self) -> Ending {
        self.join()
    }

    fn join(&mut self) -> Ending {
        let ended = self.supervisor.take().map(JoinHandle::join);
        ended.and_then(Result::ok).unwrap_or(Ending::Failed)
    }

    fn command(&self, command: Command<Config>) {
        // A node that has ended takes no commands.
        drop(self.commands.send(command));
    }

    fn home(&self, user: &str) -> ReactorId {
        let homes = &self.shared.homes;
        homes.anonymous_connection(user).map_or_else(|| homes.of(user), |connection| connection.reactor())
    }

    fn post(&self, reactor: ReactorId, message: ReactorMessage) -> bool {
        self.shared.mailbox(reactor).is_some_and(|mailbox| mailbox.post(message).is_ok())
    }

    /// Has the cluster broadcast; says at once if it cannot.
    fn tell_other_nodes(&self, frame: &Frame, reply: &ReplyTo) {
        let Some(cluster) = &self.shared.cluster else { return };
        let message = ClusterMessage::Broadcast { frame: frame.clone(), reply: reply.clone() };
        if let (Err(_), ReplyTo::Thread(caller)) = (cluster.post(message), reply) {
            drop(caller.try_send(Report::Remote(vec![RemoteNode::all_unavailable()])));
        }
    }

    fn ask_home(&self, user: &str, action: Action, is_done: fn(&Gather) -> bool) -> Gather {
        let submit = |reply: &ReplyTo| {
            let message = ReactorMessage::Route { user: user.into(), action, reply: reply.clone() };
            usize::from(!self.post(self.home(user), message))
        };
        self.gather(Gather::default(), CONNECTIONS_PER_USER + 2, submit, is_done)
    }

    /// Submits a request and collects what is reported until it is done or time is up.
    /// `submit` returns how many mailboxes refused it.
    fn gather(
        &self,
        mut gather: Gather,
        reports_max: usize,
        submit: impl FnOnce(&ReplyTo) -> usize,
        is_done: impl Fn(&Gather) -> bool,
    ) -> Gather {
        let (sender, reports) = bounded(reports_max);
        let reply = ReplyTo::Thread(sender);
        for _ in 0..submit(&reply) {
            gather.absorb(Report::Overloaded);
        }
        // From here on only reactors hold the other end.
        drop(reply);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while !is_done(&gather) {
            match reports.recv_deadline(deadline) {
                Ok(report) => gather.absorb(report),
                Err(_) => break,
            }
        }
        gather
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.command(Command::Stop);
        self.join();
    }
}

fn deliver(message: &str) -> Action {
    Action::Deliver(Frame::text(message.as_bytes()))
}
