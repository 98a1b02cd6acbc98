//! Taking connections in.

use std::fs::File;
use std::io::{self, Write};

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::Reactor;
use super::connection::Connection;
use crate::http::Response;
use crate::limits::{ACCEPTS_PER_TURN, SPARE_CONNECTIONS};
use crate::metrics::Counter;

/// A descriptor held back, so that a connection can still be refused politely
/// when there are no more.
pub(super) struct Spare(Option<File>);

impl Spare {
    pub(super) fn open() -> io::Result<Self> {
        File::open("/dev/null").map(|file| Spare(Some(file)))
    }
}

enum Accepted {
    Stream(TcpStream),
    None,
    NoDescriptors,
    Failed,
}

impl Reactor {
    pub(super) fn accept_waiting(&mut self) {
        for door in 0..self.doors.len() {
            if self.doors[door].waiting {
                self.accept_from(door);
            }
        }
    }

    /// Accepts until nobody waits or the budget is used up; what is left stays marked as waiting.
    fn accept_from(&mut self, door: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.accept_one(door) {
                Accepted::Stream(stream) => self.take(stream, self.doors[door].any_path),
                Accepted::Failed => {}
                Accepted::None => {
                    self.doors[door].waiting = false;
                    return;
                }
                Accepted::NoDescriptors => {
                    if !self.refuse_with_spare(door) {
                        // Nothing can be done until a descriptor is freed; the
                        // sweep looks again, so that this does not spin.
                        self.doors[door].waiting = false;
                        return;
                    }
                }
            }
        }
    }

    fn accept_one(&mut self, door: usize) -> Accepted {
        match self.doors[door].listener.accept() {
            Ok((stream, _)) => Accepted::Stream(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::None,
            Err(error) => {
                self.count(Counter::AcceptErrors, 1);
                match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        Accepted::NoDescriptors
                    }
                    // The peer has gone already (accept(2) lists more of the kind).
                    _ => Accepted::Failed,
                }
            }
        }
    }

    fn take(&mut self, mut stream: TcpStream, any_path: bool) {
        self.count(Counter::Accepted, 1);
        let sockets_max = self.config.max_connections.saturating_add(SPARE_CONNECTIONS);
        if self.table.len() >= sockets_max || !self.table.has_room() {
            self.count(Counter::CapacityRefused, 1);
            return refuse(&mut stream);
        }
        let slot = self.table.insert(Connection::accepted(stream, self.now, any_path));
        let Some(row) = self.table.get(slot) else { return };
        let registered =
            self.poll.registry().register(&mut row.stream, Token(slot as usize), Interest::READABLE);
        if let Err(error) = registered {
            log::warn!("a connection could not be watched: {error}");
            self.table.bury(slot);
        }
    }

    /// Out of descriptors: gives up the spare one to accept a connection, tells
    /// it to come back later, and takes the spare again. False when that failed.
    fn refuse_with_spare(&mut self, door: usize) -> bool {
        if self.spare.0.take().is_none() {
            // It was lost to another thread; perhaps it can be had again.
            self.spare = Spare::open().unwrap_or(Spare(None));
            return false;
        }
        let refused = match self.doors[door].listener.accept() {
            Ok((mut stream, _)) => {
                self.count(Counter::CapacityRefused, 1);
                refuse(&mut stream);
                true
            }
            Err(_) => false,
        };
        self.spare = Spare::open().unwrap_or(Spare(None));
        refused
    }
}

/// Best effort: the answer fits a fresh socket's buffer.
fn refuse(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    Response::error(503, "the node has as many connections as it can hold")
        .with("Retry-After", "5")
        .write_to(&mut answer, false, false);
    let _ = stream.write(&answer);
}
