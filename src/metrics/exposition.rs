//! The text of `/metrics`, in the OpenMetrics format.

use super::family::{encode_labelled, text_of};
use super::names::{self, CLOSED_HELP, CLOSED_NAME};
use super::process::Process;
use super::timing::{self, Distribution, Timing};
use super::traffic::Volumes;
use super::{Counter, Gauge, Metrics};
use crate::ws::close::CloseReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use std::fmt;

/// What the exposition says of the node beside its counters.
#[derive(Clone, Copy, Debug)]
pub struct NodeState<'a> {
    /// The node's id.
    pub node_id: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// The phase of the node's life, such as `serving`.
    pub phase: &'a str,
    /// Whether the node wants new connections.
    pub ready: bool,
    /// How it stands to the cluster, one of [`LINK_STATES`].
    pub link: &'a str,
    /// WebSocket connections it may have at once.
    pub connections_max: u64,
}

/// How a node may stand to the cluster: it is to be in none; Redis cannot be
/// reached; it is registering; all users are registered and everything is heard.
pub const LINK_STATES: [&str; 4] = ["alone", "down", "joining", "ready"];

/// Writes everything once.
pub(super) fn write(metrics: &Metrics, node: &NodeState<'_>, process: Process) -> String {
    text_of(Reading::take(metrics, node, process))
}

/// A copy of all values: a collector has to own what it shows.
#[derive(Debug)]
struct Reading {
    node_id: String,
    version: String,
    phase: String,
    ready: bool,
    link: String,
    connections_max: u64,
    started_at_seconds: f64,
    counters: [u64; Counter::COUNT],
    volumes: Volumes,
    closed: [u64; CloseReason::ALL.len()],
    sums: [u64; Gauge::COUNT],
    per_reactor: Vec<[u64; Gauge::COUNT]>,
    timings: [Distribution; Timing::COUNT],
    process: Process,
}

impl Reading {
    fn take(metrics: &Metrics, node: &NodeState<'_>, process: Process) -> Self {
        let gauges = names::GAUGES.iter().map(|family| family.gauge);
        let mut reading = Reading {
            node_id: node.node_id.to_owned(),
            version: node.version.to_owned(),
            phase: node.phase.to_owned(),
            ready: node.ready,
            link: node.link.to_owned(),
            connections_max: node.connections_max,
            started_at_seconds: metrics.started_at_seconds,
            counters: [0; _],
            volumes: Volumes::of(metrics.rows.iter().map(|row| &row.traffic)),
            closed: CloseReason::ALL.map(|reason| metrics.closed(reason)),
            sums: [0; _],
            per_reactor: vec![[0; Gauge::COUNT]; metrics.reactors().len()],
            timings: timing::distributions(metrics.rows.iter().map(|row| &row.timings)),
            process,
        };
        for (counter, _) in names::COUNTERS.iter().flat_map(|family| family.members) {
            reading.counters[*counter as usize] = metrics.total(*counter);
        }
        for gauge in gauges {
            reading.sums[gauge as usize] = metrics.gauge(gauge);
            for (values, row) in reading.per_reactor.iter_mut().zip(metrics.reactors()) {
                values[gauge as usize] = row.gauge(gauge);
            }
        }
        reading.sums[Gauge::DrainMilliseconds as usize] = metrics.drain_milliseconds();
        reading
    }

    fn node(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "The node's id and the program's version.";
        let labels = vec![("node", self.node_id.clone()), ("version", self.version.clone())];
        Info::new(labels).encode(out.encode_descriptor("throng_node", help, None, MetricType::Info)?)?;
        let help = "Whether the node wants new connections: 1 while it serves, 0 from the start of a drain.";
        let ready = out.encode_descriptor("throng_ready", help, None, MetricType::Gauge)?;
        ConstGauge::new(u64::from(self.ready)).encode(ready)?;
        let help = "The phase of the node's life; the one it is in has the value 1.";
        let mut phase = out.encode_descriptor("throng_phase", help, None, MetricType::Gauge)?;
        ConstGauge::new(1u64).encode(phase.encode_family(&[("phase", self.phase.as_str())])?)?;
        let help = "How the node stands to the cluster; the state it is in has the value 1, the others 0.";
        let mut link = out.encode_descriptor("throng_cluster_link", help, None, MetricType::Gauge)?;
        for state in LINK_STATES {
            let value = u64::from(state == self.link);
            ConstGauge::new(value).encode(link.encode_family(&[("state", state)])?)?;
        }
        let help = "WebSocket connections the node may have at once.";
        let max = out.encode_descriptor("throng_connections_max", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.connections_max).encode(max)
    }
}

