//! Families of metrics: what they are called, and how they are written in the
//! OpenMetrics format.
//!
//! OpenMetrics adds the suffixes: a counter's samples end in `_total`, and a
//! unit ends the name before that.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{self, Registry};
use std::fmt;

/// The unit of a metric, which ends its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// Kept in milliseconds, shown in seconds.
    Seconds,
}

impl Unit {
    pub(crate) fn of_openmetrics(self) -> Option<registry::Unit> {
        match self {
            Unit::Count => None,
            Unit::Bytes => Some(registry::Unit::Bytes),
            Unit::Seconds => Some(registry::Unit::Seconds),
        }
    }
}

/// Counters under one name, told apart by one label if there are several.
pub(crate) struct CounterFamily<C: 'static> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) unit: Unit,
    /// The label's name; empty for a family of one without a label.
    pub(crate) label: &'static str,
    /// Each counter and the value of its label.
    pub(crate) members: &'static [(C, &'static str)],
}

/// One gauge.
pub(crate) struct GaugeFamily<G> {
    pub(crate) gauge: G,
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) unit: Unit,
    /// Shown for each reactor under the label `reactor`, not as the sum.
    pub(crate) per_reactor: bool,
}

impl<C: Copy> CounterFamily<C> {
    pub(crate) fn encode(&self, out: &mut DescriptorEncoder<'_>, count: impl Fn(C) -> u64) -> fmt::Result {
        let unit = self.unit.of_openmetrics();
        let mut metric = out.encode_descriptor(self.name, self.help, unit.as_ref(), MetricType::Counter)?;
        if let [(counter, "")] = self.members {
            return ConstCounter::new(count(*counter)).encode(metric);
        }
        for (counter, value) in self.members {
            ConstCounter::new(count(*counter)).encode(metric.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }
}

impl<G: Copy> GaugeFamily<G> {
    /// `total` is the value of the whole, `rows` those of the reactors.
    pub(crate) fn encode(
        &self,
        out: &mut DescriptorEncoder<'_>,
        total: u64,
        rows: impl Iterator<Item = u64>,
    ) -> fmt::Result {
        let unit = self.unit.of_openmetrics();
        let mut metric = out.encode_descriptor(self.name, self.help, unit.as_ref(), MetricType::Gauge)?;
        if !self.per_reactor {
            return self.encode_value(total, metric);
        }
        for (reactor, value) in rows.enumerate() {
            let labels = [("reactor", reactor.to_string())];
            self.encode_value(value, metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_value(&self, value: u64, metric: MetricEncoder<'_>) -> fmt::Result {
        match self.unit {
            Unit::Count | Unit::Bytes => ConstGauge::new(value).encode(metric),
            Unit::Seconds => ConstGauge::new(value as f64 / 1000.0).encode(metric),
        }
    }
}

/// Counters under one name, told apart by a label whose values are known only here.
pub(crate) fn encode_labelled<'a>(
    out: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    unit: Option<&registry::Unit>,
    label: &str,
    members: impl Iterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (value, count) in members {
        ConstCounter::new(count).encode(metric.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

/// Writes everything once.
pub(crate) fn text_of(reading: impl Collector + 'static) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(reading));
    let mut out = String::with_capacity(16 * 1024);
    let written = text::encode(&mut out, &registry);
    debug_assert!(written.is_ok(), "writing to a String does not fail, and no collector of ours does");
    out
}
