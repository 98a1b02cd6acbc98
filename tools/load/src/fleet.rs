//! Many client connections on one thread: opens them, reads and writes them, hands messages to a load.
//! Owns every socket. Never interprets a data message: the load does.

mod io;
mod open;
mod secure;

use crate::cli::Common;
use crate::target::Target;
use crate::tls::{self, Session};
use mio::net::TcpStream;
use mio::{Events, Poll};
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Size of the one read buffer, unless a message is larger.
const READ_BYTES: usize = 256 * 1024;
/// Different reasons for failures that are kept apart.
const REASONS_MAX: usize = 16;

/// What is done with messages.
pub(crate) trait Load {
    /// A data message arrived on connection `from`; `now` is in nanoseconds since the fleet began.
    fn message(&mut self, from: usize, opcode: u8, payload: &[u8], now: u64);
    /// All messages of one read have been handed over: what is put in the outbox is sent.
    fn read_done(&mut self, from: usize, now: u64, outbox: &mut Outbox);
    /// When something is to be sent that does not follow from what arrived; `None` for never.
    fn next_send(&self) -> Option<u64> {
        None
    }
    /// That time has come: what is put in the outbox is sent.
    fn send_due(&mut self, _now: u64, _outbox: &mut Outbox) {}
    /// Connection `index` is open; `welcome` is the first message if one is awaited. What is put in the outbox is sent.
    fn opened(&mut self, _index: usize, _welcome: &[u8], _now: u64, _outbox: &mut Outbox) {}
    /// Connection `index` has ended, or could not be opened. Told by a fleet that reopens; in it, silence is no fault.
    fn ended(&mut self, _index: usize, _reason: &str, _now: u64) {}
    /// A connection to open, by its number, and its path. Asked of a fleet that reopens, until there is none.
    fn next_open(&mut self, _now: u64) -> Option<(usize, String)> {
        None
    }
    /// When there will be one although nothing happened; `None` for never.
    fn next_open_at(&self) -> Option<u64> {
        None
    }
    /// Nothing more is expected.
    fn is_done(&self) -> bool {
        false
    }
}

/// The load while connections are opened: whatever arrives is dropped.
struct Ignore;

impl Load for Ignore {
    fn message(&mut self, _: usize, _: u8, _: &[u8], _: u64) {}
    fn read_done(&mut self, _: usize, _: u64, _: &mut Outbox) {}
}

/// Bytes to send on one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Connection that is written to; the one that was read unless the load says otherwise.
    pub(crate) target: usize,
    /// Whole frames.
    pub(crate) bytes: Vec<u8>,
}

/// Why `Fleet::run` came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The time was up.
    Deadline,
    /// The load was done.
    Done,
    /// Nothing arrived for the stall timeout.
    Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Securing,
    Handshaking,
    AwaitingWelcome,
    Ready,
}

struct Member {
    /// None once the connection has ended.
    stream: Option<TcpStream>,
    phase: Phase,
    /// On wss:// only.
    tls: Option<Box<Session>>,
    /// Start of a frame whose end has not arrived.
    partial: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

/// The connections and everything they share.
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    requests: Vec<Vec<u8>>,
    /// Servers; connections go to each in turn.
    targets: Vec<Target>,
    /// A second server, and which connections go there.
    peer: Option<(Target, Vec<bool>)>,
    /// What TLS connections are made with; there if any server is spoken to in TLS.
    tls: Option<Arc<ClientConfig>>,
    buffer: Vec<u8>,
    /// What the records of one read carried, behind the start of a frame.
    plain: Vec<u8>,
    /// Records that are about to be written.
    sealed: Vec<u8>,
    outbox: Outbox,
    began: Instant,
    last_message_at: u64,
    stall_timeout: Duration,
    opening: usize,
    welcome: bool,
    /// Connections made so far; each has a source of its own.
    made: usize,
    /// Connections that end are told to the load, which may have them opened again, and are not counted as lost.
    reopens: bool,
    /// Those it has not been told of yet, and why they ended.
    ended: Vec<(usize, String)>,
    /// Connections that are open and have had their welcome.
    pub(crate) ready: usize,
    /// TLS handshakes that resumed an earlier session, and all.
    pub(crate) resumed: u64,
    pub(crate) secured: u64,
    /// Connections that never got that far.
    pub(crate) refused: u64,
    /// Connections that ended after they had.
    pub(crate) lost: u64,
    /// What became of refused and lost connections, and how often.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// Seconds from the first connect to the last handshake.
    pub(crate) open_seconds: f64,
}

