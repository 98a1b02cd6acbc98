//! How long messages are on their way through the node.
//!
//! Owns: [`Latency`]. In each tick the first message a reactor takes in is
//! stamped with the clock of the turn, which was read anyway; who lays it out
//! remembers the stamp until the turn has written, and only then is the clock
//! read again, once. So timing costs a hundred looks at the clock a second and
//! reactor at most, however many messages there are, and a message that is not
//! timed costs one comparison.
//!
//! What is waited for in a client's outbound queue, or in its batch, is not
//! counted: that is up to the client.

use super::Reactor;
use crate::clock::Tick;
use crate::cluster::message::ClusterMessage;
use crate::metrics::Timing;
use crate::stamp::{Micros, Stamp, Timed};
use crate::ws::frame::Frame;

/// Stamps remembered in a turn; one that finds no room is not timed.
const STAMPS_MAX: usize = 16;

/// What is being timed.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// The tick in which a message was stamped last.
    stamped: Option<Tick>,
    /// Of messages laid out in this turn.
    laid_out: [Option<Stamp>; STAMPS_MAX],
    count: usize,
}

impl Latency {
    /// Whether the first message of this tick is still to come.
    fn is_due(&mut self, now: Tick) -> bool {
        let is_due = self.stamped != Some(now);
        self.stamped = Some(now);
        is_due
    }

    /// A message was laid out. Of one that goes to several connections, one is timed.
    fn note(&mut self, stamp: Stamp) {
        if self.count < STAMPS_MAX && !self.laid_out[..self.count].contains(&Some(stamp)) {
            self.laid_out[self.count] = Some(stamp);
            self.count += 1;
        }
    }

    /// Takes out what was noted.
    fn take(&mut self) -> impl Iterator<Item = Stamp> + use<> {
        self.count = 0;
        std::mem::take(&mut self.laid_out).into_iter().flatten()
    }
}

impl Reactor {
    /// The frame of a message that was taken in just now, timed if it is the
    /// first of its tick.
    pub(super) fn stamped(&mut self, frame: Frame) -> Frame {
        let stamp = self.latency.is_due(self.now).then(|| Stamp::taken(Micros::at(self.began)));
        frame.stamped(stamp)
    }

    /// The frame was laid out for somebody.
    pub(super) fn note_laid_out(&mut self, frame: &Frame) {
        if let Some(stamp) = frame.stamp() {
            self.latency.note(stamp);
        }
    }

    /// The turn has written what it laid out.
    pub(super) fn time_deliveries(&mut self) {
        if self.latency.count == 0 {
            return;
        }
        let now = Micros::at(self.shared.started.elapsed());
        for stamp in self.latency.take() {
            match stamp.timed() {
                Timed::Taken(at) => self.counters().took(Timing::Delivery, now.since(at)),
                Timed::Probe(probe) => self.tell_written(probe, now),
            }
        }
    }

    /// Tells the cluster, whose measure it is. If it is too busy there is none.
    fn tell_written(&self, probe: u32, at: Micros) {
        if let Some(cluster) = &self.shared.cluster {
            drop(cluster.post(ClusterMessage::Written { probe, at }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_in_a_tick_is_timed() {
        let mut latency = Latency::default();
        let due = [0, 0, 1, 1, 7, 8, 8].map(|tick| latency.is_due(Tick(tick)));
        assert_eq!(due, [true, false, true, false, true, true, false]);
    }

    #[test]
    fn stamps_are_kept_once_each_and_not_without_bound() {
        let mut latency = Latency::default();
        let stamp = |n: usize| Stamp::taken(Micros::from_u32(n as u32));
        for n in 0..2 * STAMPS_MAX {
            latency.note(stamp(n));
            latency.note(stamp(0));
        }
        let noted: Vec<_> = latency.take().collect();
        assert_eq!(noted, (0..STAMPS_MAX).map(stamp).collect::<Vec<_>>());
        assert_eq!((latency.count, latency.take().count()), (0, 0));
    }
}
