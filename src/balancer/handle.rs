//! A running balancer, as a program holds it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::config::BalanceConfig;
use super::metrics::{Counter, Gauge};
use super::reactor::{Order, Shared};
use super::start::{peers, plan};
use crate::drain::{Phase, Plan};
use crate::ids::ReactorId;
use crate::reactor::mailbox::Mailbox;
use crate::reactor::message::Tally;
use crate::server::supervisor::{Command, Crew, order};
use crate::server::{Ending, ServerEvent};
use crate::service::Service;
use crate::tls::{Certificate, Peers};

/// A running balancer.
///
/// All methods may be called from any thread. Dropping the handle ends the
/// balancer at once; [`Balancer::drain`] and [`Balancer::wait`] end it well.
pub struct Balancer {
    pub(super) shared: Arc<Shared>,
    /// Whether TLS is spoken with clients.
    pub(super) is_tls: bool,
    pub(super) commands: Sender<Command<BalanceConfig>>,
    pub(super) events: Receiver<ServerEvent>,
    pub(super) supervisor: Option<JoinHandle<Ending>>,
}

impl Balancer {
    /// Where clients connect to; with port 0 the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Waits until the balancer has ended and says how.
    pub fn wait(mut self) -> Ending {
        self.join()
    }

    fn join(&mut self) -> Ending {
        let ended = self.supervisor.take().map(JoinHandle::join);
        ended.and_then(Result::ok).unwrap_or(Ending::Failed)
    }

    fn command(&self, command: Command<BalanceConfig>) {
        // A balancer that has ended takes no commands.
        drop(self.commands.send(command));
    }
}

impl Service for Balancer {
    type Config = BalanceConfig;

    fn description(&self) -> String {
        let backends = self.shared.directory().backends.len();
        let tls = if self.is_tls { " tls=http" } else { "" };
        format!("http={} backends={backends}{tls}", self.shared.address)
    }

    fn drain(&self) {
        self.command(Command::Drain);
    }

    fn reload(&self, config: &BalanceConfig) -> (Vec<&'static str>, Vec<&'static str>) {
        let (sender, receiver) = bounded(1);
        self.command(Command::Reload(Box::new(config.clone()), sender));
        receiver.recv().unwrap_or_default()
    }

    fn events(&self) -> &Receiver<ServerEvent> {
        &self.events
    }

    fn is_alive_since(&self, turns: &mut Vec<u64>) -> bool {
        let count = |index| self.shared.metrics.thread(ReactorId(index as u8)).get(Counter::Turns);
        let now: Vec<u64> = (0..self.shared.mailboxes.len()).map(count).collect();
        let alive = turns.iter().zip(&now).all(|(before, after)| before != after);
        *turns = now;
        alive
    }

    fn connections(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    fn phase(&self) -> Phase {
        self.shared.phase()
    }

    fn set_lost_log_lines(&self, lines: u64) {
        self.shared.metrics.balancer().set(Gauge::LogLinesDropped, lines);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.command(Command::Stop);
        self.join();
    }
}

/// The threads of a balancer as its supervisor sees them.
pub(super) struct Threads {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: Vec<Mailbox<Order>>,
    pub(super) director: Option<super::director::Director>,
    pub(super) tls: Option<Certificate>,
    pub(super) peers: Option<Peers>,
}

impl Threads {
    /// Says in the metrics until when the certificate in force is valid.
    pub(super) fn show_expiry(&self) {
        let expires_ms = self.tls.as_ref().map_or(0, Certificate::expiry_millis);
        self.shared.metrics.balancer().set(Gauge::CertificateExpiryMilliseconds, expires_ms);
    }

    /// Reads the files again; what cannot be used leaves in force what is.
    fn reload_tls(&mut self, config: &BalanceConfig) {
        if let Some(certificate) = &mut self.tls {
            certificate.reload();
        }
        match peers(config) {
            Ok(peers) => {
                if let (Some(_), Some(ca)) = (&peers, &config.backend_ca) {
                    log::info!("TLS: {} read again, for new connections to backends", ca.display());
                }
                self.peers = peers;
            }
            Err(why) => log::error!("TLS: who backends have to be stays as it was: {why}"),
        }
        self.show_expiry();
        let identity = self.tls.as_ref().map(Certificate::in_force);
        order(&self.orders, || Order::Tls { identity: identity.clone(), peers: self.peers.clone() });
    }
}

impl Crew for Threads {
    type Config = BalanceConfig;

    fn plan(config: &BalanceConfig) -> Plan {
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
        order(&self.orders, || Order::Close { window });
    }

    fn order_abort(&self) {
        order(&self.orders, || Order::Abort);
    }

    fn order_reload(&mut self, config: &Arc<BalanceConfig>) {
        order(&self.orders, || Order::Reload(config.clone()));
        self.shared.set_strategy(config.strategy);
        self.reload_tls(config);
        let Some(director) = &self.director else { return };
        // What was valid a moment ago has a plan.
        let followed = plan(config, self.peers.clone())
            .map_err(|error| error.to_string())
            .and_then(|plan| director.follow(plan).map_err(|error| error.to_string()));
        if let Err(error) = followed {
            log::error!("the backends are followed as before: {error}");
        }
    }

    fn has_drained(&self, took: Duration, _: &Tally) {
        self.shared.metrics.balancer().set(Gauge::DrainMilliseconds, took.as_millis() as u64);
    }

    fn stop(&mut self) {
        self.shared.stop();
        if let Some(director) = self.director.take() {
            director.stop();
        }
        order(&self.orders, || Order::Stop);
    }
}
