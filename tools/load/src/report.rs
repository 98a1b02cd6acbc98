//! What a run found out, for people and for scripts. Never measures.

use crate::cli::Common;
use crate::fleet::{Fleet, Outcome};
use crate::numbering::Faults;
use crate::procfs::Usage;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The longest latency that is told apart, in nanoseconds.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// Everything a run found out. Fields that a mode does not measure are absent.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) mode: &'static str,
    pub(crate) url: String,
    pub(crate) path: String,
    pub(crate) connections: usize,
    pub(crate) open_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) depth: Option<u32>,
    /// Bytes of payload sent per message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size_bytes: Option<usize>,
    /// Length of the measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
    /// Messages that arrived in it.
    pub(crate) messages: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fairness: Option<Fairness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Memory>,
    /// Connections opened in the measurement, and how many a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) handshakes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) handshakes_per_second: Option<f64>,
    /// Of those in TLS, the ones that resumed an earlier session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_handshakes_resumed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failover: Option<Failover>,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) out_of_order: u64,
    /// Messages whose content was not what had been sent.
    pub(crate) corrupted: u64,
    /// Messages that carried no number, such as presence or error messages.
    pub(crate) unnumbered: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unnumbered_example: Option<String>,
    pub(crate) connections_refused: u64,
    pub(crate) connections_lost: u64,
    /// Why connections were refused or lost.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// Nothing arrived for the stall timeout although something was owed.
    pub(crate) stalled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<Server>,
    /// Seconds after the last handshake until every receiver could be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) routable_seconds: Option<f64>,
    /// CPU seconds of the other processes that were watched, by process id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) watched_cpu_seconds: BTreeMap<u32, f64>,
    /// CPU seconds of this generator in the measurement.
    pub(crate) generator_cpu_seconds: f64,
}

/// Microseconds from the write that carried a message to the read that brought it.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    #[serde(rename = "p99_9_us")]
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    pub(crate) mean_us: f64,
}

/// Messages per connection, and how far the slow ones are behind.
#[derive(Debug, Serialize)]
pub(crate) struct Fairness {
    pub(crate) messages_min: u64,
    pub(crate) messages_median: u64,
    pub(crate) messages_max: u64,
    pub(crate) p99_over_p50: f64,
}

/// Resident memory of the server around idle connections.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) rss_before_bytes: u64,
    pub(crate) rss_open_bytes: u64,
    pub(crate) bytes_per_connection: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_after_burst_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_connection_after_burst: Option<f64>,
    pub(crate) rss_closed_bytes: u64,
}

/// What became of the clients of a node that was killed. Times are milliseconds since the kill.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Failover {
    /// Clients the node had.
    pub(crate) clients: usize,
    /// Of those, the ones that another instance has welcomed.
    pub(crate) served_elsewhere: usize,
    /// When the first and the last of them learnt that its connection had ended.
    pub(crate) first_ended_ms: f64,
    pub(crate) last_ended_ms: f64,
    /// When half of them, and when all, had been welcomed by another instance.
    pub(crate) half_served_ms: f64,
    pub(crate) last_served_ms: f64,
    /// Most of them welcomed within a tenth of a second, a second's worth.
    pub(crate) peak_reconnects_per_second: u64,
    /// Tries that failed.
    pub(crate) failed_attempts: u64,
    /// Connections of clients of other instances that ended too.
    pub(crate) disturbed: u64,
}

/// What the measurement cost the server.
#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) cpu_user_seconds: f64,
    pub(crate) cpu_system_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages_per_cpu_second: Option<f64>,
    pub(crate) rss_before_bytes: u64,
    pub(crate) rss_after_bytes: u64,
    pub(crate) rss_peak_bytes: u64,
}

/// Reads what server and generator used between two moments.
pub(crate) struct Meter {
    pid: Option<u32>,
    server: Option<Usage>,
    watched: Vec<(u32, Usage)>,
    own: Usage,
}

impl Meter {
    /// Begins to measure; the server is looked at if its process id is known.
    pub(crate) fn start(common: &Common) -> Result<Meter, String> {
        let usage = |pid: &u32| Ok((*pid, Usage::of(*pid)?));
        Ok(Meter {
            pid: common.pid,
            server: common.pid.map(Usage::of).transpose()?,
            watched: common.watched.iter().map(usage).collect::<Result<_, String>>()?,
            own: Usage::own()?,
        })
    }

    /// Ends the measurement in which `messages` messages arrived. Called again it measures the longer time.
    pub(crate) fn stop(&self, report: &mut Report, messages: u64) -> Result<(), String> {
        report.generator_cpu_seconds = Usage::own()?.cpu_seconds() - self.own.cpu_seconds();
        for (pid, before) in &self.watched {
            let cpu = Usage::of(*pid)?.cpu_seconds() - before.cpu_seconds();
            report.watched_cpu_seconds.insert(*pid, cpu);
        }
        let (Some(before), Some(pid)) = (self.server, self.pid) else { return Ok(()) };
        let after = Usage::of(pid)?;
        let cpu = after.cpu_seconds() - before.cpu_seconds();
        report.server = Some(Server {
            cpu_user_seconds: after.user_seconds - before.user_seconds,
            cpu_system_seconds: after.system_seconds - before.system_seconds,
            messages_per_cpu_second: (messages > 0 && cpu > 0.0).then(|| messages as f64 / cpu),
            rss_before_bytes: before.rss_bytes,
            rss_after_bytes: after.rss_bytes,
            rss_peak_bytes: after.rss_peak_bytes,
        });
        Ok(())
    }
}

