//! What requests of other nodes say besides: whose way is timed, and which
//! belong to a trace.

use std::time::Duration;

use super::Subscriber;
use crate::cluster::message::{Heard, Traced};
use crate::cluster::registry::Member;
use crate::cluster::wire::{Aside, Probe};
use crate::metrics::Timing;
use crate::stamp::{Micros, Stamp};

impl Subscriber {
    /// Has the publisher wait for a node's probe to be written; the stamp it goes by.
    pub(super) fn stamp(&mut self, from: &Member, probe: Probe) -> Stamp {
        self.next_probe = (self.next_probe + 1) % (1 << 30);
        let (name, heard) = (self.next_probe, self.now());
        self.tell(Heard::Probe { name, from: from.clone(), probe, heard });
        Stamp::probe(name)
    }

    /// A probe of ours is back.
    pub(super) fn time_delivery(&self, probe: Probe, held_micros: u32, stayed_micros: u32) {
        let [held, stayed] = [held_micros, stayed_micros].map(|micros| Duration::from_micros(micros.into()));
        self.shared.metrics.node().took(Timing::ClusterDelivery, probe.way(held, stayed, self.now()));
    }

    fn now(&self) -> Micros {
        Micros::at(self.shared.started.elapsed())
    }
}

/// What the log is to say of a request, if it belongs to a trace and the log says so much.
pub(super) fn traced(aside: &Aside, call: &'static str, user: Option<&str>) -> Option<Box<Traced>> {
    let trace = aside.trace.filter(|_| log::log_enabled!(log::Level::Debug))?;
    Some(Box::new(Traced { trace, call, user: user.map(Into::into) }))
}
