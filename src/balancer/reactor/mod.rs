//! A reactor of the balancer: one thread, one epoll, its own listener and pairs.
//! The only place that touches the sockets of clients and backends.
//!
//! Owns: [`Reactor`] and its turn. Heads are read by
//! [`head`](crate::balancer::head), backends picked by
//! [`pick`](crate::balancer::pick), requests of the API answered by
//! [`api`](crate::balancer::api); what is left here is bytes and time.
//!
//! A turn: wait; read the clock, once; take orders and mail; see whether the
//! directory has changed; accept, read and write; see who is due; serve the
//! queue; free the slots of the dead.

mod accept;
mod answering;
mod end_line;
mod ending;
mod message;
mod opening;
mod own;
mod pair;
mod pump;
mod queue;
mod request;
mod sealed;
mod shared;
mod survey;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Poll, Token, Waker};

pub use message::{Order, ReactorMessage};
pub use shared::Shared;

use super::config::BalanceConfig;
use super::director::Observed;
use super::ended::Ended;
use super::metrics::{Counter, Gauge};
use super::pick::Picker;
use super::roster::{BackendId, Directory};
use crate::ids::ReactorId;
use crate::limits;
use crate::net;
use crate::reactor::conn_table::ConnTable;
use crate::reactor::door::Spare;
use crate::reactor::mailbox::{Inbox, Mailbox, mailbox};
use crate::reactor::message::News;
use ending::Closing;
use own::Pending;
use pair::{Pair, Side, Stage, Step};
use sealed::Tls;
use timers::{Millis, Timers};

const WAKER: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);

/// Longest wait while nothing is due.
const IDLE: Duration = Duration::from_millis(500);

/// Wait while clients are queued or an answer of the director is outstanding.
const SOON: Duration = Duration::from_millis(10);

/// Between two looks at whether the table can be made smaller.
const TIDY_MS: Millis = 1000;

/// The token of one side of a pair.
fn token(slot: u32, side: Side) -> Token {
    Token((slot as usize) << 1 | usize::from(side == Side::Backend))
}

/// The parts of a reactor that exist before its thread does.
pub struct Parts {
    me: ReactorId,
    poll: Poll,
    listener: TcpListener,
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
    /// Opens the epoll, the waker and the queues of reactor `me`. Its listener
    /// is open; the reactor accepts once it is ordered to.
    ///
    /// # Errors
    /// Whatever the kernel says; descriptors may have run out.
    pub fn new(me: ReactorId, listener: TcpListener) -> io::Result<(Parts, Ways)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (mailbox, inbox) = mailbox(limits::MAILBOX_MESSAGES, limits::MAILBOX_BYTES, waker.clone());
        let (order_box, orders) = self::mailbox(limits::CONTROL_MESSAGES, limits::MAILBOX_BYTES, waker);
        Ok((Parts { me, poll, listener, inbox, orders }, Ways { mailbox, orders: order_box }))
    }

    /// The descriptors only this reactor uses. The waker is not among them: others ring it.
    pub fn descriptors(&self) -> Vec<RawFd> {
        vec![self.listener.as_raw_fd(), self.poll.as_raw_fd()]
    }
}

/// One thread's share of the balancer.
pub struct Reactor {
    me: ReactorId,
    shared: Arc<Shared>,
    config: Arc<BalanceConfig>,
    news: Sender<News>,
    poll: Poll,
    listener: TcpListener,
    /// Connections may be waiting although no event says so.
    has_callers: bool,
    /// The same, but there was no descriptor for them.
    callers_left: bool,
    /// Callers are left to the next process.
    is_shut: bool,
    spare: Spare,
    inbox: Inbox<ReactorMessage>,
    orders: Inbox<Order>,
    table: ConnTable<Pair>,
    /// The sessions of those that speak TLS.
    tls: Tls,
    /// What is known of the backends, and in which version.
    directory: Arc<Directory>,
    picker: Picker,
    /// Where bytes are read to; empty while in use further up the stack.
    buffer: Box<[u8]>,
    /// Pairs that used up their budget and have more to pump.
    waiting: Vec<u32>,
    /// Clients whose handshakes of TLS can go on, slot and generation.
    handshakes: VecDeque<(u32, u32)>,
    /// Pairs for which there was no room at any backend, slot and generation.
    queue: VecDeque<(u32, u32)>,
    timers: Timers,
    /// Clients of backends that were lost in this turn, by the age of their
    /// connections in seconds.
    lost: Vec<(BackendId, u64, u32)>,
    /// Rows whose request was passed on, or is to be.
    pairs: usize,
    /// Listeners to events.
    listeners: usize,
    /// Bytes held for sides that take less than they are sent.
    held_bytes: usize,
    /// Requests the director has not answered.
    pending: Vec<Pending>,
    closing: Option<Closing>,
    /// When memory of those who left is given back next.
    tidy_at: Millis,
    /// The table was shrunk the last time; what hung off its rows can be given back as well.
    crowd_left: bool,
    /// Milliseconds since the balancer started, as of this turn.
    now: Millis,
}

