//! What a balancer counts about itself.
//!
//! Owns: the counters and their exposition. Never: a lock or an atomic
//! read-modify-write where bytes are pumped. Every thread has a row of cells on
//! cache lines of its own, each cell has one writer, and a reader adds the rows
//! up. What is counted of each backend is kept with it, not here.

mod exposition;
mod names;

pub use exposition::BalancerState;
pub use names::{Counter, Gauge};

use super::ended::Ended;
use crate::ids::ReactorId;
use crate::metrics::cells::Cells;
use crate::metrics::process::Process;
use crate::metrics::stopwatch::Stopwatch;
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The cells of one thread. Any thread may read them; a cell is written by one
/// thread only, or increments are lost.
#[derive(Debug)]
pub struct Row {
    counters: Cells<{ Counter::COUNT }>,
    gauges: Cells<{ Gauge::COUNT }>,
    ended: Cells<{ Ended::ALL.len() }>,
}

impl Row {
    fn new() -> Self {
        Row { counters: Cells::new(), gauges: Cells::new(), ended: Cells::new() }
    }

    /// Adds `n`; a counter wraps at 2⁶⁴.
    pub fn add(&self, counter: Counter, n: u64) {
        self.counters.add(counter as usize, n);
    }

    /// What was added so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize)
    }

    /// States how much there is now.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.gauges.set(gauge as usize, value);
    }

    /// What was stated last.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges.get(gauge as usize)
    }

    /// Counts a pair that ended.
    pub fn ended(&self, reason: Ended) {
        self.ended.add(reason as usize, 1);
    }

    /// Pairs that ended for that reason.
    pub fn ended_count(&self, reason: Ended) -> u64 {
        self.ended.get(reason as usize)
    }
}

/// The counters of a balancer: one row per reactor, and one for what no reactor does.
#[derive(Debug)]
pub struct Metrics {
    /// The reactors' rows, then the balancer's.
    rows: Box<[CachePadded<Row>]>,
    started_at_seconds: f64,
    drain: Stopwatch,
}

impl Metrics {
    /// Rows for `reactors` reactors, all at zero. Now becomes the start time.
    pub fn new(reactors: usize) -> Arc<Self> {
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let rows = (0..=reactors).map(|_| CachePadded::new(Row::new())).collect();
        Arc::new(Metrics { rows, started_at_seconds: started_at.as_secs_f64(), drain: Stopwatch::default() })
    }

    /// The row of a reactor. Panics when there is no such reactor.
    pub fn thread(&self, reactor: ReactorId) -> &Row {
        &self.reactors()[reactor.index()]
    }

    /// The row of the threads that are no reactors.
    pub fn balancer(&self) -> &Row {
        &self.rows[self.rows.len() - 1]
    }

    /// A counter, summed over all rows.
    pub fn total(&self, counter: Counter) -> u64 {
        self.rows.iter().map(|row| row.get(counter)).fold(0, u64::wrapping_add)
    }

    /// A gauge, summed over all rows.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.rows.iter().map(|row| row.gauge(gauge)).sum()
    }

    /// Pairs that ended for that reason, summed over all rows.
    pub fn ended(&self, reason: Ended) -> u64 {
        self.rows.iter().map(|row| row.ended_count(reason)).sum()
    }

    /// Clients refused so far, for whichever reason.
    pub fn refused(&self) -> u64 {
        names::REFUSED.iter().map(|(counter, _)| self.total(*counter)).sum()
    }

    /// The drain begins now.
    pub(crate) fn begin_drain(&self) {
        self.drain.start();
    }

    /// How long the drain has taken so far, or took if it is over.
    pub(crate) fn drain_milliseconds(&self) -> u64 {
        match self.gauge(Gauge::DrainMilliseconds) {
            0 => self.drain.milliseconds(),
            took => took,
        }
    }

    /// Everything as OpenMetrics text
    /// ([`CONTENT_TYPE`](crate::metrics::Metrics::CONTENT_TYPE)). Reads a few
    /// files under `/proc/self`.
    pub fn exposition(&self, state: &BalancerState<'_>) -> String {
        exposition::write(self, state, Process::read())
    }

    fn reactors(&self) -> &[CachePadded<Row>] {
        &self.rows[..self.rows.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_apart_and_read_together() {
        let metrics = Metrics::new(2);
        let (first, second) = (metrics.thread(ReactorId(0)), metrics.thread(ReactorId(1)));
        first.add(Counter::Accepted, 2);
        second.add(Counter::Accepted, 3);
        first.add(Counter::RefusedDraining, 1);
        second.add(Counter::RefusedNoBackend, 4);
        metrics.balancer().set(Gauge::DrainMilliseconds, 7);
        first.set(Gauge::Pairs, 10);
        first.set(Gauge::Pairs, 4);
        second.set(Gauge::Pairs, 1);
        second.ended(Ended::Closed);
        second.ended(Ended::Closed);

        assert_eq!((first.get(Counter::Accepted), second.get(Counter::Accepted)), (2, 3));
        assert_eq!(metrics.total(Counter::Accepted), 5);
        assert_eq!(metrics.refused(), 5);
        assert_eq!((metrics.gauge(Gauge::Pairs), metrics.gauge(Gauge::DrainMilliseconds)), (5, 7));
        assert_eq!((metrics.ended(Ended::Closed), metrics.ended(Ended::Drained)), (2, 0));
    }
}
