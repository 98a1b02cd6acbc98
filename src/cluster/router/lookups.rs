//! What waits for its user to be looked up.
//!
//! Owns [`Lookups`].

use std::collections::BTreeSet;
use std::time::Instant;

use crate::reactor::message::{Action, ReplyTo};

/// Something to be done to a user whose nodes have to be looked up.
pub(super) struct Lookup {
    pub(super) user: Box<str>,
    pub(super) action: Action,
    pub(super) reply: ReplyTo,
    pub(super) tries: usize,
    pub(super) due: Instant,
}

/// See the module. In the order in which they came.
#[derive(Default)]
pub(super) struct Lookups(Vec<Lookup>);

impl Lookups {
    /// Has a user looked up when that is due.
    pub(super) fn push(&mut self, lookup: Lookup) {
        self.0.push(lookup);
    }

    /// Users that have to be looked up now, each once.
    pub(super) fn wanted(&self, now: Instant) -> Vec<Box<str>> {
        let due = self.0.iter().filter(|lookup| lookup.due <= now);
        due.map(|lookup| &lookup.user).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// Takes out what [`Lookups::wanted`] was about at the same `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Lookup> {
        self.0.extract_if(.., |lookup| lookup.due <= now).collect()
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<Lookup> {
        std::mem::take(&mut self.0)
    }

    /// When [`Lookups::wanted`] has something to give.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|lookup| lookup.due).min()
    }
}
