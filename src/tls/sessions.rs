//! The sessions of one reactor, by slot.
//!
//! Owns: [`Sessions`]. A reactor whose listeners speak no TLS has none, and a
//! look into the empty list is all it costs.

use super::channel::Scratch;
use super::session::Session;

/// By slot. Not thread-safe: it belongs to one reactor.
#[derive(Default)]
pub struct Sessions {
    sessions: Vec<Option<Box<Session>>>,
    scratch: Scratch,
}

impl Sessions {
    /// The session of a slot, and the buffers it works in; `None` when the slot speaks no TLS.
    pub fn get(&mut self, slot: u32) -> Option<(&mut Session, &mut Scratch)> {
        let session = self.sessions.get_mut(slot as usize)?.as_mut()?;
        Some((session, &mut self.scratch))
    }

    /// Sealed bytes that wait for the socket of a slot.
    pub fn unsent_bytes(&self, slot: u32) -> usize {
        self.sessions.get(slot as usize).and_then(Option::as_ref).map_or(0, |session| session.unsent_bytes())
    }

    /// The connection in a slot speaks TLS.
    pub fn insert(&mut self, slot: u32, session: Session) {
        let slot = slot as usize;
        if self.sessions.len() <= slot {
            self.sessions.resize_with(slot + 1, || None);
        }
        self.sessions[slot] = Some(Box::new(session));
    }

    /// The connection in a slot is over.
    pub fn remove(&mut self, slot: u32) {
        if let Some(session) = self.sessions.get_mut(slot as usize) {
            *session = None;
        }
    }

    /// Gives back what slots from `high_water` on took.
    pub fn shrink(&mut self, high_water: u32) {
        self.sessions.truncate(high_water as usize);
        self.sessions.shrink_to_fit();
    }
}
