//! How long something that happens once has been going on.

use std::sync::OnceLock;
use std::time::Instant;

/// A drain's clock. Starting it again changes nothing.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch(OnceLock<Instant>);

impl Stopwatch {
    pub(crate) fn start(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// Milliseconds since the start; 0 before, and at least 1 from then on.
    pub(crate) fn milliseconds(&self) -> u64 {
        self.0.get().map_or(0, |began| (began.elapsed().as_millis() as u64).max(1))
    }
}
