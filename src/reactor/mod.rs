//! A reactor: one thread, one epoll, its own listeners, connections and part
//! of the directory. The only place that touches client sockets.
//!
//! Owns: [`Reactor`] and its turn. What arrives is handed to the pure parts
//! (`ws`, `protocol`, `hub`, `admin`), what they want sent is laid out by
//! [`outgoing`] and written once at the end of the turn.
//!
//! A turn: wait; read the clock, once; take orders; empty the mailbox, so that
//! nothing that happened before an event is learnt after it; accept and read;
//! sweep for deadlines; write; free the slots of the dead.

pub mod conn_table;
pub mod connection;
pub(crate) mod door;
pub mod mailbox;
pub mod message;
pub mod outbound;
pub mod outgoing;
pub mod shared;
pub mod sweep;
pub mod transport;

mod accept;
mod asks;
mod batch;
mod closing;
mod deliver;
mod ending;
mod expiry;
mod flush;
mod inbox;
mod latency;
mod permits;
mod read;
mod record;
mod requests;
mod simulate;
mod strays;
mod tls;
mod upgrade;
mod websocket;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::Sender;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ServerConfig;

use crate::clock::Tick;
use crate::cluster::message::ClusterMessage;
use crate::config::Config;
use crate::hub::Hub;
use crate::ids::{ConnId, ReactorId};
use crate::limits;
use crate::metrics::{Counter, Gauge, ThreadCounters, Timing};
use crate::net;
use crate::tls::Sessions;
use crate::ws::deflate::{Deflater, Inflater};

use asks::Asks;
use batch::Batches;
use closing::Closing;
use conn_table::ConnTable;
use connection::Connection;
use deliver::Members;
use door::Spare;
use expiry::Expiries;
use latency::Latency;
use mailbox::{Inbox, Mailbox, mailbox};
use message::{News, Order, ReactorMessage};
use outgoing::Outgoing;
use permits::Reaches;
use record::Records;
use shared::Shared;
use sweep::Sweep;

const WAKER: Token = Token(usize::MAX);
const LISTENERS: [Token; 2] = [Token(usize::MAX - 1), Token(usize::MAX - 2)];

/// One turn in so many is measured.
const TURNS_A_TIMING: u8 = 16;

/// A listener of this reactor.
struct Door {
    listener: TcpListener,
    /// Whether it speaks WebSocket on any path.
    any_path: bool,
    /// Whether it speaks TLS.
    tls: bool,
    /// Connections may be waiting although no event says so.
    waiting: bool,
}

/// The parts of a reactor that exist before its thread does.
pub struct Parts {
    me: ReactorId,
    poll: Poll,
    doors: Vec<Door>,
    inbox: Inbox<ReactorMessage>,
    orders: Inbox<Order>,
}

/// The ways into a reactor.
pub struct Ways {
    /// For data.
    pub mailbox: Mailbox<ReactorMessage>,
    /// For orders.
    pub orders: Mailbox<Order>,
}

impl Parts {
    /// Opens the epoll, the waker and the queues of reactor `me` and registers
    /// its listeners, each with whether it speaks TLS. If one does, an
    /// [`Order::Tls`] is to be in the queue before the first turn.
    ///
    /// # Errors
    /// Whatever the kernel says; descriptors may have run out.
    pub fn new(
        me: ReactorId,
        http: (TcpListener, bool),
        any_path: Option<(TcpListener, bool)>,
    ) -> io::Result<(Parts, Ways)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (mailbox, inbox) = mailbox(limits::MAILBOX_MESSAGES, limits::MAILBOX_BYTES, waker.clone());
        let (order_box, orders) = self::mailbox(limits::CONTROL_MESSAGES, limits::MAILBOX_BYTES, waker);
        let door = |(listener, tls), any_path| Door { listener, any_path, tls, waiting: false };
        let mut doors = vec![door(http, false)];
        doors.extend(any_path.map(|listener| door(listener, true)));
        for (door, token) in doors.iter_mut().zip(LISTENERS) {
            poll.registry().register(&mut door.listener, token, Interest::READABLE)?;
        }
        Ok((Parts { me, poll, doors, inbox, orders }, Ways { mailbox, orders: order_box }))
    }

    /// The descriptors only this reactor uses. The waker is not among them: others ring it.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let listeners = self.doors.iter().map(|door| door.listener.as_raw_fd());
        listeners.chain([self.poll.as_raw_fd()]).collect()
    }
}

/// Where bytes are read to, and inflated.
struct Reader {
    buffer: Box<[u8]>,
    inflater: Inflater,
}

