//! A node as its supervisor sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::supervisor::{Crew, order};
use super::token_keys::KeyWatch;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::drain::{Phase, Plan};
use crate::metrics::Gauge;
use crate::reactor::mailbox::Mailbox;
use crate::reactor::message::{Order, Tally};
use crate::reactor::shared::Shared;
use crate::tls::Certificate;

/// The reactors of a node, and its part in the cluster.
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: Vec<Mailbox<Order>>,
    pub(super) cluster: Option<Cluster>,
    pub(super) tls: Option<Certificate>,
    pub(super) key_watch: Option<KeyWatch>,
}

impl Node {
    /// Says in the metrics until when the certificate in force is valid.
    pub(super) fn show_expiry(&self) {
        let expires_ms = self.tls.as_ref().map_or(0, Certificate::expiry_millis);
        self.shared.metrics.node().set(Gauge::CertificateExpiryMilliseconds, expires_ms);
    }
}

impl Crew for Node {
    type Config = Config;

    fn plan(config: &Config) -> Plan {
        Plan { lame_duck: config.lame_duck, window: config.drain_window, timeout: config.drain_timeout }
    }

    fn connections(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    fn set_phase(&self, phase: Phase) {
        if phase != Phase::Serving {
            self.shared.metrics.begin_drain();
        }
        self.shared.phase.store(phase as u8, Ordering::Release);
    }

    fn order_close(&self, window: Duration) {
        order(&self.orders, || Order::Close { reason: "draining", window });
    }

    fn order_abort(&self) {
        order(&self.orders, || Order::Abort);
    }

    fn order_reload(&mut self, config: &Arc<Config>) {
        order(&self.orders, || Order::Reload(config.clone()));
        if let Some(identity) = self.tls.as_mut().and_then(Certificate::reload) {
            order(&self.orders, || Order::Tls(identity.clone()));
        }
        self.show_expiry();
        if let Some(watch) = &self.key_watch {
            watch.read_again();
        }
    }

    fn has_drained(&self, took: Duration, _: &Tally) {
        self.shared.metrics.node().set(Gauge::DrainMilliseconds, took.as_millis() as u64);
    }

    fn stop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            cluster.stop();
        }
        if let Some(watch) = self.key_watch.take() {
            watch.stop();
        }
        order(&self.orders, || Order::Stop);
    }
}
