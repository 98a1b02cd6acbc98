//! Accepting from a listener, also when descriptors have run out.
//!
//! Owns: what an `accept` can come to ([`Accepted`]), what says that there are
//! no more ([`is_exhausted`]), the descriptor held back for refusals
//! ([`Spare`]), and how who is not even refused is left ([`turn_away`]). Never:
//! what becomes of a connection.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::SockRef;

/// What an `accept` came to.
pub(crate) enum Accepted {
    /// A connection, and whose.
    Stream(TcpStream, SocketAddr),
    /// Nobody waits.
    None,
    /// Somebody waits, but there is no descriptor, or no memory, for it.
    NoDescriptors,
    /// The one who waited has gone already (accept(2) lists more of the kind).
    Failed,
}

/// Takes one connection from a listener that does not block.
pub(crate) fn accept(listener: &TcpListener) -> Accepted {
    match listener.accept() {
        Ok((stream, peer)) => Accepted::Stream(stream, peer),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::None,
        Err(error) if is_exhausted(&error) => Accepted::NoDescriptors,
        Err(_) => Accepted::Failed,
    }
}

/// Ends a connection that is not to cost anything more, not even what the kernel
/// remembers of one that was closed.
pub(crate) fn turn_away(stream: TcpStream) {
    // Without the option the end is said politely.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// Whether a socket could not be had for want of descriptors or memory.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// A descriptor held back, so that a connection can still be refused politely
/// when there are no more.
pub(crate) struct Spare(Option<File>);

impl Spare {
    /// Opens it.
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/dev/null").map(|file| Spare(Some(file)))
    }

    /// Gives the descriptor up to accept a connection, which `refuse` tells to
    /// come back later, and takes it again. False when nobody was refused.
    pub(crate) fn lend(&mut self, listener: &TcpListener, refuse: impl FnOnce(&mut TcpStream)) -> bool {
        // If it was lost to another thread, perhaps it can be had again.
        let accepted = if self.0.take().is_some() { accept(listener) } else { Accepted::Failed };
        let refused = match accepted {
            Accepted::Stream(mut stream, _) => {
                refuse(&mut stream);
                true
            }
            _ => false,
        };
        self.0 = File::open("/dev/null").ok();
        refused
    }
}
