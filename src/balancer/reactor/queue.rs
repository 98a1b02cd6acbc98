//! Clients for whom no backend has a place at present. They wait in their order,
//! so many and so long as the configuration allows.

use std::sync::atomic::Ordering;

use super::Reactor;
use super::pair::Step;
use crate::balancer::metrics::Counter;
use crate::http::Response;

impl Reactor {
    /// All backends are full: the pair waits for a place, if the queue has one.
    pub(super) fn enqueue(&mut self, slot: u32) {
        let now = self.now;
        let max = self.config.queue_connections;
        let Some(pair) = self.table.get(slot) else { return };
        let generation = pair.generation;
        let Some(opening) = pair.opening() else { return };
        let (is_queued, until) = (opening.step == Step::Queued, opening.queued_until);
        if !is_queued {
            if until <= now || self.shared.queued.fetch_add(1, Ordering::AcqRel) >= max {
                if until > now {
                    self.shared.queued.fetch_sub(1, Ordering::AcqRel);
                }
                return self.refuse_queued(slot);
            }
            opening.step = Step::Queued;
            self.set_due(slot, until);
        }
        self.queue.push_back((slot, generation));
    }

    pub(super) fn refuse_queued(&mut self, slot: u32) {
        self.count(Counter::RefusedQueueFull, 1);
        let refusal = Response::error(503, "all backends are full").with("Retry-After", "2");
        self.answer(slot, &refusal, false);
    }

    /// The pair waits no more, if it did.
    pub(super) fn leave_queue(&mut self, slot: u32) {
        if let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening())
            && opening.step == Step::Queued
        {
            opening.step = Step::Head;
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Tries those who wait again, in their order, until one does not get a place.
    pub(super) fn serve_queue(&mut self) {
        for _ in 0..self.queue.len() {
            let Some((slot, generation)) = self.queue.pop_front() else { return };
            let is_waiting = self
                .table
                .get(slot)
                .is_some_and(|pair| pair.generation == generation && pair.step() == Some(Step::Queued));
            if !is_waiting {
                continue;
            }
            let before = self.queue.len();
            self.pick(slot);
            if self.queue.len() > before {
                // It went to the back; it was the first and is to stay so.
                self.queue.rotate_right(1);
                return;
            }
        }
    }
}
