//! Connections that asked for batches: what is delivered to them is gathered,
//! at most so many messages or for so long, and sent as one.
//!
//! Owns: [`Batches`]. Answers to a client's own messages do not wait.

use std::collections::{HashMap, VecDeque};

use super::Reactor;
use crate::clock::Tick;
use crate::delivery::Outcome;
use crate::limits::{BATCH_DELAY, BATCH_MESSAGES};
use crate::metrics::Counter;
use crate::protocol;

/// Messages gathered for one connection.
#[derive(Default)]
struct Batch {
    texts: Vec<Vec<u8>>,
    bytes: usize,
    /// When the first of them came.
    since: Tick,
}

/// Batches by slot, and when they are due. All wait equally long, so the due
/// ones stand in front.
#[derive(Default)]
pub(super) struct Batches {
    by_slot: HashMap<u32, Batch>,
    due: VecDeque<(Tick, u32)>,
}

impl Batches {
    /// From now on this connection's deliveries are gathered.
    pub(super) fn add(&mut self, slot: u32) {
        self.by_slot.insert(slot, Batch::default());
    }

    /// Ticks until a batch is due.
    pub(super) fn ticks_left(&self, now: Tick) -> Option<u32> {
        let (since, _) = self.due.front()?;
        Some(Tick::count(BATCH_DELAY).saturating_sub(now.since(*since)))
    }

    /// Connections that asked for batches.
    pub(super) fn connections(&self) -> u64 {
        self.by_slot.len() as u64
    }

    fn is_due(&self, now: Tick) -> Option<u32> {
        let (since, slot) = *self.due.front()?;
        (now.since(since) >= Tick::count(BATCH_DELAY)).then_some(slot)
    }

    fn push(&mut self, slot: u32, text: &[u8], now: Tick) -> Option<usize> {
        let batch = self.by_slot.get_mut(&slot)?;
        if batch.texts.is_empty() {
            batch.since = now;
            self.due.push_back((now, slot));
        }
        batch.bytes += text.len();
        batch.texts.push(text.to_vec());
        Some(batch.texts.len())
    }

    fn bytes(&self, slot: u32) -> usize {
        self.by_slot.get(&slot).map_or(0, |batch| batch.bytes)
    }
}

impl Reactor {
    /// Adds a message to a connection's next batch.
    pub(super) fn batch(&mut self, slot: u32, text: &[u8]) -> Outcome {
        if self.owed(slot) + self.batches.bytes(slot) + text.len() > self.config.outbound_bytes_max {
            self.send_batch(slot);
            if !self.has_room(slot, text.len()) {
                return self.slow_consumer(slot);
            }
        }
        self.count(Counter::Delivered, 1);
        if self.batches.push(slot, text, self.now) == Some(BATCH_MESSAGES) {
            self.send_batch(slot);
        }
        Outcome::Delivered
    }

    /// Adds a broadcast to the batches of all who asked for them.
    pub(super) fn batch_for_all(&mut self, text: &[u8]) {
        if self.batches.by_slot.is_empty() {
            return;
        }
        let slots: Vec<u32> = self.batches.by_slot.keys().copied().collect();
        for slot in slots {
            self.batch(slot, text);
        }
    }

    /// Sends what has been gathered for a connection.
    pub(super) fn send_batch(&mut self, slot: u32) {
        let Some(batch) = self.batches.by_slot.get_mut(&slot) else { return };
        let texts = std::mem::take(batch).texts;
        if !texts.is_empty() {
            self.answer(slot, |out| protocol::write_batch(out, texts.iter().map(|text| text.as_slice())));
        }
    }

    /// Sends the batches whose time has come.
    pub(super) fn send_due_batches(&mut self) {
        while let Some(slot) = self.batches.is_due(self.now) {
            let since = self.batches.due.pop_front();
            let began = self.batches.by_slot.get(&slot).map(|batch| batch.since);
            // A batch that was full earlier has been sent; what is gathered since stands further back.
            if began == since.map(|(since, _)| since) {
                self.send_batch(slot);
            }
        }
    }

    /// The connection is gone.
    pub(super) fn drop_batch(&mut self, slot: u32) {
        self.batches.by_slot.remove(&slot);
    }
}
