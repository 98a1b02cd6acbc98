//! The thread that watches over a node: it turns commands and news from the
//! reactors into orders, and keeps the drain's clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select};

use crate::cluster::Cluster;
use crate::config::{Config, Settings};
use crate::drain::{Action, Drain, Phase, Plan};
use crate::metrics::Gauge;
use crate::reactor::mailbox::Mailbox;
use crate::reactor::message::{News, Order, Tally};
use crate::reactor::shared::Shared;

/// Events kept for whoever listens; older ones are not overwritten, newer ones dropped.
pub(super) const EVENTS: usize = 16;

/// What the handle asks for.
pub(super) enum Command {
    Drain,
    Reload(Box<Config>, Sender<(Vec<&'static str>, Vec<&'static str>)>),
    Stop,
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It drained. `forced` connections were cut off at the deadline.
    Drained {
        /// How many.
        forced: u64,
    },
    /// The handle was dropped.
    Stopped,
    /// A reactor's thread ended without being told to.
    Failed,
}

/// Something that happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// It has entered this phase.
    Phase(Phase),
    /// It has ended.
    Ended(Ending),
}

pub(super) struct Supervisor {
    shared: Arc<Shared>,
    config: Arc<Config>,
    orders: Vec<Mailbox<Order>>,
    reactors: Vec<JoinHandle<()>>,
    cluster: Option<Cluster>,
    events: Sender<ServerEvent>,
    drain: Drain,
    began: Instant,
    tally: Tally,
}

impl Supervisor {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: Arc<Config>,
        orders: Vec<Mailbox<Order>>,
        reactors: Vec<JoinHandle<()>>,
        cluster: Option<Cluster>,
        events: Sender<ServerEvent>,
    ) -> Self {
        let drain = Drain::new(reactors.len());
        Supervisor {
            shared,
            config,
            orders,
            reactors,
            cluster,
            events,
            drain,
            began: Instant::now(),
            tally: Tally::default(),
        }
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>, news: &Receiver<News>) -> Ending {
        let ending = loop {
            let deadline = self.drain.poll_deadline();
            let alarm = deadline.map_or_else(never, |at| after(at.saturating_duration_since(Instant::now())));
            let over = select! {
                recv(commands) -> command => self.obey(command.unwrap_or(Command::Stop)),
                recv(news) -> news => news.map_or(Some(Ending::Failed), |news| self.hear(news)),
                recv(alarm) -> now => {
                    let action = self.drain.handle_timeout(now.unwrap_or_else(|_| Instant::now()));
                    action.and_then(|action| self.act(action))
                }
            };
            if let Some(ending) = over {
                break ending;
            }
        };
        if let Some(cluster) = self.cluster.take() {
            cluster.stop();
        }
        self.order(|| Order::Stop);
        for reactor in self.reactors.drain(..) {
            if reactor.join().is_err() {
                log::error!("a reactor's thread panicked");
            }
        }
        let _ = self.events.try_send(ServerEvent::Ended(ending));
        ending
    }

    fn obey(&mut self, command: Command) -> Option<Ending> {
        match command {
            Command::Stop => Some(Ending::Stopped),
            Command::Drain => {
                let plan = Plan {
                    lame_duck: self.config.lame_duck,
                    window: self.config.drain_window,
                    timeout: self.config.drain_timeout,
                };
                let action = self.drain.handle_request(plan, Instant::now())?;
                self.act(action)
            }
            Command::Reload(config, answer) => {
                let (merged, changed, restart) = self.config.with_live_changes(&config);
                self.config = Arc::new(merged);
                let config = self.config.clone();
                self.order(|| Order::Reload(config.clone()));
                drop(answer.try_send((changed, restart)));
                None
            }
        }
    }

    fn hear(&mut self, news: News) -> Option<Ending> {
        match news {
            News::Ended(reactor) => {
                log::error!("reactor {} has ended by itself", reactor.0);
                Some(Ending::Failed)
            }
            News::Drained { tally, .. } => {
                self.tally.told += tally.told;
                self.tally.closed += tally.closed;
                self.tally.forced += tally.forced;
                self.tally.business += tally.business;
                let action = self.drain.handle_drained()?;
                self.act(action)
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Ending> {
        let phase = self.drain.phase();
        self.shared.phase.store(phase as u8, Ordering::Release);
        let _ = self.events.try_send(ServerEvent::Phase(phase));
        match action {
            Action::FailReadiness => {
                self.began = Instant::now();
                let seconds = self.config.lame_duck.as_secs_f32();
                log::info!("draining: not ready any more, still serving for {seconds} s");
                None
            }
            Action::CloseConnections => {
                let open = self.shared.open.load(Ordering::Relaxed);
                let window = self.config.drain_window.as_secs_f32();
                log::info!("draining: telling {open} connections, closing them over {window} s");
                self.order(|| Order::Close { reason: "draining" });
                None
            }
            Action::Abort => {
                log::warn!("draining: the deadline passed, cutting off what is left");
                self.order(|| Order::Abort);
                None
            }
            Action::Finish => Some(self.finish()),
        }
    }

    fn finish(&self) -> Ending {
        let Tally { told, closed, forced, business } = self.tally;
        let took = self.began.elapsed();
        let counters = self.shared.metrics.node();
        counters.set(Gauge::DrainMilliseconds, took.as_millis() as u64);
        let seconds = took.as_secs_f32();
        let extra = if business > 0 { format!(", {business} last messages sent") } else { String::new() };
        log::info!(
            "drained in {seconds:.1} s: {told} clients told, {closed} closed, {forced} cut off{extra}"
        );
        Ending::Drained { forced }
    }

    /// Gives every reactor an order. The queue is far larger than the orders
    /// of a node's life; should it be full, trying again is right.
    fn order(&self, order: impl Fn() -> Order) {
        for mailbox in &self.orders {
            for _ in 0..ORDER_TRIES {
                if mailbox.post(order()).is_ok() {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}

/// Tries to place an order in a full queue, 10 ms apart.
const ORDER_TRIES: u32 = 100;
