//! What the threads of a balancer have in common.
//!
//! Owns: [`Shared`]. Nothing in it is locked on the way of a client's bytes;
//! the directory is locked when it has changed, the rest for the API.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::message::ReactorMessage;
use crate::balancer::director::{Director, Observed, Overview};
use crate::balancer::live::Live;
use crate::balancer::metrics::Metrics;
use crate::balancer::pick::Strategy;
use crate::balancer::roster::{BackendRecord, Directory};
use crate::drain::Phase;
use crate::limiter::{AddressLimiter, HandshakeLimiter};
use crate::reactor::mailbox::{Full, Mailbox};

/// Read by every reactor and by the handle.
pub struct Shared {
    /// Where clients connect to.
    pub address: SocketAddr,
    /// Whether who connects while this balancer closes can wait for the next:
    /// the listeners are the service manager's and stay open.
    pub listeners_outlive: bool,
    /// Counters of all threads.
    pub metrics: Arc<Metrics>,
    /// Connections per client address.
    pub limiter: AddressLimiter,
    /// TLS handshakes per peer's address.
    pub handshakes: HandshakeLimiter,
    /// Into each reactor.
    pub mailboxes: Vec<Mailbox<ReactorMessage>>,
    /// Makes round robin even over all reactors.
    pub rotor: Arc<AtomicU64>,
    /// When the balancer started; milliseconds count from here in every reactor.
    pub started: Instant,
    /// Makes this drain's schedule unlike the last one's.
    pub drain_seed: u64,
    /// Clients that were admitted and have not ended, for `max_connections`.
    pub open: AtomicUsize,
    /// Clients that wait for a place at a backend.
    pub queued: AtomicUsize,
    /// The drain's phase.
    pub phase: AtomicU8,
    live: Mutex<Live>,
    /// The strategy's place in [`Strategy::ALL`].
    strategy: AtomicU8,
    is_stopping: AtomicBool,
    director: OnceLock<(Mailbox<Observed>, Arc<Overview>)>,
    directory: Mutex<Arc<Directory>>,
    directory_version: AtomicU64,
}

impl Shared {
    /// The state of a balancer with these reactors, which serves.
    pub fn new(
        address: SocketAddr,
        listeners_outlive: bool,
        strategy: Strategy,
        metrics: Arc<Metrics>,
        mailboxes: Vec<Mailbox<ReactorMessage>>,
    ) -> Self {
        let shared = Shared {
            address,
            listeners_outlive,
            metrics,
            limiter: AddressLimiter::new(),
            handshakes: HandshakeLimiter::default(),
            mailboxes,
            rotor: Arc::default(),
            started: Instant::now(),
            drain_seed: fastrand::u64(..),
            open: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            phase: AtomicU8::new(Phase::Serving as u8),
            live: Mutex::default(),
            strategy: AtomicU8::new(0),
            is_stopping: AtomicBool::new(false),
            director: OnceLock::new(),
            directory: Mutex::default(),
            directory_version: AtomicU64::new(0),
        };
        shared.set_strategy(strategy);
        shared
    }

    /// The strategy in force, for the API.
    pub fn strategy(&self) -> Strategy {
        Strategy::ALL[usize::from(self.strategy.load(Ordering::Relaxed)) % Strategy::ALL.len()]
    }

    /// Says which strategy is in force.
    pub fn set_strategy(&self, strategy: Strategy) {
        let place = Strategy::ALL.iter().position(|known| *known == strategy).unwrap_or_default();
        self.strategy.store(place as u8, Ordering::Relaxed);
    }

    /// From now on reactors may end at any time.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Whether reactors take their mail.
    pub fn is_running(&self) -> bool {
        !self.is_stopping.load(Ordering::Acquire)
    }

    /// Where the balancer is in its life.
    pub fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Ordering::Acquire))
    }

    /// What is known of the backends.
    pub fn directory(&self) -> Arc<Directory> {
        self.lock_directory().clone()
    }

    /// Which version [`Shared::directory`] returns; one atomic load.
    pub fn directory_version(&self) -> u64 {
        self.directory_version.load(Ordering::Acquire)
    }

    /// Replaces what is known of the backends.
    pub fn set_directory(&self, directory: Arc<Directory>) {
        let version = directory.version;
        *self.lock_directory() = directory;
        self.directory_version.store(version, Ordering::Release);
    }

    fn lock_directory(&self) -> MutexGuard<'_, Arc<Directory>> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the way to the director, once, and what it knows already.
    pub fn meet_director(&self, director: &Director) {
        // There is one director.
        drop(self.director.set((director.mailbox(), director.overview())));
        if self.directory_version() < director.directory().version {
            self.set_directory(director.directory());
        }
    }

    /// Tells the director something.
    ///
    /// # Errors
    /// It is too busy, or not there yet.
    pub fn tell_director(&self, observed: Observed) -> Result<(), Full<Observed>> {
        match self.director.get() {
            Some((director, _)) => director.post(observed),
            None => Err(Full(observed)),
        }
    }

    /// What whoever watches is shown.
    pub fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All backends, with counters as they are now.
    pub fn backends(&self) -> Vec<BackendRecord> {
        self.director.get().map_or_else(Vec::new, |(_, overview)| overview.records())
    }

    /// Clients that have a backend.
    pub fn connections(&self) -> u64 {
        let open = self.open.load(Ordering::Relaxed) as u64;
        open.saturating_sub(self.queued())
    }

    /// Clients that wait for one.
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed) as u64
    }

    /// Takes one of `max` places for a client.
    pub fn admit(&self, max: usize) -> bool {
        let admitted = self.open.fetch_add(1, Ordering::AcqRel) < max;
        if !admitted {
            self.release();
        }
        admitted
    }

    /// Gives the place back.
    pub fn release(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}