/// Latencies in logarithmic buckets, three digits exact.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Latencies, String> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        histogram.map(Latencies).map_err(|error| format!("latency histogram: {error}"))
    }

    /// Notes that `count` messages took `nanoseconds`.
    pub(crate) fn record(&mut self, nanoseconds: u64, count: u64) {
        self.0.saturating_record_n(nanoseconds.max(1), count);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn summary(&self) -> Option<Latency> {
        let us = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Latency {
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.0.max() as f64 / 1000.0,
            mean_us: self.0.mean() / 1000.0,
        })
    }
}

impl Fairness {
    /// From the messages each connection got and their latencies.
    pub(crate) fn of(mut messages: Vec<u64>, latency: Option<&Latency>) -> Option<Fairness> {
        messages.sort_unstable();
        let latency = latency?;
        Some(Fairness {
            messages_min: *messages.first()?,
            messages_median: messages[messages.len() / 2],
            messages_max: *messages.last()?,
            p99_over_p50: latency.p99_us / latency.p50_us,
        })
    }
}

impl Report {
    /// Takes over what the fleet knows of its connections.
    pub(crate) fn connections_of(&mut self, fleet: &Fleet) {
        self.connections_refused = fleet.refused;
        self.connections_lost = fleet.lost;
        self.reasons = fleet.reasons.clone();
        self.open_seconds = fleet.open_seconds;
    }

    /// Takes over the messages of a measurement of this many seconds.
    pub(crate) fn rate_of(&mut self, messages: u64, seconds: f64, latencies: &Latencies) {
        self.messages = messages;
        self.seconds = Some(seconds);
        self.messages_per_second = Some(messages as f64 / seconds);
        self.latency = latencies.summary();
    }

    /// Takes over what did not arrive as it should, and whether the end was waited for in vain.
    pub(crate) fn faults_of(&mut self, faults: Faults, outcome: Outcome) {
        self.lost = faults.lost;
        self.duplicated = faults.duplicated;
        self.out_of_order = faults.out_of_order;
        self.stalled = outcome != Outcome::Done;
    }

    /// Everything that was asked for happened.
    pub(crate) fn is_clean(&self) -> bool {
        let faults = self.lost + self.duplicated + self.out_of_order + self.corrupted;
        let failover =
            |one: &Failover| one.served_elsewhere == one.clients && one.clients > 0 && one.disturbed == 0;
        faults + self.connections_refused + self.connections_lost == 0
            && !self.stalled
            && self.failover.as_ref().is_none_or(failover)
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { mode, url, path, connections, open_seconds, .. } = self;
        writeln!(f, "{mode} {url}{path}: {connections} connections, opened in {open_seconds:.2} s")?;
        if let Some(seconds) = self.routable_seconds {
            writeln!(f, "  routable    all receivers, {seconds:.2} s later")?;
        }
        if let (Some(count), Some(rate)) = (self.handshakes, self.handshakes_per_second) {
            writeln!(
                f,
                "  handshakes  {count} in {:.2} s, {rate:.0} a second",
                self.seconds.unwrap_or_default()
            )?;
        }
        if let Some(resumed) = self.tls_handshakes_resumed {
            writeln!(f, "  TLS         {resumed} resumed")?;
        }
        if let Some(failover) = &self.failover {
            write_failover(f, failover)?;
        }
        if let (Some(seconds), Some(rate)) = (self.seconds, self.messages_per_second) {
            let depth = self.depth.unwrap_or(1);
            let size = self.size_bytes.unwrap_or_default();
            writeln!(f, "  {} messages in {seconds:.2} s, depth {depth}, {size} bytes", self.messages)?;
            writeln!(f, "  rate        {rate:.0} messages/s")?;
        }
        if let Some(latency) = &self.latency {
            let Latency { p50_us, p99_us, p999_us, max_us, .. } = latency;
            writeln!(
                f,
                "  latency     p50 {p50_us:.0} us, p99 {p99_us:.0}, p99.9 {p999_us:.0}, max {max_us:.0}"
            )?;
        }
        if let Some(Fairness { messages_min, messages_median, messages_max, p99_over_p50 }) = &self.fairness {
            write!(
                f,
                "  fairness    messages per connection min {messages_min}, median {messages_median}, "
            )?;
            writeln!(f, "max {messages_max}; p99/p50 {p99_over_p50:.2}")?;
        }
        if let Some(memory) = &self.memory {
            write_memory(f, memory)?;
        }
        write!(f, "  faults      lost {}, duplicated {}, ", self.lost, self.duplicated)?;
        write!(f, "out of order {}, corrupted {}", self.out_of_order, self.corrupted)?;
        writeln!(f, ", connections refused {}, lost {}", self.connections_refused, self.connections_lost)?;
        for (reason, count) in &self.reasons {
            writeln!(f, "              {count} x {reason}")?;
        }
        if let Some(example) = &self.unnumbered_example {
            writeln!(f, "  unnumbered  {} messages, the first: {example}", self.unnumbered)?;
        }
        if self.stalled {
            writeln!(f, "  stalled     nothing arrived any more although messages were owed")?;
        }
        if let Some(server) = &self.server {
            write_server(f, server)?;
        }
        for (pid, cpu) in &self.watched_cpu_seconds {
            writeln!(f, "  process {pid} {cpu:.2} CPU s")?;
        }
        writeln!(f, "  generator   {:.2} CPU s", self.generator_cpu_seconds)
    }
}

