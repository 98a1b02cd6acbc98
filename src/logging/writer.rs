//! The thread that writes the log, and may wait for its sink.
//!
//! Owns: [`Writer`]. Lines that the sink does not take are counted and spoken
//! of when it takes some again. Never: makes anybody else wait.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender};
use log::Level;

use super::TARGET;
use super::line::{Fields, Said, line};
use crate::config::LogFormat;

/// Lines are gathered up to here for one write.
const WRITE_BYTES: usize = 64 * 1024;

/// What waits for the thread.
pub(super) enum Order {
    /// A line, with its line break.
    Line(String),
    /// What was ordered before is to be written, and this told.
    Flush(Sender<()>),
}

/// The thread that may wait for the sink.
pub(super) struct Writer {
    format: LogFormat,
    sink: Box<dyn Write + Send>,
    orders: Receiver<Order>,
    lost: Arc<AtomicU64>,
    /// How many of the lost have been spoken of.
    said: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// One that takes `orders` and counts in `lost` what cannot be written.
    pub(super) fn new(
        format: LogFormat,
        sink: Box<dyn Write + Send>,
        orders: Receiver<Order>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        Writer { format, sink, orders, lost, said: 0, buffer: Vec::new() }
    }

    /// Writes until every [`super::Logging`] is gone.
    pub(super) fn run(mut self) {
        while let Ok(order) = self.orders.recv() {
            self.write_from(order);
        }
    }

    /// Writes `order` and what waits behind it, in one write if it is not much.
    fn write_from(&mut self, order: Order) {
        let mut flushes = Vec::new();
        let mut lines = 0;
        let mut next = Some(order);
        while let Some(order) = next {
            match order {
                Order::Line(line) => {
                    self.buffer.extend_from_slice(line.as_bytes());
                    lines += 1;
                }
                Order::Flush(done) => flushes.push(done),
            }
            next = if self.buffer.len() < WRITE_BYTES { self.orders.try_recv().ok() } else { None };
        }
        self.say_what_was_lost();
        if self.sink.write_all(&self.buffer).and_then(|()| self.sink.flush()).is_err() {
            self.lost.fetch_add(lines, Ordering::Relaxed);
        }
        self.buffer.clear();
        for done in flushes {
            let _ = done.send(()); // it may have stopped waiting
        }
    }

    fn say_what_was_lost(&mut self) {
        let total = self.lost.load(Ordering::Relaxed);
        let lost = total - std::mem::replace(&mut self.said, total);
        if lost > 0 {
            let text = format!("{lost} log lines were lost: the log is not taken as fast as it is written");
            let fields = Fields::default();
            let (level, target) = (Level::Warn, TARGET);
            let said = Said { level, target, message: &text, fields: &fields };
            let line = line(self.format, SystemTime::now(), &said);
            self.buffer.extend_from_slice(line.as_bytes());
        }
    }
}
