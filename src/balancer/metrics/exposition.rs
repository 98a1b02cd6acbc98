//! The text of `/metrics`, in the OpenMetrics format.

use super::names::{self, COUNTERS, GAUGES};
use super::{Counter, Gauge, Metrics};
use crate::balancer::ended::Ended;
use crate::balancer::roster::BackendRecord;
use crate::metrics::family::{encode_labelled, text_of};
use crate::metrics::process::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;
use std::fmt;

/// What the exposition says of the balancer beside its counters.
#[derive(Clone, Copy, Debug)]
pub struct BalancerState<'a> {
    /// The program's version.
    pub version: &'a str,
    /// The name of the strategy.
    pub strategy: &'a str,
    /// The phase of its life, such as `serving`.
    pub phase: &'a str,
    /// Whether it wants new connections.
    pub ready: bool,
    /// All backends.
    pub backends: &'a [BackendRecord],
}

/// Writes everything once.
pub(super) fn write(metrics: &Metrics, state: &BalancerState<'_>, process: Process) -> String {
    text_of(Reading::take(metrics, state, process))
}

/// A copy of all values: a collector has to own what it shows.
#[derive(Debug)]
struct Reading {
    version: String,
    strategy: String,
    phase: String,
    ready: bool,
    started_at_seconds: f64,
    counters: [u64; Counter::COUNT],
    ended: [u64; Ended::ALL.len()],
    sums: [u64; Gauge::COUNT],
    per_reactor: Vec<[u64; Gauge::COUNT]>,
    backends: Vec<BackendRecord>,
    process: Process,
}

impl Reading {
    fn take(metrics: &Metrics, state: &BalancerState<'_>, process: Process) -> Self {
        let mut reading = Reading {
            version: state.version.to_owned(),
            strategy: state.strategy.to_owned(),
            phase: state.phase.to_owned(),
            ready: state.ready,
            started_at_seconds: metrics.started_at_seconds,
            counters: [0; _],
            ended: Ended::ALL.map(|reason| metrics.ended(reason)),
            sums: [0; _],
            per_reactor: vec![[0; Gauge::COUNT]; metrics.reactors().len()],
            backends: state.backends.to_vec(),
            process,
        };
        for (counter, _) in COUNTERS.iter().flat_map(|family| family.members) {
            reading.counters[*counter as usize] = metrics.total(*counter);
        }
        for gauge in GAUGES.iter().map(|family| family.gauge).chain([Gauge::LogLinesDropped]) {
            reading.sums[gauge as usize] = metrics.gauge(gauge);
            for (values, row) in reading.per_reactor.iter_mut().zip(metrics.reactors()) {
                values[gauge as usize] = row.gauge(gauge);
            }
        }
        reading.sums[Gauge::DrainMilliseconds as usize] = metrics.drain_milliseconds();
        reading
    }

    fn balancer(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "The program's version and the strategy.";
        let labels = vec![("version", self.version.clone()), ("strategy", self.strategy.clone())];
        Info::new(labels).encode(out.encode_descriptor(
            "throng_balancer",
            help,
            None,
            MetricType::Info,
        )?)?;
        let help = "Whether the balancer wants new connections: 1 while it serves and a backend takes them.";
        let ready = out.encode_descriptor("throng_balancer_ready", help, None, MetricType::Gauge)?;
        ConstGauge::new(u64::from(self.ready)).encode(ready)?;
        let help = "The phase of the balancer's life; the one it is in has the value 1.";
        let mut phase = out.encode_descriptor("throng_balancer_phase", help, None, MetricType::Gauge)?;
        ConstGauge::new(1u64).encode(phase.encode_family(&[("phase", self.phase.as_str())])?)
    }

    fn own(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for family in GAUGES {
            let cell = family.gauge as usize;
            family.encode(out, self.sums[cell], self.per_reactor.iter().map(|values| values[cell]))?;
        }
        for family in COUNTERS {
            family.encode(out, |counter| self.counters[counter as usize])?;
        }
        let (name, help) = names::LOG_LINES;
        let lines = ConstCounter::new(self.sums[Gauge::LogLinesDropped as usize]);
        lines.encode(out.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        let labels = Ended::ALL.into_iter().map(|reason| reason.facts().0);
        encode_labelled(out, names::ENDED, None, "reason", labels.zip(self.ended))
    }

    fn backends(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in BACKEND_GAUGES {
            self.each_backend(out, (name, help), None, MetricType::Gauge, |backend, metric| {
                ConstGauge::new(value(backend)).encode(metric)
            })?;
        }
        for (name, help, unit, value) in BACKEND_COUNTERS {
            self.each_backend(out, (name, help), unit.as_ref(), MetricType::Counter, |backend, metric| {
                ConstCounter::new(value(backend)).encode(metric)
            })?;
        }
        self.states(out)?;
        self.checks(out)
    }

    /// One sample of each backend. Two may have one name, so the address is a
    /// label as well.
    fn each_backend(
        &self,
        out: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        unit: Option<&Unit>,
        kind: MetricType,
        sample: impl Fn(&BackendRecord, prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = out.encode_descriptor(name, help, unit, kind)?;
        for backend in &self.backends {
            let labels = [("backend", backend.name.as_str()), ("address", &address(backend))];
            sample(backend, metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn states(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "The state of the backend; the one it is in has the value 1.";
        let mut metric =
            out.encode_descriptor("throng_balancer_backend_state", help, None, MetricType::Gauge)?;
        for backend in &self.backends {
            let (address, state) = (address(backend), backend.state.name());
            let labels = [("backend", backend.name.as_str()), ("address", &address), ("state", state)];
            ConstGauge::new(1u64).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A backend that was never checked has none.
    fn checks(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("throng_balancer_backend_check_latency", "How long the last check took.");
        let mut metric = out.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for backend in &self.backends {
            let Some(check) = &backend.last_check else { continue };
            let labels = [("backend", backend.name.as_str()), ("address", &address(backend))];
            ConstGauge::new(check.latency.as_secs_f64()).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Empty while the backend's name stands for none.
fn address(backend: &BackendRecord) -> String {
    backend.address.map(|address| address.to_string()).unwrap_or_default()
}

type Value = fn(&BackendRecord) -> u64;

const BACKEND_GAUGES: [(&str, &str, Value); 3] = [
    ("throng_balancer_backend_up", "Whether the backend takes new connections.", |backend| {
        u64::from(backend.state.takes())
    }),
    ("throng_balancer_backend_connections", "Connections the backend has.", |backend| {
        u64::from(backend.connections)
    }),
    ("throng_balancer_backend_weight", "The backend's share, before slow start.", |backend| {
        u64::from(backend.weight)
    }),
];

const BACKEND_COUNTERS: [(&str, &str, Option<Unit>, Value); 4] = [
    ("throng_balancer_backend_connections_opened", "Connections the backend was given.", None, |backend| {
        backend.total
    }),
    (
        "throng_balancer_backend_failures",
        "Connects to the backend and handshakes with it that failed.",
        None,
        |backend| backend.failures,
    ),
    ("throng_balancer_backend_sent", "Bytes sent to the backend.", Some(Unit::Bytes), |backend| {
        backend.bytes_to_backend
    }),
    (
        "throng_balancer_backend_received",
        "Bytes from the backend that clients were sent.",
        Some(Unit::Bytes),
        |backend| backend.bytes_to_clients,
    ),
];

impl Collector for Reading {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        self.balancer(&mut out)?;
        self.own(&mut out)?;
        self.backends(&mut out)?;
        self.process.encode(&mut out, self.started_at_seconds)
    }
}

#[cfg(test)]
mod tests;