/// The timestamp of the turn, formatted when first asked for.
#[derive(Default)]
struct Stamp {
    text: String,
    fresh: bool,
}

/// One thread's share of the node.
pub struct Reactor {
    me: ReactorId,
    shared: Arc<Shared>,
    config: Arc<Config>,
    news: Sender<News>,
    poll: Poll,
    doors: Vec<Door>,
    inbox: Inbox<ReactorMessage>,
    orders: Inbox<Order>,
    /// Messages that must arrive and found a mailbox full. Bounded by the
    /// connections that have joined a home elsewhere.
    backlog: VecDeque<(ReactorId, ReactorMessage)>,
    /// The same for the cluster.
    cluster_backlog: VecDeque<ClusterMessage>,
    table: ConnTable<Connection>,
    /// Who we are to those that speak TLS.
    identity: Option<Arc<ServerConfig>>,
    /// Their sessions.
    sessions: Sessions,
    /// What the log will say of connections; empty unless it says it of all.
    records: Records,
    hub: Hub,
    outgoing: Outgoing,
    /// Open connections, by what a broadcast must do for them.
    members: Members,
    /// Connections that became WebSockets and have not ended.
    websockets: u64,
    /// Bytes in outbound queues, and sealed ones that wait for their sockets.
    outbound_bytes: usize,
    /// For copying the connections of a user out of the hub.
    targets: Vec<ConnId>,
    /// `None` while its parts are in use further up the stack.
    reader: Option<Box<Reader>>,
    deflater: Deflater,
    /// For building a message before its length is known.
    scratch: Vec<u8>,
    /// Connections that used up their budget and have more to read.
    read_again: Vec<u32>,
    /// Connections whose handshakes can go on. One that has ended stands here
    /// until it would have been its turn.
    handshakes: VecDeque<u32>,
    asks: Asks,
    batches: Batches,
    sweep: Sweep,
    /// Until when connections may stay.
    expiries: Expiries,
    /// To whom they may send.
    reaches: Reaches,
    /// The table was shrunk in the last pass; what hung off its rows can be given back as well.
    crowd_left: bool,
    closing: Option<Closing>,
    spare: Spare,
    now: Tick,
    /// When the turn began, since the node's start; as exact as the clock is.
    began: Duration,
    latency: Latency,
    /// Turns taken, modulo 256.
    turns: u8,
    stamp: Stamp,
}

impl Reactor {
    /// Puts a reactor together; everything it needs is allocated here, before readiness is announced.
    ///
    /// # Errors
    /// When the spare descriptor cannot be opened.
    pub fn new(
        parts: Parts,
        shared: Arc<Shared>,
        config: Arc<Config>,
        news: Sender<News>,
    ) -> io::Result<Self> {
        let rows = config.max_connections.div_ceil(config.reactors).min(1 << 20);
        let reader = Reader {
            buffer: vec![0; limits::READ_BUFFER_BYTES].into_boxed_slice(),
            inflater: Inflater::new(),
        };
        Ok(Reactor {
            me: parts.me,
            hub: Hub::new(parts.me, shared.homes.clone()),
            table: ConnTable::with_capacity(parts.me, rows),
            identity: None,
            sessions: Sessions::default(),
            records: Records::default(),
            sweep: Sweep::new(&config),
            shared,
            config,
            news,
            poll: parts.poll,
            doors: parts.doors,
            inbox: parts.inbox,
            orders: parts.orders,
            backlog: VecDeque::new(),
            cluster_backlog: VecDeque::new(),
            outgoing: Outgoing::default(),
            members: Members::default(),
            websockets: 0,
            outbound_bytes: 0,
            targets: Vec::new(),
            reader: Some(Box::new(reader)),
            deflater: Deflater::new(),
            scratch: Vec::new(),
            read_again: Vec::new(),
            handshakes: VecDeque::new(),
            asks: Asks::default(),
            batches: Batches::default(),
            expiries: Expiries::default(),
            reaches: Reaches::default(),
            crowd_left: false,
            closing: None,
            spare: Spare::open()?,
            now: Tick::default(),
            began: Duration::ZERO,
            latency: Latency::default(),
            turns: 0,
            stamp: Stamp::default(),
        })
    }

