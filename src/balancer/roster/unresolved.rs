//! Backends that are wanted and have no address yet.

use std::time::SystemTime;

use super::records::BackendRecord;
use super::wishes::Wanted;
use super::{BackendId, State};

/// A backend whose name has not been resolved so far.
#[derive(Debug)]
pub(super) struct Unresolved {
    pub(super) id: BackendId,
    pub(super) wanted: Wanted,
    pub(super) why: String,
    pub(super) since: SystemTime,
}

impl Unresolved {
    pub(super) fn record(&self) -> BackendRecord {
        BackendRecord {
            id: self.id,
            name: self.wanted.name.clone(),
            address: None,
            origin: self.wanted.origin,
            weight: self.wanted.weight,
            state: State::Checking,
            admin_drained: false,
            why: self.why.clone(),
            since: self.since,
            last_check: None,
            connections: 0,
            total: 0,
            failures: 0,
            bytes_to_backend: 0,
            bytes_to_clients: 0,
            max_connections: self.wanted.max_connections,
        }
    }
}
