//! What waits for its user to be looked up.
//!
//! Owns [`Lookups`], and bounds how many clients' messages wait to be tried
//! again: whatever else waits is bounded by those who wait for it.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::limits::{STRAY_BYTES, STRAYS};
use crate::reactor::message::{Action, ReplyTo};

/// Something to be done to a user whose nodes have to be looked up.
pub(super) struct Lookup {
    pub(super) user: Box<str>,
    pub(super) action: Action,
    pub(super) reply: ReplyTo,
    pub(super) tries: usize,
    pub(super) due: Instant,
}

impl Lookup {
    /// Bytes of a client's message that came back; `None` for anything else.
    fn stray_bytes(&self) -> Option<usize> {
        let stray = self.tries > 0 && matches!(self.reply, ReplyTo::Client(_));
        stray.then(|| self.action.weight())
    }
}

/// See the module. In the order in which they came.
#[derive(Default)]
pub(super) struct Lookups {
    waiting: Vec<Lookup>,
    strays: usize,
    stray_bytes: usize,
}

impl Lookups {
    /// Has a user looked up when that is due.
    ///
    /// # Errors
    /// The lookup, if it is for a message that came back and too many such wait.
    pub(super) fn push(&mut self, lookup: Lookup) -> Result<(), Lookup> {
        if let Some(bytes) = lookup.stray_bytes() {
            if self.strays >= STRAYS || self.stray_bytes + bytes > STRAY_BYTES {
                return Err(lookup);
            }
            self.strays += 1;
            self.stray_bytes += bytes;
        }
        self.waiting.push(lookup);
        Ok(())
    }

    /// Users that have to be looked up now, each once.
    pub(super) fn wanted(&self, now: Instant) -> Vec<Box<str>> {
        let due = self.waiting.iter().filter(|lookup| lookup.due <= now);
        due.map(|lookup| &lookup.user).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// Takes out what [`Lookups::wanted`] was about at the same `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Lookup> {
        let due: Vec<Lookup> = self.waiting.extract_if(.., |lookup| lookup.due <= now).collect();
        for bytes in due.iter().filter_map(Lookup::stray_bytes) {
            self.strays -= 1;
            self.stray_bytes -= bytes;
        }
        due
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<Lookup> {
        std::mem::take(self).waiting
    }

    /// When [`Lookups::wanted`] has something to give.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|lookup| lookup.due).min()
    }
}
