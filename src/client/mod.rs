//! A client that keeps its connections: when one is lost it is opened again,
//! as soon as the server wants it and no sooner than is good for it.
//!
//! ```no_run
//! use throng::client::{Client, Options, What};
//!
//! let options = Options::new("ws://localhost:8080/ws?user_id=alice".parse()?);
//! let client = Client::connect(options)?;
//! for event in client.events() {
//!     match event.what {
//!         What::Connected { .. } => client.send_text(event.connection, r#"{"type":"ping"}"#)?,
//!         What::Text(text) if text.contains("pong") => client.begin_close(),
//!         What::Finished(summary) => println!("{summary}"),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Connections are numbered from 1 and all run on one thread, however many
//! they are. What a server does when it leaves is understood: its notice says
//! when to come back, and what it still sends; a [`Ledger`](ledger::Ledger)
//! per connection holds it to that. Everything is bounded: messages, what
//! waits to be sent, and events, of which none is dropped: while the program
//! does not take them, nothing more is read.
//!
//! The parts: [`backoff`], [`ledger`], [`summary`], [`target`], and what
//! messages and refusals mean, are pure. The sessions and their runner have
//! the sockets. [`args`] and what it runs make the program `throng client` of
//! it; [`health`] is `throng health`.

pub mod args;
pub mod backoff;
mod business;
mod event;
mod gate;
pub mod health;
pub mod ledger;
mod message;
mod options;
mod program;
mod refusal;
mod resolve;
mod runner;
mod session;
pub mod summary;
pub mod target;
mod tls;
mod token;
mod work;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use mio::{Poll, Waker};

pub use business::{Plan, UNCONFIRMED_MAX};
pub use event::{Event, What};
pub use gate::SendError;
pub use options::{CONNECTIONS_MAX, Options};
pub use refusal::Closed;
pub use summary::Summary;
pub use token::Token;

use self::gate::Gate;
use self::resolve::Resolver;
use self::runner::{Control, Order, Runner, WAKER};
use self::session::Outgoing;
use self::work::Work;
use crate::reactor::mailbox::{Mailbox, mailbox};

/// Events that wait to be taken by the program; beyond them nothing is read.
pub const EVENTS_MAX: usize = 1024;

/// Messages, of all connections, on their way to the client's thread.
const ORDERS_MAX: usize = 16 * 1024;

/// Their bytes.
const ORDERS_BYTES_MAX: usize = 64 << 20;

/// The handle of a running client. Threads may share it. Dropping it ends the
/// client at once; [`Client::close`] ends it with closing handshakes.
pub struct Client {
    orders: Mailbox<Order>,
    gates: Arc<[Gate]>,
    control: Arc<Control>,
    waker: Arc<Waker>,
    events: Receiver<Event>,
    message_bytes_max: usize,
    outbound_bytes_max: usize,
    thread: Option<JoinHandle<Summary>>,
}

impl Client {
    /// Starts the client's thread, which opens the connections. That none can
    /// be opened is no error here but an event.
    ///
    /// # Errors
    /// The options cannot be used, the certificates cannot be read, or the
    /// system has no room for a poll or a thread.
    pub fn connect(options: Options) -> io::Result<Client> {
        check(&options)?;
        let target = &options.target;
        let tls = match target.tls {
            true => Some(tls::load(&target.host, options.ca_file.as_deref())?),
            false => None,
        };
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (orders, inbox) = mailbox(ORDERS_MAX, ORDERS_BYTES_MAX, waker.clone());
        let resolver = Resolver::new(target, orders.clone())?;
        let (sender, events) = bounded(EVENTS_MAX);
        let gates: Arc<[Gate]> = (0..options.connections).map(|_| Gate::default()).collect();
        let control = Arc::new(Control::default());
        let (message_bytes_max, outbound_bytes_max) = (options.message_bytes_max, options.outbound_bytes_max);
        let runner = Runner {
            poll,
            inbox,
            work: Work::new(&options),
            options,
            tls,
            gates: gates.clone(),
            resolver,
            control: control.clone(),
            sender,
        };
        let thread = thread::Builder::new().name("client".to_owned()).spawn(move || runner.run())?;
        let thread = Some(thread);
        Ok(Client { orders, gates, control, waker, events, message_bytes_max, outbound_bytes_max, thread })
    }