impl Fleet {
    /// Prepares for `connections` connections; an error if this process may not have that many descriptors.
    pub(crate) fn new(common: &Common, connections: usize) -> Result<Fleet, String> {
        open::raise_descriptor_limit(connections)?;
        let failed = |error: std::io::Error| format!("epoll: {error}");
        let targets: Vec<Target> =
            common.urls.iter().map(|url| Target::parse(url)).collect::<Result<_, _>>()?;
        let is_secure = targets.iter().any(|target| target.tls.is_some());
        Ok(Fleet {
            poll: Poll::new().map_err(failed)?,
            events: Events::with_capacity(1024),
            members: Vec::with_capacity(connections),
            requests: Vec::new(),
            targets,
            peer: None,
            tls: if is_secure { Some(tls::config(common)?) } else { None },
            buffer: vec![0; READ_BYTES],
            plain: Vec::new(),
            sealed: Vec::new(),
            outbox: Outbox::default(),
            began: Instant::now(),
            last_message_at: 0,
            stall_timeout: Duration::from_secs(common.stall_timeout),
            opening: 0,
            welcome: false,
            made: 0,
            reopens: false,
            ended: Vec::new(),
            ready: 0,
            resumed: 0,
            secured: 0,
            refused: 0,
            lost: 0,
            reasons: BTreeMap::new(),
            open_seconds: 0.0,
        })
    }

    /// Has the connections for which `is_there` is true opened to another server.
    pub(crate) fn set_peer(&mut self, common: &Common, url: &str, is_there: Vec<bool>) -> Result<(), String> {
        let peer = Target::parse(url)?;
        if peer.tls.is_some() && self.tls.is_none() {
            self.tls = Some(tls::config(common)?);
        }
        self.peer = Some((peer, is_there));
        Ok(())
    }

    /// From now on the load is told of ends and says what is opened again.
    pub(crate) fn reopen(&mut self, common: &Common, path: &str) {
        self.reopens = true;
        self.welcome = open::awaits_welcome(common, path);
    }

    /// Where the `index`-th connection goes.
    fn target_of(&self, index: usize) -> &Target {
        match &self.peer {
            Some((peer, is_there)) if is_there.get(index) == Some(&true) => peer,
            _ => &self.targets[index % self.targets.len()],
        }
    }

    /// Serves the connections until the deadline, until the load is done or until nothing arrives any more.
    pub(crate) fn run(&mut self, load: &mut impl Load, deadline: Instant) -> Result<Outcome, String> {
        self.last_message_at = self.now();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if load.is_done() {
                return Ok(Outcome::Done);
            } else if left.is_zero() {
                return Ok(Outcome::Deadline);
            } else if !self.reopens
                && self.now() - self.last_message_at > self.stall_timeout.as_nanos() as u64
            {
                return Ok(Outcome::Stalled);
            }
            let due = self.send_due(load).map_or(left, |due| due.min(left));
            self.open_again(load)?;
            let open_at = load.next_open_at().map(|at| Duration::from_nanos(at.saturating_sub(self.now())));
            let timeout = open_at.map_or(due, |open| open.min(due));
            self.turn(load, timeout.min(Duration::from_millis(100)))?;
        }
    }

    /// Sends all that is due; how long until there is more.
    fn send_due(&mut self, load: &mut impl Load) -> Option<Duration> {
        let mut outbox = std::mem::take(&mut self.outbox);
        let next = loop {
            let now = self.now();
            match load.next_send() {
                Some(due) if due <= now => load.send_due(now, &mut outbox),
                next => break next.map(|due| Duration::from_nanos(due - now)),
            }
            self.send(outbox.target, &outbox.bytes);
            outbox.bytes.clear();
        };
        self.outbox = outbox;
        next
    }

    /// Serves the connections for a time in which nothing is expected.
    pub(crate) fn idle(&mut self, time: Duration) -> Result<(), String> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(&mut Ignore, left)?;
        }
    }

    /// Nanoseconds since the fleet began.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Connections that are open.
    pub(crate) fn open_indexes(&self) -> Vec<usize> {
        let open = |index: &usize| self.members[*index].stream.is_some();
        (0..self.members.len()).filter(open).collect()
    }
}

/// Counts a reason; when there are many, new ones are put together.
pub(crate) fn note(reasons: &mut BTreeMap<String, u64>, reason: String) {
    let known = reasons.len() < REASONS_MAX || reasons.contains_key(&reason);
    *reasons.entry(if known { reason } else { "other reasons".into() }).or_insert(0) += 1;
}