    /// Takes turns until ordered to stop, or until the kernel's poll fails.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(limits::EVENTS_PER_TURN);
        loop {
            if let Err(error) = self.poll.poll(&mut events, Some(self.patience())) {
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                log::error!("reactor {} cannot wait for events: {error}", self.me.0);
                return;
            }
            if !self.timed_turn(&events) {
                return;
            }
        }
    }

    /// One turn, which is measured if it is its turn to be: a second look at the
    /// clock in each would be felt, as a turn may be one small message.
    fn timed_turn(&mut self, events: &Events) -> bool {
        self.turns = self.turns.wrapping_add(1);
        if !self.turns.is_multiple_of(TURNS_A_TIMING) {
            return self.turn(events);
        }
        let began = self.shared.started.elapsed();
        let goes_on = self.turn(events);
        self.counters().took(Timing::Turn, self.shared.started.elapsed().saturating_sub(began));
        goes_on
    }

    /// One turn; false when it was ordered to be the last.
    fn turn(&mut self, events: &Events) -> bool {
        self.began = self.shared.started.elapsed();
        self.now = Tick::at(self.began);
        self.stamp.fresh = false;
        if !self.take_orders() {
            self.take_leave();
            return false;
        }
        self.empty_inbox();
        self.post_backlog();
        self.post_cluster_backlog();
        for event in events {
            match LISTENERS.iter().position(|token| *token == event.token()) {
                // A door that was shut in this turn may have had an event before.
                Some(door) => self.doors.get_mut(door).into_iter().for_each(|door| door.waiting = true),
                None if event.token() == WAKER => self.count(Counter::Wakes, 1),
                None => self.ready(event),
            }
        }
        self.accept_waiting();
        self.go_on_with_handshakes();
        self.read_leftovers();
        self.sweep_slice();
        self.close_expired();
        self.give_up_on_asks();
        self.send_due_batches();
        self.go_on_closing();
        self.flush();
        self.time_deliveries();
        self.table.reap();
        // Last: what the writing ended is not to be shown until another turn comes.
        self.publish_gauges();
        true
    }

    /// Whoever waits for an answer gets it before the end: what came in last, or what is known.
    fn take_leave(&mut self) {
        self.empty_inbox();
        self.close_all_asks();
        self.flush();
    }

    /// How long to wait for events.
    fn patience(&self) -> Duration {
        let work_left = !self.read_again.is_empty()
            || !self.handshakes.is_empty()
            || self.doors.iter().any(|door| door.waiting)
            || self.closing.as_ref().is_some_and(Closing::has_notices_left);
        if work_left {
            return Duration::ZERO;
        }
        let mut ticks = self.sweep.ticks_left(self.now);
        if !self.backlog.is_empty() || !self.cluster_backlog.is_empty() {
            ticks = ticks.min(1);
        }
        if let Some(due) = self.batches.ticks_left(self.now) {
            ticks = ticks.min(due);
        }
        if let Some(due) = self.expiries.ticks_left(self.now) {
            ticks = ticks.min(due);
        }
        if let Some(due) = self.closing.as_ref().and_then(|closing| closing.ticks_left(self.now)) {
            ticks = ticks.min(due);
        }
        Duration::from_millis(u64::from(ticks.max(1)) * u64::from(Tick::MS))
    }

    fn counters(&self) -> &ThreadCounters {
        self.shared.metrics.thread(self.me)
    }

    fn count(&self, counter: Counter, times: u64) {
        self.counters().add(counter, times);
    }

    /// The turn's wall-clock time, RFC 3339 with milliseconds, UTC.
    fn timestamp(&mut self) -> &str {
        if !self.stamp.fresh {
            use std::fmt::Write;
            self.stamp.text.clear();
            // Writing to a String cannot fail.
            let _ = write!(self.stamp.text, "{}", humantime::format_rfc3339_millis(SystemTime::now()));
            self.stamp.fresh = true;
        }
        &self.stamp.text
    }

    fn publish_gauges(&self) {
        let counters = self.counters();
        counters.add(Counter::Turns, 1);
        counters.set(Gauge::Connections, self.websockets);
        counters.set(Gauge::OutboundBytes, self.outbound_bytes as u64);
        counters.set(Gauge::Sockets, self.table.len() as u64);
        counters.set(Gauge::Users, self.hub.users() as u64);
    }
}

/// What a reactor's thread does, from its first breath to its last.
///
/// With `foreign`, the descriptors that other reactors own, the thread takes a
/// descriptor table of its own and closes its copies of them.
///
/// # Errors
/// When the table or the reactor cannot be made.
pub fn settle_in(
    parts: Parts,
    shared: Arc<Shared>,
    config: Arc<Config>,
    news: Sender<News>,
    foreign: Option<&[RawFd]>,
) -> io::Result<Reactor> {
    if let Some(foreign) = foreign {
        net::own_descriptor_table()?;
        net::close_copies(foreign);
    }
    Reactor::new(parts, shared, config, news)
}
