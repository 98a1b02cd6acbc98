//! What reactors see of the roster.
//!
//! Owns: [`Directory`], published whole whenever a backend comes or goes, and
//! [`Backend`], whose atomics carry what changes more often. Never: why a
//! backend takes connections or not.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::balancer::pick::hash;

/// Names a backend for the life of the balancer; never given twice. Written `b1`, `b2`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

impl std::str::FromStr for BackendId {
    type Err = std::num::ParseIntError;

    /// Reads `b1`.
    ///
    /// # Errors
    /// Not a `b` and a number.
    fn from_str(text: &str) -> Result<BackendId, Self::Err> {
        let digits = text.strip_prefix('b').filter(|digits| !digits.starts_with('+'));
        digits.unwrap_or_default().parse().map(BackendId)
    }
}

/// All backends at one time.
#[derive(Debug, Default)]
pub struct Directory {
    /// Grows with each publication.
    pub version: u64,
    /// In the order in which they came.
    pub backends: Vec<Arc<Backend>>,
}

impl Directory {
    /// The backend of that id, if it is still one.
    pub fn backend(&self, id: BackendId) -> Option<&Arc<Backend>> {
        self.backends.iter().find(|backend| backend.id == id)
    }

    /// How many take connections.
    pub fn available(&self) -> usize {
        self.backends.iter().filter(|backend| backend.is_available()).count()
    }
}

/// One backend, shared by all threads.
#[derive(Debug)]
pub struct Backend {
    /// Its id.
    pub id: BackendId,
    /// As the operator wrote it: `node-1:8080`, `[::1]:8080`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its weight × 1000 after slow start; 0: takes nothing new. Written by the director alone.
    pub weight_milli: AtomicU32,
    /// Whether it is leaving, which it says by itself, and may still take
    /// connections: better than none. Written by the director alone.
    pub last_resort: AtomicBool,
    /// Pairs now, of all reactors, connecting ones included; see [`Backend::try_take`].
    pub active: AtomicU32,
    /// Pairs opened so far; counted by whoever opens one.
    pub total: AtomicU64,
    /// Connects and handshakes that failed so far; counted by whoever tried.
    pub failures: AtomicU64,
    /// Bytes sent to it so far.
    pub bytes_to_backend: CachePadded<AtomicU64>,
    /// Bytes from it that were sent to clients so far.
    pub bytes_to_clients: CachePadded<AtomicU64>,
    max_connections: AtomicU32,
    name_hash: u64,
}

impl Backend {
    /// One that takes nothing yet and then at most `max_connections` pairs; `None`: any number.
    pub fn new(id: BackendId, name: String, address: SocketAddr, max_connections: Option<u32>) -> Backend {
        Backend {
            id,
            name_hash: hash(name.as_bytes()),
            name,
            address,
            weight_milli: AtomicU32::new(0),
            last_resort: AtomicBool::new(false),
            active: AtomicU32::new(0),
            total: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            bytes_to_backend: CachePadded::default(),
            bytes_to_clients: CachePadded::default(),
            max_connections: AtomicU32::new(max_connections.unwrap_or(u32::MAX)),
        }
    }

    /// Whether it takes new pairs, if it has room.
    pub fn is_available(&self) -> bool {
        self.weight_milli.load(Ordering::Relaxed) > 0
    }

    /// Whether it has as many pairs as it may.
    pub fn is_full(&self) -> bool {
        self.active.load(Ordering::Relaxed) >= self.max_connections()
    }

    /// Pairs it takes at most; `u32::MAX`: any number.
    pub fn max_connections(&self) -> u32 {
        self.max_connections.load(Ordering::Relaxed)
    }

    /// Changes how many pairs it takes; those it has stay.
    pub(super) fn set_max_connections(&self, max: Option<u32>) {
        self.max_connections.store(max.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Takes a place for one pair, to be given back with [`Backend::release`].
    /// `false`: it is at its maximum.
    #[must_use]
    pub fn try_take(&self) -> bool {
        let max = self.max_connections();
        let more = |active: u32| (active < max).then(|| active + 1);
        self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives back the place of one pair.
    pub fn release(&self) {
        let less = |active: u32| active.checked_sub(1);
        let released = self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        debug_assert!(released.is_ok(), "{} gave back what was not taken", self.name);
    }

    /// Takes nothing new for good: reactors may see an old directory for a while.
    pub(super) fn retire(&self) {
        self.weight_milli.store(0, Ordering::Relaxed);
        self.last_resort.store(false, Ordering::Relaxed);
    }

    /// The hash of its name, the same in every balancer.
    pub(in crate::balancer) fn name_hash(&self) -> u64 {
        self.name_hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_up_to_the_maximum() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let backend = Backend::new(BackendId(1), "n:1".to_owned(), address, Some(2));
        assert_eq!([backend.try_take(), backend.try_take(), backend.try_take()], [true, true, false]);
        assert!(backend.is_full());
        backend.set_max_connections(Some(1));
        backend.release();
        assert!(!backend.try_take(), "a lower maximum lets what there is end first");
        backend.set_max_connections(None);
        assert!(backend.try_take() && !backend.is_full());
        assert!(!backend.is_available(), "nothing has checked it");
    }

    #[test]
    fn ids_are_written_and_read() {
        assert_eq!(BackendId(12).to_string(), "b12");
        assert_eq!("b12".parse(), Ok(BackendId(12)));
        for wrong in ["", "b", "12", "b+1", "b-1", "b4294967296", "bb1"] {
            assert!(wrong.parse::<BackendId>().is_err(), "{wrong}");
        }
    }
}