impl Reactor {
    /// Puts a reactor together; everything it needs is allocated here, before readiness is announced.
    ///
    /// # Errors
    /// When the spare descriptor cannot be opened.
    pub fn new(
        parts: Parts,
        shared: Arc<Shared>,
        config: Arc<BalanceConfig>,
        news: Sender<News>,
    ) -> io::Result<Self> {
        let rows = config.max_connections.div_ceil(config.reactors).min(1 << 16);
        Ok(Reactor {
            me: parts.me,
            table: ConnTable::with_capacity(parts.me, rows),
            tls: Tls::default(),
            directory: shared.directory(),
            picker: Picker::new(config.strategy, fastrand::u64(..), shared.rotor.clone()),
            shared,
            buffer: buffer(&config),
            config,
            news,
            poll: parts.poll,
            listener: parts.listener,
            has_callers: false,
            callers_left: false,
            is_shut: false,
            spare: Spare::open()?,
            inbox: parts.inbox,
            orders: parts.orders,
            waiting: Vec::new(),
            handshakes: VecDeque::new(),
            queue: VecDeque::new(),
            timers: Timers::default(),
            lost: Vec::new(),
            pairs: 0,
            listeners: 0,
            held_bytes: 0,
            pending: Vec::new(),
            closing: None,
            tidy_at: 0,
            crowd_left: false,
            now: 0,
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
            if !self.turn(&events) {
                return;
            }
        }
    }

    /// One turn; false when it was ordered to be the last.
    fn turn(&mut self, events: &Events) -> bool {
        self.now = self.shared.started.elapsed().as_millis() as Millis;
        self.has_callers |= std::mem::take(&mut self.callers_left);
        if !self.take_orders() {
            return false;
        }
        self.take_mail();
        self.look_at_directory();
        for event in events {
            match event.token() {
                LISTENER => self.has_callers = true,
                WAKER => self.count(Counter::Wakes, 1),
                _ => self.ready(event),
            }
        }
        self.accept_waiting();
        self.go_on_with_handshakes();
        self.pump_waiting();
        self.handle_due();
        self.serve_queue();
        self.go_on_closing();
        self.answer_pending();
        self.report_losses();
        self.table.reap();
        if self.now >= self.tidy_at {
            self.tidy_at = self.now + TIDY_MS;
            if self.table.shrink() {
                self.tls.shrink(self.table.high_water());
                self.crowd_left = true;
            } else if std::mem::take(&mut self.crowd_left) {
                crate::memory::give_back();
            }
        }
        self.publish_gauges();
        true
    }

    /// How long to wait for events.
    fn patience(&self) -> Duration {
        let has_clients_waiting = !self.waiting.is_empty() || !self.handshakes.is_empty();
        if has_clients_waiting || self.has_callers || self.has_closes_left() {
            return Duration::ZERO;
        }
        let is_calm = self.queue.is_empty() && self.pending.is_empty() && !self.callers_left;
        let longest = if is_calm { IDLE } else { SOON };
        let due = self.timers.next().map(|due| Duration::from_millis(due.saturating_sub(self.now).max(1)));
        due.map_or(longest, |due| due.min(longest))
    }

    fn take_orders(&mut self) -> bool {
        self.orders.begin();
        while let Some(order) = self.orders.pop() {
            match order {
                Order::Accept if !self.open_door() => return false,
                Order::Accept => {}
                Order::Close { window } => self.begin_closing(window),
                Order::Abort => self.abort(),
                Order::Reload(config) => self.reload(config),
                Order::Tls { identity, peers } => (self.tls.identity, self.tls.peers) = (identity, peers),
                Order::Stop => return false,
            }
        }
        true
    }

    fn reload(&mut self, config: Arc<BalanceConfig>) {
        let before = std::mem::replace(&mut self.config, config);
        self.picker.set_strategy(self.config.strategy);
        if before.buffer_bytes_max != self.config.buffer_bytes_max {
            self.buffer = buffer(&self.config);
        }
        if before.idle_timeout != self.config.idle_timeout {
            self.watch_all_idle();
        }
    }

    fn take_mail(&mut self) {
        for _ in 0..self.inbox.begin() {
            match self.inbox.pop() {
                Some(ReactorMessage::BackendDown(backend)) => self.backend_is_down(backend),
                Some(ReactorMessage::News(news)) => self.tell_listeners(&news),
                Some(ReactorMessage::Survey(survey)) => self.take_survey(survey),
                Some(ReactorMessage::Surveyed(survey)) => self.answer_surveyed(&survey),
                None => return,
            }
        }
    }

    fn look_at_directory(&mut self) {
        if self.shared.directory_version() != self.directory.version {
            self.directory = self.shared.directory();
        }
    }

    /// Something happened to one side of a pair.
    fn ready(&mut self, event: &Event) {
        let token = event.token().0;
        let (slot, side) = ((token >> 1) as u32, if token & 1 == 0 { Side::Client } else { Side::Backend });
        let Some(pair) = self.table.get(slot) else { return };
        if side == Side::Backend && pair.backend.is_none() {
            // Of a connection that was closed earlier in this turn.
            return;
        }
        let end = pair.end(side);
        end.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        end.closing |= event.is_read_closed() || event.is_error();
        if event.is_writable() {
            self.has_room(slot, side);
        }
        let Some(pair) = self.table.get(slot) else { return };
        match (&pair.stage, side) {
            (Stage::Opening(opening), Side::Client) => match opening.step {
                Step::Proxy | Step::Head => self.request_is_ready(slot),
                _ if end_is_over(pair) => self.end(slot, Ended::ClientLeft),
                _ => self.pump(slot, Side::Client),
            },
            (Stage::Opening(_), Side::Backend) => self.backend_ready(slot),
            (Stage::Dead, _) => {}
            _ => {
                if event.is_writable() {
                    self.write_held(slot, side);
                }
                self.pump(slot, side);
            }
        }
    }

    fn tell_director(&self, observed: Observed) {
        // A director that is too busy learns it from its own checks.
        drop(self.shared.tell_director(observed));
    }

    /// Posts to a reactor of this balancer; what a busy one does not take is
    /// lost, and whoever waits for it is answered when time is up.
    fn post(&self, reactor: ReactorId, message: ReactorMessage) {
        if let Some(mailbox) = self.shared.mailboxes.get(reactor.index()) {
            drop(mailbox.post(message));
        }
    }

    fn count(&self, counter: Counter, times: u64) {
        self.shared.metrics.thread(self.me).add(counter, times);
    }

    fn publish_gauges(&self) {
        let counters = self.shared.metrics.thread(self.me);
        counters.add(Counter::Turns, 1);
        counters.set(Gauge::Pairs, self.pairs as u64);
        counters.set(Gauge::Queued, self.queue.len() as u64);
        counters.set(Gauge::HeldBytes, self.held_bytes as u64);
        counters.set(Gauge::Listeners, self.listeners as u64);
        counters.set(Gauge::Sockets, self.table.len() as u64);
    }
}

/// Whether a client that waits for its answer has gone: who asks for a
/// WebSocket has nothing to end before it is one.
fn end_is_over(pair: &Pair) -> bool {
    pair.is_websocket && pair.client_end.closing
}

/// Where bytes are read to: a whole record of TLS, where that is spoken.
fn buffer(config: &BalanceConfig) -> Box<[u8]> {
    let least = if config.tls_cert.is_some() || config.backend_tls { limits::READ_BUFFER_BYTES } else { 0 };
    vec![0; config.buffer_bytes_max.max(least)].into_boxed_slice()
}

/// What a reactor's thread does before its first turn. With `foreign`, the
/// descriptors that other reactors own, it takes a descriptor table of its own
/// and closes its copies of them.
///
/// # Errors
/// When the table or the reactor cannot be made.
pub fn settle_in(
    parts: Parts,
    shared: Arc<Shared>,
    config: Arc<BalanceConfig>,
    news: Sender<News>,
    foreign: Option<&[RawFd]>,
) -> io::Result<Reactor> {
    if let Some(foreign) = foreign {
        net::own_descriptor_table()?;
        net::close_copies(foreign);
    }
    Reactor::new(parts, shared, config, news)
}
