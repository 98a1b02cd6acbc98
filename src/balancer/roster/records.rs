//! What is told of backends: to the API, to whoever watches, to the log.
//!
//! Owns: the records and events. Never: how they are written as JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::spec::Spec;
use super::{Backend, BackendId};
use crate::balancer::health::State;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For spans and deadlines.
    pub now: Instant,
    /// For people.
    pub wall: SystemTime,
}

/// Who says that there is such a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line or the configuration file.
    Flag,
    /// The file of backends.
    File,
    /// The name whose addresses are backends.
    Dns,
    /// An operator, at run time.
    Api,
}

impl Origin {
    /// The name shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Flag => "flag",
            Origin::File => "file",
            Origin::Dns => "dns",
            Origin::Api => "api",
        }
    }
}

/// The last check of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// When it ended.
    pub at: SystemTime,
    /// Whether the backend was ready.
    pub ok: bool,
    /// The status it answered with, if it did.
    pub status: Option<u16>,
    /// From the connect to the answer, or to the failure.
    pub latency: Duration,
    /// What failed.
    pub error: Option<String>,
}

/// A backend as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRecord {
    /// Its id.
    pub id: BackendId,
    /// As it was written.
    pub name: String,
    /// Where it listens; `None`: its name could not be resolved so far.
    pub address: Option<SocketAddr>,
    /// Who says that there is such a backend.
    pub origin: Origin,
    /// Its weight, without slow start.
    pub weight: u32,
    /// Whether it takes connections.
    pub state: State,
    /// Whether an operator has drained it.
    pub admin_drained: bool,
    /// What the state comes from.
    pub why: String,
    /// Since when.
    pub since: SystemTime,
    /// The last check, if there was one.
    pub last_check: Option<Check>,
    /// Pairs now.
    pub connections: u32,
    /// Pairs opened so far.
    pub total: u64,
    /// Connects and handshakes that failed so far.
    pub failures: u64,
    /// Bytes sent to it so far.
    pub bytes_to_backend: u64,
    /// Bytes from it sent to clients so far.
    pub bytes_to_clients: u64,
    /// Pairs it takes at most.
    pub max_connections: Option<u32>,
}

impl BackendRecord {
    /// Takes over what is counted now.
    pub(in crate::balancer) fn count(&mut self, backend: &Backend) {
        self.connections = backend.active.load(Ordering::Relaxed);
        self.total = backend.total.load(Ordering::Relaxed);
        self.failures = backend.failures.load(Ordering::Relaxed);
        self.bytes_to_backend = backend.bytes_to_backend.load(Ordering::Relaxed);
        self.bytes_to_clients = backend.bytes_to_clients.load(Ordering::Relaxed);
    }
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A backend came.
    BackendAdded,
    /// A backend is gone.
    BackendRemoved,
    /// A backend takes connections.
    BackendUp,
    /// Checks took a backend down.
    BackendDown,
    /// Failed connections ejected a backend.
    BackendEjected,
    /// A backend takes nothing new and keeps what it has.
    BackendDraining,
    /// An operator took a backend into use again.
    BackendEnabled,
    /// Clients lost their backend and have to go elsewhere.
    Failover,
    /// A name stands for other addresses than before.
    Resolved,
    /// A name could not be resolved, or can be again.
    ResolveFailed,
    /// The file of backends was read anew.
    FileChanged,
    /// The file of backends cannot be used; what was read before stays.
    FileBad,
}

impl EventKind {
    /// The name shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::BackendAdded => "backend_added",
            EventKind::BackendRemoved => "backend_removed",
            EventKind::BackendUp => "backend_up",
            EventKind::BackendDown => "backend_down",
            EventKind::BackendEjected => "backend_ejected",
            EventKind::BackendDraining => "backend_draining",
            EventKind::BackendEnabled => "backend_enabled",
            EventKind::Failover => "failover",
            EventKind::Resolved => "resolved",
            EventKind::ResolveFailed => "resolve_failed",
            EventKind::FileChanged => "file_changed",
            EventKind::FileBad => "file_bad",
        }
    }

    /// How loudly it is logged.
    pub fn level(self) -> Level {
        match self {
            EventKind::BackendDown
            | EventKind::BackendEjected
            | EventKind::Failover
            | EventKind::ResolveFailed
            | EventKind::FileBad => Level::Warn,
            _ => Level::Info,
        }
    }

    /// The kind of event that coming into this state is.
    pub(super) fn of(state: State) -> Option<EventKind> {
        match state {
            State::Checking => None,
            State::Up | State::SlowStart => Some(EventKind::BackendUp),
            State::Draining => Some(EventKind::BackendDraining),
            State::Ejected => Some(EventKind::BackendEjected),
            State::Down => Some(EventKind::BackendDown),
        }
    }
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveEvent {
    /// When.
    pub at: SystemTime,
    /// What kind of thing.
    pub kind: EventKind,
    /// To which backend, if to one.
    pub backend: Option<BackendId>,
    /// What, in one line.
    pub text: String,
    /// Clients that are concerned.
    pub clients: u32,
}

/// What there is to tell to whoever watches: the state now and what has
/// happened since the last update.
#[derive(Clone, Debug)]
pub struct LiveUpdate {
    /// When.
    pub at: SystemTime,
    /// All backends.
    pub backends: Arc<[BackendRecord]>,
    /// What has happened, in order.
    pub events: Vec<LiveEvent>,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// Another backend.
    Add(Spec),
    /// The backend is to take nothing new, until it is enabled.
    Drain(BackendId),
    /// The backend is in use again.
    Enable(BackendId),
    /// The backend is forgotten and its pairs are closed.
    Remove(BackendId),
}

/// It is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminDone {
    /// The backend after it; of one that was removed, before.
    pub record: BackendRecord,
}

/// Why it was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// There is no such backend.
    Unknown(BackendId),
    /// There is such a backend already.
    Exists(BackendId),
    /// The backend's name could not be resolved so far; it can only be removed.
    Unresolved(BackendId),
    /// The backend has vanished from where it was listed, so it cannot be enabled.
    Unlisted(BackendId),
    /// There are as many as there may be.
    TooMany,
}

impl std::fmt::Display for AdminError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AdminError::Unknown(id) => write!(f, "there is no backend {id}"),
            AdminError::Exists(id) => write!(f, "it is a backend already: {id}"),
            AdminError::Unresolved(id) => write!(f, "the name of {id} could not be resolved so far"),
            AdminError::Unlisted(id) => write!(f, "{id} is no longer listed where it came from"),
            AdminError::TooMany => write!(f, "there are {} backends already", super::BACKENDS_MAX),
        }
    }
}

impl std::error::Error for AdminError {}
