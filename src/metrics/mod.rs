//! What the node counts about itself.
//!
//! Owns: the counters and their exposition. Never: a lock or an atomic
//! read-modify-write where messages are handled. Every thread has a row of
//! cells on cache lines of its own, each cell has one writer, and a reader adds
//! the rows up.

pub(crate) mod cells;
pub(crate) mod classic;
mod exposition;
pub(crate) mod family;
mod names;
pub(crate) mod process;
pub(crate) mod stopwatch;
mod timing;
mod traffic;

pub use exposition::{LINK_STATES, NodeState};
pub use names::{Counter, Gauge};
pub use process::Usage;
pub use timing::Timing;
pub use traffic::{Received, Sent, Volume};

use self::cells::Cells;
use crate::ids::ReactorId;
pub use crate::ws::close::CloseReason;
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stopwatch::Stopwatch;
use timing::Timings;
use traffic::Traffic;

/// What the process uses. Reads two files under `/proc/self`.
pub fn usage() -> Usage {
    process::Process::usage()
}

/// The cells of one thread. Any thread may read them; a cell is written by one
/// thread only, or increments are lost.
#[derive(Debug)]
pub struct ThreadCounters {
    counters: Cells<{ Counter::COUNT }>,
    gauges: Cells<{ Gauge::COUNT }>,
    closed: Cells<{ CloseReason::ALL.len() }>,
    timings: Timings,
    traffic: Traffic,
}

impl ThreadCounters {
    fn new() -> Self {
        ThreadCounters {
            counters: Cells::new(),
            gauges: Cells::new(),
            closed: Cells::new(),
            timings: Timings::new(),
            traffic: Traffic::new(),
        }
    }

    /// Adds `n`; a counter wraps at 2⁶⁴.
    pub fn add(&self, counter: Counter, n: u64) {
        self.counters.add(counter as usize, n);
    }

    /// What was added so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize)
    }

    /// Counts a connection that ended.
    pub fn closed(&self, reason: CloseReason) {
        self.closed.add(reason as usize, 1);
    }

    /// Connections that ended for that reason.
    pub fn closed_count(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize)
    }

    /// Counts something that took so long.
    pub fn took(&self, timing: Timing, span: Duration) {
        self.timings.observe(timing, span);
    }

    /// Counts a message of a client and the bytes of its payload.
    pub fn received(&self, what: Received, bytes: usize) {
        self.traffic.received(what, bytes as u64);
    }

    /// Counts messages of one type handed to connections, and the bytes of all their payloads.
    pub fn sent(&self, what: Sent, messages: u64, bytes: u64) {
        self.traffic.sent(what, messages, bytes);
    }

    /// Messages of a type that clients sent.
    pub fn received_volume(&self, what: Received) -> Volume {
        self.traffic.received_volume(what)
    }

    /// Messages of a type that connections were handed.
    pub fn sent_volume(&self, what: Sent) -> Volume {
        self.traffic.sent_volume(what)
    }

    /// States how much there is now.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.gauges.set(gauge as usize, value);
    }

    /// What was stated last.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges.get(gauge as usize)
    }
}

/// The counters of a node: one row per reactor, and one for what no reactor does.
#[derive(Debug)]
pub struct Metrics {
    /// The reactors' rows, then the node's.
    rows: Box<[CachePadded<ThreadCounters>]>,
    started_at_seconds: f64,
    drain: Stopwatch,
}

impl Metrics {
    /// The media type of [`Metrics::exposition`]: OpenMetrics, which every
    /// Prometheus since 2.5 reads and which, unlike the older text format, marks
    /// its end, so that an exposition cut short is noticed.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Rows for `reactors` reactors, all at zero. Now becomes the start time.
    pub fn new(reactors: usize) -> Arc<Self> {
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let rows = (0..=reactors).map(|_| CachePadded::new(ThreadCounters::new())).collect();
        Arc::new(Metrics { rows, started_at_seconds: started_at.as_secs_f64(), drain: Stopwatch::default() })
    }

    /// The row of a reactor. Panics when there is no such reactor.
    pub fn thread(&self, reactor: ReactorId) -> &ThreadCounters {
        assert!(reactor.index() + 1 < self.rows.len(), "there is no such reactor");
        &self.rows[reactor.index()]
    }

    /// The row of the threads that are no reactors.
    pub fn node(&self) -> &ThreadCounters {
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

    /// Connections that ended for that reason, summed over all rows.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.rows.iter().map(|row| row.closed_count(reason)).sum()
    }

    /// Messages of these types that clients sent, summed over all rows.
    pub fn messages_received(&self, types: &[Received]) -> u64 {
        let count = |row: &ThreadCounters| types.iter().map(|what| row.received_volume(*what).messages).sum();
        self.rows.iter().map(|row| count(row)).fold(0, u64::wrapping_add)
    }

    /// Messages handed to connections, summed over all types and rows.
    pub fn messages_sent(&self) -> u64 {
        let count =
            |row: &ThreadCounters| Sent::ALL.iter().map(|(what, _)| row.sent_volume(*what).messages).sum();
        self.rows.iter().map(|row| count(row)).fold(0, u64::wrapping_add)
    }

    /// Why connections ended and how many did, by the reasons' labels; those that never occurred are left out.
    pub fn endings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CloseReason::ALL
            .into_iter()
            .map(|reason| (reason.label(), self.closed(reason)))
            .filter(|(_, count)| *count > 0)
    }

    /// Open WebSocket connections of the node.
    pub fn connections(&self) -> u64 {
        self.gauge(Gauge::Connections)
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

    /// Everything as OpenMetrics text. Reads a few files under `/proc/self`.
    pub fn exposition(&self, node: &NodeState<'_>) -> String {
        exposition::write(self, node, process::Process::read())
    }

    /// The reactors' rows, in their order.
    pub fn reactors(&self) -> impl ExactSizeIterator<Item = &ThreadCounters> {
        self.rows[..self.rows.len() - 1].iter().map(|row| &**row)
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
        metrics.node().add(Counter::LogLinesDropped, 7);
        first.set(Gauge::Connections, 10);
        first.set(Gauge::Connections, 4);
        second.set(Gauge::Connections, 1);
        second.closed(CloseReason::Kicked);
        second.closed(CloseReason::Kicked);

        assert_eq!((first.get(Counter::Accepted), second.get(Counter::Accepted)), (2, 3));
        assert_eq!(metrics.total(Counter::Accepted), 5);
        assert_eq!(metrics.total(Counter::LogLinesDropped), 7);
        assert_eq!(metrics.total(Counter::Turns), 0);
        assert_eq!((metrics.connections(), metrics.gauge(Gauge::Sockets)), (5, 0));
        assert_eq!(metrics.closed(CloseReason::Kicked), 2);
        assert_eq!(metrics.closed(CloseReason::PeerClosed), 0);
        assert_eq!(metrics.endings().collect::<Vec<_>>(), [(CloseReason::Kicked.label(), 2)]);
    }

    #[test]
    fn a_counter_wraps_rather_than_panics() {
        let metrics = Metrics::new(1);
        metrics.thread(ReactorId(0)).add(Counter::Turns, u64::MAX);
        metrics.thread(ReactorId(0)).add(Counter::Turns, 2);
        assert_eq!(metrics.total(Counter::Turns), 1);
    }
}
