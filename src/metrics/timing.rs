//! How long things take: histograms of one thread, and how they are shown.
//!
//! Owns: [`Timing`], its families and their buckets. Never reads a clock: who
//! measures hands the span in.

use super::cells::Cells;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;
use std::time::Duration;

/// Something whose duration is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timing {
    /// A turn of a reactor from the end of its wait to the beginning of the next; one in sixteen is measured.
    Turn,
    /// A message from being taken in to being written, on one node; see [`crate::stamp`].
    Delivery,
    /// The same to another node: there is no clock that both share, so half of what passed in flight
    /// there and back is taken.
    ClusterDelivery,
    /// From the accepted socket to the answer 101, in steps of 10 ms.
    Handshake,
    /// Redis: batches published for other nodes.
    RedisPublish,
    /// Redis: users looked up.
    RedisLookup,
    /// Redis: users registered and unregistered.
    RedisRegister,
    /// Redis: a beat, with what is asked along with it.
    RedisBeat,
}

impl Timing {
    /// How many there are.
    pub const COUNT: usize = Timing::RedisBeat as usize + 1;
}

/// Upper bounds of the buckets, in microseconds: 10 µs to 10 s. What is longer has a bucket of its own.
const BOUNDS_MICROS: [u64; 13] =
    [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];

/// Buckets of one timing.
pub(super) const BUCKETS: usize = BOUNDS_MICROS.len() + 1;

/// Counts of each bucket, then the sum in microseconds, of each timing.
const CELLS: usize = Timing::COUNT * (BUCKETS + 1);

/// The histograms of one thread; it alone writes them.
#[derive(Debug)]
pub(super) struct Timings(Cells<CELLS>);

impl Timings {
    pub(super) const fn new() -> Self {
        Timings(Cells::new())
    }

    /// Counts something that took `span`.
    pub(super) fn observe(&self, timing: Timing, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS - 1);
        let first = timing as usize * (BUCKETS + 1);
        self.0.add(first + bucket, 1);
        self.0.add(first + BUCKETS, micros);
    }
}

/// A histogram as it is shown, summed over threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Distribution {
    /// How many fell into each bucket and into none before it.
    counts: [u64; BUCKETS],
    sum_micros: u64,
}

impl Distribution {
    /// What these threads have measured.
    pub(super) fn of<'a>(timing: Timing, threads: impl Iterator<Item = &'a Timings>) -> Self {
        let first = timing as usize * (BUCKETS + 1);
        let mut all = Distribution::default();
        for Timings(cells) in threads {
            for (bucket, count) in all.counts.iter_mut().enumerate() {
                *count = count.wrapping_add(cells.get(first + bucket));
            }
            all.sum_micros = all.sum_micros.wrapping_add(cells.get(first + BUCKETS));
        }
        all
    }

    fn encode(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts).collect();
        let count = self.counts.iter().fold(0, |sum: u64, count| sum.wrapping_add(*count));
        metric.encode_histogram::<NoLabelSet>(self.sum_micros as f64 / 1e6, count, &buckets, None)
    }
}

/// Histograms under one name, told apart by one label if there are several.
struct TimingFamily {
    name: &'static str,
    help: &'static str,
    /// Empty for a family of one.
    label: &'static str,
    members: &'static [(Timing, &'static str)],
}

const FAMILIES: &[TimingFamily] = &[
    TimingFamily {
        name: "throng_reactor_turn",
        help: "How long a turn of a reactor took, waiting left out; one in sixteen is measured.",
        label: "",
        members: &[(Timing::Turn, "")],
    },
    TimingFamily {
        name: "throng_delivery",
        help: "From taking a message in to writing it to its receiver, sampled; on the same node, or on another.",
        label: "path",
        members: &[(Timing::Delivery, "local"), (Timing::ClusterDelivery, "cluster")],
    },
    TimingFamily {
        name: "throng_handshake",
        help: "From the accepted socket to the WebSocket, in steps of 10 ms.",
        label: "",
        members: &[(Timing::Handshake, "")],
    },
    TimingFamily {
        name: "throng_cluster_redis",
        help: "How long Redis took to answer, by what it was asked for.",
        label: "operation",
        members: &[
            (Timing::RedisPublish, "publish"),
            (Timing::RedisLookup, "lookup"),
            (Timing::RedisRegister, "register"),
            (Timing::RedisBeat, "beat"),
        ],
    },
];

/// Writes every family; `all` are the timings in their order.
pub(super) fn encode(out: &mut DescriptorEncoder<'_>, all: &[Distribution; Timing::COUNT]) -> fmt::Result {
    for family in FAMILIES {
        let mut metric =
            out.encode_descriptor(family.name, family.help, Some(&Unit::Seconds), MetricType::Histogram)?;
        if let [(timing, "")] = family.members {
            all[*timing as usize].encode(&mut metric)?;
            continue;
        }
        for (timing, value) in family.members {
            all[*timing as usize].encode(&mut metric.encode_family(&[(family.label, *value)])?)?;
        }
    }
    Ok(())
}

/// Every timing, summed over `threads`.
pub(super) fn distributions<'a>(
    threads: impl Iterator<Item = &'a Timings> + Clone,
) -> [Distribution; Timing::COUNT] {
    let mut all = [Distribution::default(); Timing::COUNT];
    for (timing, _) in FAMILIES.iter().flat_map(|family| family.members) {
        all[*timing as usize] = Distribution::of(*timing, threads.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timing_is_shown_once() {
        let mut all: Vec<usize> =
            FAMILIES.iter().flat_map(|family| family.members).map(|(timing, _)| *timing as usize).collect();
        all.sort_unstable();
        assert_eq!(all, (0..Timing::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn a_span_falls_into_the_first_bucket_that_holds_it() {
        let cases = [(0, 0), (10, 0), (11, 1), (100, 2), (1_000, 4), (10_000_000, 12), (10_000_001, 13)];
        for (micros, bucket) in cases {
            let timings = Timings::new();
            timings.observe(Timing::Handshake, Duration::from_micros(micros));
            let shown = Distribution::of(Timing::Handshake, [&timings].into_iter());
            let mut counts = [0; BUCKETS];
            counts[bucket] = 1;
            assert_eq!(shown, Distribution { counts, sum_micros: micros }, "{micros} µs");
            let other = Distribution::of(Timing::Turn, [&timings].into_iter());
            assert_eq!(other, Distribution::default(), "kept apart");
        }
    }

    #[test]
    fn threads_are_added_up() {
        let (one, two) = (Timings::new(), Timings::new());
        one.observe(Timing::RedisBeat, Duration::from_millis(2));
        two.observe(Timing::RedisBeat, Duration::from_millis(2));
        two.observe(Timing::RedisBeat, Duration::MAX);
        let shown = Distribution::of(Timing::RedisBeat, [&one, &two].into_iter());
        assert_eq!((shown.counts[5], shown.counts[BUCKETS - 1]), (2, 1));
    }
}
