//! Messages whose way to another node is timed.
//!
//! Owns [`Probes`]: which of ours are, and which of other nodes' are on their
//! way through this one. Clocks of two nodes are never compared: a probe goes
//! there and comes back, and the other node says how long it was there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Router;
use crate::cluster::registry::Member;
use crate::cluster::wire::{Envelope, Probe};
use crate::reactor::message::Action;
use crate::stamp::{Micros, Timed};

/// Between two probes of ours.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// Probes of other nodes that are waited for. Some never come back here: their
/// users had left.
const THEIRS_MAX: usize = 256;

/// See the module.
pub(super) struct Probes {
    /// When the node started: moments are counted from there.
    started: Instant,
    next: Option<Instant>,
    theirs: VecDeque<Theirs>,
}

/// A probe of another node.
struct Theirs {
    name: u32,
    from: Member,
    probe: Probe,
    heard: Micros,
}

impl Probes {
    /// None yet.
    pub(super) fn new(started: Instant) -> Self {
        Probes { started, next: None, theirs: VecDeque::new() }
    }

    fn at(&self, now: Instant) -> Micros {
        Micros::at(now.saturating_duration_since(self.started))
    }

    /// Makes a probe of what is about to be sent, if it was stamped and none was sent lately.
    pub(super) fn send(&mut self, action: &Action, now: Instant) -> Option<Probe> {
        let Action::Deliver(frame) = action else { return None };
        let Timed::Taken(taken) = frame.stamp()?.timed() else { return None };
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + INTERVAL);
        Some(Probe { taken, sent: self.at(now) })
    }

    /// A node's probe was heard and goes to our reactors under this name.
    pub(super) fn heard(&mut self, name: u32, from: Member, probe: Probe, heard: Micros) {
        if self.theirs.len() == THEIRS_MAX {
            self.theirs.pop_front();
        }
        self.theirs.push_back(Theirs { name, from, probe, heard });
    }

    /// A reactor has written it: whom to tell what. Told once, whoever else writes it.
    pub(super) fn written(
        &mut self,
        name: u32,
        at: Micros,
        now: Instant,
    ) -> Option<(Member, Envelope<'static>)> {
        let place = self.theirs.iter().position(|theirs| theirs.name == name)?;
        let Theirs { from, probe, heard, .. } = self.theirs.remove(place)?;
        let micros = |later: Micros| later.since(heard).as_micros() as u32;
        let (held_micros, stayed_micros) = (micros(at), micros(self.at(now)));
        Some((from, Envelope::Probed { probe, held_micros, stayed_micros }))
    }
}

impl Router {
    /// A node's message is a probe; our reactors have it under this name.
    pub fn heard_probe(&mut self, name: u32, from: Member, probe: Probe, heard: Micros) {
        self.probes.heard(name, from, probe, heard);
    }

    /// A reactor has written a node's probe.
    pub fn probe_written(&mut self, name: u32, at: Micros, now: Instant) {
        if let Some((from, probed)) = self.probes.written(name, at, now) {
            self.lanes.queue_for(&from.node, from.incarnation, &probed, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;
    use crate::ws::frame::Frame;

    fn deliver(stamp: Option<Stamp>) -> Action {
        Action::Deliver(Frame::text(b"1").stamped(stamp))
    }

    fn micros(n: u32) -> Micros {
        Micros::from_u32(n)
    }

    #[test]
    fn what_was_stamped_is_a_probe_now_and_then() {
        let started = Instant::now();
        let mut probes = Probes::new(started);
        let at = |ms| started + Duration::from_millis(ms);
        let ours = deliver(Some(Stamp::taken(micros(40))));
        assert_eq!(probes.send(&deliver(None), at(1)), None);
        assert_eq!(probes.send(&deliver(Some(Stamp::probe(40))), at(1)), None, "another node's");
        assert_eq!(probes.send(&Action::Locate, at(1)), None);
        let sent = |ms: u32| Some(Probe { taken: micros(40), sent: micros(ms * 1000) });
        assert_eq!(probes.send(&ours, at(1)), sent(1));
        assert_eq!(probes.send(&ours, at(100)), None);
        assert_eq!(probes.send(&ours, at(101)), sent(101));
    }

    #[test]
    fn a_node_is_told_once_how_long_its_probe_was_here() {
        let started = Instant::now();
        let mut probes = Probes::new(started);
        let (from, probe) = (Member::new("a", 3), Probe { taken: micros(1), sent: micros(2) });
        probes.heard(7, from.clone(), probe, micros(1000));
        let now = started + Duration::from_micros(1900);
        assert_eq!(probes.written(8, micros(1500), now), None);
        let told = Envelope::Probed { probe, held_micros: 500, stayed_micros: 900 };
        assert_eq!(probes.written(7, micros(1500), now), Some((from.clone(), told)));
        assert_eq!(probes.written(7, micros(1500), now), None);
        for name in 0..THEIRS_MAX as u32 + 1 {
            probes.heard(name, from.clone(), probe, micros(0));
        }
        assert_eq!(probes.theirs.len(), THEIRS_MAX);
        assert_eq!(probes.written(0, micros(1), now), None, "the oldest is forgotten");
        assert!(probes.written(1, micros(1), now).is_some());
    }
}
