//! Resolving the server's name, which blocks and so has a thread of its own.
//! An address needs neither.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::runner::Order;
use super::target::Target;
use crate::reactor::mailbox::Mailbox;

/// Most addresses of a name that are used.
const ADDRESSES_MAX: usize = 64;

/// Asks for the addresses of one name.
pub(super) enum Resolver {
    /// The host is an address.
    Known(SocketAddr),
    /// The host is a name; the thread ends when this is dropped.
    Thread(Sender<()>),
}

impl Resolver {
    /// A resolver for the host of `target` that answers with [`Order::Resolved`].
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn new(target: &Target, answer: Mailbox<Order>) -> io::Result<Self> {
        if let Some(address) = target.address() {
            return Ok(Resolver::Known(SocketAddr::new(address, target.port)));
        }
        let (ask, asked) = bounded(1);
        let (host, port) = (target.host.clone(), target.port);
        thread::Builder::new()
            .name("client-resolver".to_owned())
            .spawn(move || resolve_when_asked(&asked, &host, port, &answer))?;
        Ok(Resolver::Thread(ask))
    }
}

fn resolve_when_asked(asked: &Receiver<()>, host: &str, port: u16, answer: &Mailbox<Order>) {
    while asked.recv().is_ok() {
        let found = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"));
        let found = found.map(|addresses| addresses.take(ADDRESSES_MAX).collect::<Vec<_>>());
        let found = found.and_then(|found| match found.is_empty() {
            true => Err(format!("{host} has no address")),
            false => Ok(found),
        });
        // The queue has room unless the client is gone or is flooded with
        // messages to send; it asks again when nothing comes.
        drop(answer.post(Order::Resolved(found)));
    }
}