    /// What happens, in the order it does on each connection. The last event
    /// is [`What::Finished`]; after it the receiver is disconnected.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// Sends a text message on a connection. That it is accepted does not mean
    /// that it arrives: if the connection is lost first, that is counted.
    ///
    /// # Errors
    /// The message is not accepted, and why.
    pub fn send_text(&self, connection: u32, text: impl Into<String>) -> Result<(), SendError> {
        self.send(connection, Outgoing::Text(text.into()))
    }

    /// Sends a binary message, as [`Client::send_text`] does.
    ///
    /// # Errors
    /// The message is not accepted, and why.
    pub fn send_binary(&self, connection: u32, bytes: impl Into<Bytes>) -> Result<(), SendError> {
        self.send(connection, Outgoing::Binary(bytes.into()))
    }

    fn send(&self, connection: u32, message: Outgoing) -> Result<(), SendError> {
        let (index, gate) = self.find(connection)?;
        let bytes = message.len();
        if bytes > self.message_bytes_max {
            return Err(SendError::TooBig);
        }
        gate.take(bytes, self.outbound_bytes_max)?;
        self.orders.post(Order::Send { index, message }).map_err(|_| {
            gate.give_back(bytes);
            self.full_or_ended()
        })
    }

    /// Asks a connection's server whether it has taken in all that was sent
    /// before; [`What::Probed`] says so. A ping frame does it, so any server answers.
    ///
    /// # Errors
    /// The connection is not open.
    pub fn probe(&self, connection: u32) -> Result<(), SendError> {
        let (index, gate) = self.find(connection)?;
        gate.take(0, usize::MAX)?;
        self.orders.post(Order::Probe { index }).map_err(|_| self.full_or_ended())
    }

    /// What was seen so far; what was seen in all when the client has ended.
    ///
    /// # Errors
    /// [`SendError::Full`] when too much waits, [`SendError::Ended`] when it has
    /// ended: then [`Client::close`] has the sums.
    pub fn summary(&self) -> Result<Summary, SendError> {
        let (reply, answer) = bounded(1);
        self.orders.post(Order::Sum(reply)).map_err(|_| self.full_or_ended())?;
        answer.recv().map_err(|_| SendError::Ended)
    }

    /// Asks for the end: what is not confirmed yet has `close_timeout` to be,
    /// then every connection is closed with a handshake. Events go on until
    /// [`What::Finished`].
    pub fn begin_close(&self) {
        self.control.close.store(true, Ordering::Release);
        self.wake();
    }

    /// Ends as [`Client::begin_close`] does, and waits for it: at most about
    /// twice `close_timeout`. Events that were not taken are dropped.
    pub fn close(mut self) -> Summary {
        self.control.unheard.store(true, Ordering::Release);
        self.begin_close();
        self.join()
    }

    fn find(&self, connection: u32) -> Result<(usize, &Gate), SendError> {
        let index = (connection as usize).checked_sub(1).ok_or(SendError::NoSuchConnection)?;
        Ok((index, self.gates.get(index).ok_or(SendError::NoSuchConnection)?))
    }

    fn full_or_ended(&self) -> SendError {
        match self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            true => SendError::Ended,
            false => SendError::Full,
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("the client could not be woken: {error}");
        }
    }

    fn join(&mut self) -> Summary {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(sums)) => sums,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Summary::default(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.control.abort.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the client's thread panicked");
        }
    }
}

/// What cannot be seen from the types.
fn check(options: &Options) -> io::Result<()> {
    let bad = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if options.connections == 0 || options.connections > CONNECTIONS_MAX {
        return bad("the number of connections must be from 1 to 1000000");
    }
    if options.message_bytes_max == 0 || options.heartbeat.is_zero() || options.connect_timeout.is_zero() {
        return bad("message_bytes_max, heartbeat and connect_timeout must not be 0");
    }
    let longest = options.heartbeat.max(options.connect_timeout).max(options.close_timeout);
    let longest =
        options.backoff.max.max(options.business.map_or(longest, |plan| plan.interval.max(longest)));
    if Instant::now().checked_add(longest.saturating_mul(4)).is_none() {
        return bad("a duration is too long");
    }
    Ok(())
}
