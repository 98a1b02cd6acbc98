//! The thread that follows the backends: checks, the file of backends, names,
//! what reactors observe, what operators want.
//!
//! Owns: [`Director`], the handle; its thread owns the [`Roster`] and does what
//! that asks for. Never: clients' sockets; deciding anything the roster can decide.
//!
//! ```text
//!   reactors ── Observed ──┐                      ┌── directory, closures, news ──► Audience
//!   operators ─ Observed ──┤   director's thread  │
//!   the file ──────────────┼──►  Roster (pure)  ──┼── checks ──► backends
//!   resolver's thread ─────┘                      └── records ──► Overview
//! ```

mod checks;
mod files;
mod overview;
mod plan;
mod resolve;
mod turn;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;

use self::checks::Checks;
use self::files::Watch;
use self::resolve::{Lookup, Resolver};
use self::turn::{Links, Thread};
use super::roster::{AdminCommand, AdminDone, AdminError, BackendId, Directory, LiveUpdate};
use crate::reactor::mailbox::{self, Full, Inbox, Mailbox, Weigh};

pub use self::files::parse as parse_file;
pub use self::overview::Overview;
pub use self::plan::Plan;

#[cfg(doc)]
use super::roster::Roster;

/// Observations that wait for the director.
const OBSERVED_MAX: usize = 16 * 1024;

/// Bytes of text those may hold on to.
const OBSERVED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Orders that wait for it.
const ORDERS_MAX: usize = 16;

/// What reactors tell the director. That one is lost, because the mailbox is
/// full, must not matter.
#[derive(Debug)]
pub enum Observed {
    /// A connection to the backend could not be opened.
    ConnectFailed {
        /// To whom.
        backend: BackendId,
        /// Why.
        error: String,
    },
    /// A connection was opened and no handshake came of it.
    HandshakeFailed {
        /// With whom.
        backend: BackendId,
        /// Why.
        error: String,
    },
    /// A handshake succeeded.
    Connected {
        /// With whom.
        backend: BackendId,
    },
    /// Connections broke without a close frame.
    Lost {
        /// To whom.
        backend: BackendId,
        /// How many.
        clients: u32,
        /// The age of the youngest, from its handshake, in milliseconds.
        age_ms: u64,
    },
    /// An operator wants something.
    Admin {
        /// What.
        command: AdminCommand,
        /// Where the outcome goes: a channel with room for it. It is sent when
        /// the [`Overview`] shows it and the [`Audience`] knows.
        reply: Sender<Result<AdminDone, AdminError>>,
    },
}

impl Weigh for Observed {
    fn weight(&self) -> usize {
        match self {
            Observed::ConnectFailed { error, .. } | Observed::HandshakeFailed { error, .. } => error.len(),
            Observed::Connected { .. } | Observed::Lost { .. } => 0,
            Observed::Admin { command: AdminCommand::Add(spec), .. } => spec.host.len(),
            Observed::Admin { .. } => 0,
        }
    }
}

/// Who is told what the director finds. Called by its thread, which waits: these
/// must not block.
pub trait Audience: Send + Sync {
    /// Backends came or went. Every publication is passed on, in order.
    fn directory(&self, directory: Arc<Directory>);

    /// The pairs of this backend are to be closed, so that their clients go
    /// elsewhere, for this reason.
    fn backend_down(&self, backend: BackendId, why: Arc<str>);

    /// The state now and what happened since the last news: once a second, and
    /// at once when something happens.
    fn news(&self, update: Arc<LiveUpdate>);
}

/// What the thread is told by its owner.
enum Order {
    Follow(Box<Plan>),
    Stop,
}

impl Weigh for Order {
    fn weight(&self) -> usize {
        0
    }
}

/// The running director. Not stopped by being dropped.
pub struct Director {
    mailbox: Mailbox<Observed>,
    orders: Mailbox<Order>,
    overview: Arc<Overview>,
    directory: Arc<Directory>,
    thread: JoinHandle<()>,
}

/// A director's ways in, before it lives. Reactors wake it by a descriptor, which
/// is to be open before they take tables of their own: in a table without it,
/// its number becomes a client's connection, and what is to wake the director
/// is written to that client.
pub struct Prepared {
    poll: mio::Poll,
    waker: Arc<mio::Waker>,
    observed: (Mailbox<Observed>, Inbox<Observed>),
    orders: (Mailbox<Order>, Inbox<Order>),
}

impl Prepared {
    /// Opens them.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub fn new() -> io::Result<Prepared> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), turn::WAKE)?);
        let observed = mailbox::mailbox(OBSERVED_MAX, OBSERVED_BYTES_MAX, Arc::clone(&waker) as _);
        let orders = mailbox::mailbox(ORDERS_MAX, usize::MAX, Arc::clone(&waker) as _);
        Ok(Prepared { poll, waker, observed, orders })
    }

    /// Reads the file of backends, if there is one, and starts to follow the
    /// backends. Names are resolved and backends checked from now on: the first
    /// round of checks decides which take connections.
    ///
    /// # Errors
    /// The file cannot be used, or no thread or descriptor can be had.
    pub fn start(self, plan: Plan, audience: Arc<dyn Audience>) -> io::Result<Director> {
        self.start_with(plan, audience, resolve::system)
    }

    fn start_with(self, plan: Plan, audience: Arc<dyn Audience>, lookup: Lookup) -> io::Result<Director> {
        let Prepared { poll, waker, observed: (mailbox, inbox), orders: (ordering, orders) } = self;
        let file = plan.backends_file.as_deref().map(Watch::open).transpose().map_err(io::Error::other)?;
        let checks = Checks::new(poll.registry().try_clone()?, turn::WAKE.0);
        let resolver = Resolver::spawn(waker, lookup)?;
        let overview = Arc::<Overview>::default();
        let links =
            Links { poll, checks, inbox, orders, resolver, audience, overview: Arc::clone(&overview) };
        let mut director = Thread::new(plan, links, file);
        let directory = director.begin();
        let thread = thread::Builder::new().name("throng-director".into()).spawn(|| director.run())?;
        Ok(Director { mailbox, orders: ordering, overview, directory, thread })
    }
}

impl Director {
    /// Where reactors tell what they observe.
    pub fn mailbox(&self) -> Mailbox<Observed> {
        self.mailbox.clone()
    }

    /// What is known of the backends, for the API.
    pub fn overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overview)
    }

    /// The backends as they were at the start; later ones are told to the audience.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// Goes by another plan from now on. Backends that are in both keep their
    /// state; those that operators added stay. A file that cannot be used is told
    /// of, and the backends of the one before stay.
    ///
    /// # Errors
    /// The thread is busy or gone; nothing has changed.
    pub fn follow(&self, plan: Plan) -> io::Result<()> {
        let busy = |Full(_)| io::Error::other("the director takes no orders");
        self.orders.post(Order::Follow(Box::new(plan))).map_err(busy)
    }

    /// Whether its thread runs.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends the thread and waits for it. Backends keep the weights they have.
    pub fn stop(self) {
        let mut order = Order::Stop;
        while let Err(Full(back)) = self.orders.post(order) {
            if self.thread.is_finished() {
                break;
            }
            order = back;
            thread::park_timeout(Duration::from_millis(1));
        }
        if self.thread.join().is_err() {
            log::error!("the director's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests;