impl Collector for Reading {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        self.node(&mut out)?;
        for family in names::GAUGES {
            let cell = family.gauge as usize;
            family.encode(&mut out, self.sums[cell], self.per_reactor.iter().map(|values| values[cell]))?;
        }
        for family in names::COUNTERS {
            family.encode(&mut out, |counter| self.counters[counter as usize])?;
        }
        self.volumes.encode(&mut out)?;
        let closed = CloseReason::ALL.iter().map(|reason| reason.label()).zip(self.closed);
        encode_labelled(&mut out, (CLOSED_NAME, CLOSED_HELP), None, "reason", closed)?;
        timing::encode(&mut out, &self.timings)?;
        self.process.encode(&mut out, self.started_at_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Received, Sent};
    use super::*;
    use crate::ids::ReactorId;
    use std::collections::HashSet;
    use std::path::Path;
    use std::time::Duration;

    fn example() -> String {
        let metrics = Metrics {
            started_at_seconds: 1_700_000_000.25,
            ..std::sync::Arc::into_inner(Metrics::new(2)).expect("the only owner")
        };
        for reactor in 0..2 {
            let row = metrics.thread(ReactorId(reactor));
            for (index, (counter, _)) in names::COUNTERS.iter().flat_map(|family| family.members).enumerate()
            {
                row.add(*counter, index as u64 + 1);
            }
            for family in names::GAUGES {
                row.set(family.gauge, family.gauge as u64 * 100 + u64::from(reactor));
            }
            row.closed(CloseReason::PeerClosed);
            row.received(Received::Ping, 15);
            row.sent(Sent::Broadcast, 10, 400);
            row.took(Timing::Turn, Duration::from_micros(250));
            row.took(Timing::RedisBeat, Duration::from_secs(20));
        }
        let node = NodeState {
            node_id: "a\"b\\c",
            version: "1.2.3",
            phase: "lame_duck",
            ready: false,
            link: "joining",
            connections_max: 1000,
        };
        let process = Process {
            resident_bytes: Some(4096),
            anonymous_bytes: Some(2048),
            cpu_seconds: Some(1.5),
            threads: Some(3),
            open_fds: Some(10),
            max_fds: Some(20_000),
        };
        write(&metrics, &node, process)
    }

    /// Set `UPDATE_GOLDEN` to write the file anew.
    #[test]
    fn the_text_is_the_golden_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
        let text = example();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).expect("the golden file can be written");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("the golden file"), text);
    }

    #[test]
    fn every_family_is_announced_once_and_holds_only_its_own_samples() {
        let text = example();
        let (mut announced, mut samples) = (HashSet::new(), HashSet::new());
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap_or_default();
                assert!(announced.insert(family), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ").or(line.strip_prefix("# UNIT ")) {
                assert_eq!(rest.split(' ').next(), Some(family), "{line}");
            } else if line != "# EOF" {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                let suffix = name.strip_prefix(family);
                assert!(
                    matches!(suffix, Some("" | "_total" | "_info" | "_bucket" | "_sum" | "_count")),
                    "{line} under {family}"
                );
                let (series, value) = line.rsplit_once(' ').expect("a value");
                assert!(samples.insert(series.to_owned()), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.ends_with("\n# EOF\n"));
        for kind in ["HELP", "TYPE"] {
            let lines = text.lines().filter(|line| line.starts_with(&format!("# {kind} ")));
            assert_eq!(lines.count(), announced.len(), "{kind}");
        }
    }

    /// Without it Prometheus works out no quantile.
    #[test]
    fn every_histogram_has_a_bucket_for_all() {
        let text = example();
        let value = |series: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {series} in {text}")).parse::<u64>().unwrap()
        };
        let counts: Vec<_> = text.lines().filter_map(|line| line.split_once("_seconds_count")).collect();
        assert!(counts.len() >= 5, "{counts:?}");
        for (name, rest) in counts {
            let labels = rest.split(' ').next().unwrap_or_default().trim_matches(['{', '}']);
            let comma = if labels.is_empty() { "" } else { "," };
            let all = value(&format!("{name}_seconds_bucket{{le=\"+Inf\"{comma}{labels}}}"));
            let count = rest.rsplit(' ').next().and_then(|count| count.parse().ok());
            assert_eq!(count, Some(all), "{name} {labels}");
        }
    }

    #[test]
    fn what_the_kernel_did_not_tell_is_left_out() {
        let node = NodeState {
            node_id: "a",
            version: "1",
            phase: "serving",
            ready: true,
            link: "alone",
            connections_max: 1,
        };
        let text = write(&Metrics::new(1), &node, Process::default());
        assert!(!text.contains("process_cpu") && !text.contains("process_open_fds"), "{text}");
        assert!(text.contains("process_start_time_seconds "));
        assert!(text.contains("throng_ready 1\n"));
    }
}
