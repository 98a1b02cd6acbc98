//! Counters and gauges of one thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers that any thread may read and one thread writes, or increments are lost.
#[derive(Debug)]
pub(crate) struct Cells<const N: usize>([AtomicU64; N]);

impl<const N: usize> Cells<N> {
    pub(crate) const fn new() -> Self {
        Cells([const { AtomicU64::new(0) }; N])
    }

    /// Adds `n`; wraps at 2⁶⁴. One writer per cell: a plain load and store,
    /// without the bus lock of an atomic add.
    pub(crate) fn add(&self, cell: usize, n: u64) {
        let cell = &self.0[cell];
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn set(&self, cell: usize, value: u64) {
        self.0[cell].store(value, Relaxed);
    }

    pub(crate) fn get(&self, cell: usize) -> u64 {
        self.0[cell].load(Relaxed)
    }
}
