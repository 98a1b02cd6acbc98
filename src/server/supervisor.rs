//! The thread that watches over a service: it turns commands and news from the
//! reactors into orders, and keeps the drain's clock.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select};

use crate::config::Settings;
use crate::drain::{Action, Drain, Phase, Plan};
use crate::reactor::mailbox::{Mailbox, Weigh};
use crate::reactor::message::{News, Tally};

/// Events kept for whoever listens; older ones are not overwritten, newer ones dropped.
pub(crate) const EVENTS: usize = 16;

/// What the handle asks for.
pub(crate) enum Command<C> {
    Drain,
    Reload(Box<C>, Sender<(Vec<&'static str>, Vec<&'static str>)>),
    Stop,
}

/// What is watched over: reactors, and whatever else a service has.
pub(crate) trait Crew: Send + 'static {
    /// The service's configuration.
    type Config: Settings + Send + Sync;

    /// How long each part of a drain may take.
    fn plan(config: &Self::Config) -> Plan;

    /// Connections open now.
    fn connections(&self) -> usize;

    /// Everybody is to see that the service is in this phase.
    fn set_phase(&self, phase: Phase);

    /// The reactors are to close their connections, spread over `window`.
    fn order_close(&self, window: Duration);

    /// The reactors are to cut off what is left.
    fn order_abort(&self);

    /// The reactors, and whatever else, are to take over new settings.
    fn order_reload(&mut self, config: &Arc<Self::Config>);

    /// Nothing is connected any more.
    fn has_drained(&self, took: Duration, tally: &Tally);

    /// Everything is to end: what is no reactor has ended on return.
    fn stop(&mut self);
}

/// How a node, or a balancer, ended.
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

/// Something that happened to a node, or to a balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// It has entered this phase.
    Phase(Phase),
    /// It has ended.
    Ended(Ending),
}

pub(crate) struct Supervisor<C: Crew> {
    crew: C,
    config: Arc<C::Config>,
    reactors: Vec<JoinHandle<()>>,
    events: Sender<ServerEvent>,
    drain: Drain,
    began: Instant,
    tally: Tally,
}

impl<C: Crew> Supervisor<C> {
    pub(crate) fn new(
        crew: C,
        config: Arc<C::Config>,
        reactors: Vec<JoinHandle<()>>,
        events: Sender<ServerEvent>,
    ) -> Self {
        let drain = Drain::new(reactors.len());
        Supervisor { crew, config, reactors, events, drain, began: Instant::now(), tally: Tally::default() }
    }

    pub(crate) fn run(mut self, commands: &Receiver<Command<C::Config>>, news: &Receiver<News>) -> Ending {
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
        self.crew.stop();
        for reactor in self.reactors.drain(..) {
            if reactor.join().is_err() {
                log::error!("a reactor's thread panicked");
            }
        }
        let _ = self.events.try_send(ServerEvent::Ended(ending));
        ending
    }

    fn obey(&mut self, command: Command<C::Config>) -> Option<Ending> {
        match command {
            Command::Stop => Some(Ending::Stopped),
            Command::Drain => {
                let action = self.drain.handle_request(C::plan(&self.config), Instant::now())?;
                self.act(action)
            }
            Command::Reload(config, answer) => {
                let (merged, changed, restart) = self.config.with_live_changes(&config);
                self.config = Arc::new(merged);
                self.crew.order_reload(&self.config);
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
        self.crew.set_phase(phase);
        let _ = self.events.try_send(ServerEvent::Phase(phase));
        match action {
            Action::FailReadiness => {
                self.began = Instant::now();
                let seconds = self.drain.plan().lame_duck.as_secs_f32();
                log::info!("draining: not ready any more, still serving for {seconds} s");
                None
            }
            Action::CloseConnections => {
                let open = self.crew.connections();
                // As the drain began: what was reloaded since is for the next.
                let window = self.drain.plan().window;
                let seconds = window.as_secs_f32();
                log::info!("draining: telling {open} connections, closing them over {seconds} s");
                self.crew.order_close(window);
                None
            }
            Action::Abort => {
                log::warn!("draining: the deadline passed, cutting off what is left");
                self.crew.order_abort();
                None
            }
            Action::Finish => Some(self.finish()),
        }
    }

    fn finish(&self) -> Ending {
        let Tally { told, closed, forced, business } = self.tally;
        let took = self.began.elapsed();
        self.crew.has_drained(took, &self.tally);
        let seconds = took.as_secs_f32();
        let extra = if business > 0 { format!(", {business} last messages sent") } else { String::new() };
        log::info!(
            "drained in {seconds:.1} s: {told} clients told, {closed} closed, {forced} cut off{extra}"
        );
        Ending::Drained { forced }
    }
}

/// Gives every reactor an order. The queue is far larger than the orders of a
/// service's life; should it be full, trying again is right.
pub(crate) fn order<O: Weigh>(reactors: &[Mailbox<O>], order: impl Fn() -> O) {
    for mailbox in reactors {
        for _ in 0..ORDER_TRIES {
            if mailbox.post(order()).is_ok() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// Tries to place an order in a full queue, 10 ms apart.
const ORDER_TRIES: u32 = 100;