fn write_memory(f: &mut fmt::Formatter<'_>, memory: &Memory) -> fmt::Result {
    let kib = |bytes: u64| bytes / 1024;
    let Memory { rss_before_bytes, rss_open_bytes, bytes_per_connection, rss_closed_bytes, .. } = memory;
    let (before, open) = (kib(*rss_before_bytes), kib(*rss_open_bytes));
    writeln!(f, "  idle        {bytes_per_connection:.1} bytes/connection (RSS {before} -> {open} KiB)")?;
    if let (Some(rss), Some(each)) = (memory.rss_after_burst_bytes, memory.bytes_per_connection_after_burst) {
        writeln!(f, "  after burst {each:.1} bytes/connection (RSS {} KiB)", kib(rss))?;
    }
    writeln!(f, "  closed      RSS {} KiB", kib(*rss_closed_bytes))
}

fn write_failover(f: &mut fmt::Formatter<'_>, failover: &Failover) -> fmt::Result {
    let Failover { clients, served_elsewhere, first_ended_ms, last_ended_ms, half_served_ms, .. } = failover;
    writeln!(f, "  killed      {clients} clients were there, {served_elsewhere} are served elsewhere")?;
    writeln!(f, "  told        first after {first_ended_ms:.1} ms, last after {last_ended_ms:.1} ms")?;
    let Failover { last_served_ms, peak_reconnects_per_second, failed_attempts, disturbed, .. } = failover;
    writeln!(f, "  served      half after {half_served_ms:.1} ms, last after {last_served_ms:.1} ms")?;
    writeln!(
        f,
        "  reconnects  at most {peak_reconnects_per_second} a second, {failed_attempts} tries failed"
    )?;
    writeln!(f, "  disturbed   {disturbed} clients of other instances")
}

fn write_server(f: &mut fmt::Formatter<'_>, server: &Server) -> fmt::Result {
    let Server { cpu_user_seconds, cpu_system_seconds, rss_before_bytes, rss_after_bytes, .. } = server;
    write!(f, "  server      {:.2} CPU s ", cpu_user_seconds + cpu_system_seconds)?;
    write!(f, "({cpu_user_seconds:.2} user, {cpu_system_seconds:.2} system)")?;
    if let Some(rate) = server.messages_per_cpu_second {
        write!(f, ", {rate:.0} messages per CPU s")?;
    }
    let peak = server.rss_peak_bytes / 1024;
    writeln!(f, ", RSS {} -> {} KiB, peak {peak}", rss_before_bytes / 1024, rss_after_bytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_fault_makes_a_run_unclean() {
        assert!(Report::default().is_clean());
        for report in [
            Report { lost: 1, ..Report::default() },
            Report { duplicated: 1, ..Report::default() },
            Report { out_of_order: 1, ..Report::default() },
            Report { corrupted: 1, ..Report::default() },
            Report { connections_refused: 1, ..Report::default() },
            Report { connections_lost: 1, ..Report::default() },
            Report { stalled: true, ..Report::default() },
            Report { failover: Some(Failover::default()), ..Report::default() },
            Report {
                failover: Some(Failover { clients: 2, served_elsewhere: 1, ..Failover::default() }),
                ..Report::default()
            },
        ] {
            assert!(!report.is_clean(), "{report}");
        }
    }

    #[test]
    fn latencies_are_counted_per_message() {
        let mut latencies = Latencies::new().unwrap();
        assert!(latencies.summary().is_none());
        latencies.record(1_000, 98);
        latencies.record(1_000_000, 2);
        let latency = latencies.summary().unwrap();
        assert!((latency.p50_us - 1.0).abs() < 0.01, "{latency:?}");
        assert!((latency.p99_us - 1000.0).abs() < 1.0, "{latency:?}");
        let fairness = Fairness::of(vec![3, 1, 2], Some(&latency)).unwrap();
        assert_eq!((fairness.messages_min, fairness.messages_median, fairness.messages_max), (1, 2, 3));
    }
}
