//! A service as a process: what `throng serve` and `throng balance` do between
//! their start and their exit status. Signals come in, the service manager is told.

mod node;
mod watch;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never, select, tick};
use sd_notify::NotifyState;

use crate::cli::EXIT_USAGE;
use crate::config::{Loader, Settings};
use crate::descriptors::{self, Shortage};
use crate::drain::Phase;
use crate::logging::Logging;
use crate::net::Inherited;
use crate::server::{Ending, ServerEvent, StartError};
use crate::signals::{self, Signal};
use watch::FileWatch;

/// Exit status when something failed while running.
pub const EXIT_FAILED: u8 = 1;

/// Exit status after a second signal: 128 and SIGTERM, as a shell reports a kill.
pub const EXIT_AT_ONCE: u8 = 128 + 15;

/// A repeated signal sooner than this after the first is the same request:
/// wrappers such as timeout(1) signal a process and its group, the process in it.
const SAME_REQUEST: Duration = Duration::from_millis(250);

/// How often the figures shown by the service manager, and counters kept elsewhere, are brought up to date.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What a drain may take beyond its bound: reporting the cut, leaving the
/// cluster, writing the log.
pub const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// What a process needs of the service that runs in it.
pub trait Service {
    /// Its configuration.
    type Config: Settings;

    /// What the ready line says of it: words `name=value`, without line breaks, such
    /// as `http=127.0.0.1:8080 ws=off node=n1`.
    fn description(&self) -> String;

    /// Begins to drain and returns at once; its events tell the rest.
    fn drain(&self);

    /// Takes over what can change while it runs. Returns the keys that changed,
    /// and those that differ but need a restart.
    fn reload(&self, config: &Self::Config) -> (Vec<&'static str>, Vec<&'static str>);

    /// What happens to it: its phases, its end.
    fn events(&self) -> &Receiver<ServerEvent>;

    /// Whether every thread that must not hang has taken a turn since `turns`
    /// was filled; fills it anew. Asked once in half the watchdog's period.
    fn is_alive_since(&self, turns: &mut Vec<u64>) -> bool;

    /// Connections open now.
    fn connections(&self) -> usize;

    /// Where it is in its life.
    fn phase(&self) -> Phase;

    /// How many log lines were lost since the start: its metrics are to say so.
    fn set_lost_log_lines(&self, lines: u64);
}

/// Starts a service and runs it until it has drained, failed, or is told to end at once.
pub fn run<S: Service>(
    mut config: S::Config,
    start: impl FnOnce(S::Config, Inherited) -> Result<S, StartError>,
    loader: &Loader<S::Config>,
    logging: &Logging,
) -> ExitCode {
    let (signals, signals_in) = bounded(16);
    if let Err(error) = signals::forward(signals) {
        return refuse(&StartError::System("catch signals", error));
    }
    let longest_drain = config.longest_drain();
    let raised = descriptors::raise();
    let shortage = fit_descriptors(&mut config);
    // From before the files are read, so that no change of theirs is missed.
    let (files, config_in_force) = (FileWatch::start(config.watched_files()), config.clone());
    let inherited = Inherited::from_service_manager()
        .map_err(|error| StartError::System("take over the service manager's sockets", error));
    let service = match inherited.and_then(|inherited| start(config, inherited)) {
        Ok(service) => service,
        Err(error) => return refuse(&error),
    };
    if let Err(error) = raised {
        log::warn!("the limit on open files could not be raised: {error}");
    }
    warn_of(shortage);
    announce(&service.description());
    let (turns, shown, asked) = (Vec::new(), None, None);
    let config = config_in_force;
    Process { service: &service, loader, logging, config, longest_drain, turns, shown, asked }
        .live(&signals_in, files.changes())
}

/// Allows as many connections as there are descriptors for: those that remain
/// are for probes, which else nobody could answer once the node is full.
fn fit_descriptors<C: Settings>(config: &mut C) -> Option<Shortage> {
    let shortage = descriptors::shortage(config.descriptors())?;
    config.cap_connections(usize::try_from(shortage.possible()).unwrap_or(usize::MAX));
    Some(shortage)
}

fn warn_of(shortage: Option<Shortage>) {
    if let Some(shortage) = shortage {
        log::warn!("{shortage}");
    }
}

fn refuse(error: &StartError) -> ExitCode {
    // Whoever closed the stream, or filled its disk, is still told by the status.
    let _ = writeln!(io::stderr(), "throng: {error}");
    ExitCode::from(if matches!(error, StartError::Config(_)) { EXIT_USAGE } else { EXIT_FAILED })
}

/// The line that people and scripts wait for, and its counterpart for systemd.
fn announce(description: &str) {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "throng ready {description} pid={}", std::process::id());
    if let Err(error) = written.and_then(|()| stdout.flush()) {
        log::warn!("the ready line could not be written to stdout: {error}");
    }
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// Tells systemd, if it started us.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("the service manager could not be told: {error}");
    }
}

struct Process<'a, S: Service> {
    service: &'a S,
    loader: &'a Loader<S::Config>,
    logging: &'a Logging,
    /// As it was last read.
    config: S::Config,
    /// From the request to drain to the cut, as configured now.
    longest_drain: Duration,
    /// Turns each thread had taken when last asked.
    turns: Vec<u64>,
    /// The status last shown.
    shown: Option<(Phase, usize)>,
    /// When the drain was asked for.
    asked: Option<Instant>,
}

impl<S: Service> Process<'_, S> {
    fn live(mut self, signals: &Receiver<Signal>, files: &Receiver<()>) -> ExitCode {
        // Twice as often as systemd asks for, as its manual advises.
        let watchdog = sd_notify::watchdog_enabled().map_or_else(never, |period| tick(period / 2));
        let housekeeping = tick(HOUSEKEEPING);
        loop {
            select! {
                recv(signals) -> signal => match signal {
                    Ok(Signal::Drain { .. }) if self.is_first_request() => self.service.drain(),
                    Ok(Signal::Drain { .. }) => {
                        log::warn!("a second signal: ending at once");
                        return ExitCode::from(EXIT_AT_ONCE);
                    }
                    Ok(Signal::Reload) => self.reload(),
                    Err(_) => return ExitCode::from(EXIT_FAILED),
                },
                recv(self.service.events()) -> event => match event {
                    Ok(ServerEvent::Phase(Phase::LameDuck)) => {
                        self.announce_drain();
                    }
                    Ok(ServerEvent::Phase(_)) => self.show_status(),
                    Ok(ServerEvent::Ended(Ending::Drained { .. } | Ending::Stopped)) => return ExitCode::SUCCESS,
                    Ok(ServerEvent::Ended(Ending::Failed)) | Err(_) => return ExitCode::from(EXIT_FAILED),
                },
                // Its files are read anew, whatever else it says.
                recv(files) -> _ => drop(self.service.reload(&self.config)),
                recv(watchdog) -> _ => self.feed_watchdog(),
                recv(housekeeping) -> _ => {
                    self.show_status();
                    self.service.set_lost_log_lines(self.logging.lost_lines());
                }
            }
        }
    }

    /// Tells the service manager, and how long this may take: it is not to be
    /// killed because the configuration gives clients more time than the unit.
    fn announce_drain(&self) {
        let bound = (self.longest_drain + DRAIN_GRACE).as_micros();
        let extend = format!("EXTEND_TIMEOUT_USEC={bound}");
        let status = NotifyState::Status("draining: lame duck");
        notify(&[NotifyState::Stopping, NotifyState::Custom(&extend), status]);
    }

    /// Whether a signal to drain is no repetition.
    fn is_first_request(&mut self) -> bool {
        self.asked.get_or_insert_with(Instant::now).elapsed() < SAME_REQUEST
    }

    /// Feeds the watchdog only if every thread is alive: one that hangs is reason enough to be restarted.
    fn feed_watchdog(&mut self) {
        if self.service.is_alive_since(&mut self.turns) {
            notify(&[NotifyState::Watchdog]);
        } else {
            log::error!("a thread has not taken a turn since the watchdog was last fed");
        }
    }

    fn show_status(&mut self) {
        let state = (self.service.phase(), self.service.connections());
        if self.shown != Some(state) {
            self.shown = Some(state);
            notify(&[NotifyState::Status(&format!("{}, {} connections", state.0.name(), state.1))]);
        }
    }

    fn reload(&mut self) {
        let began = Instant::now();
        let reloading = NotifyState::monotonic_usec_now();
        notify(&reloading.map_or_else(|_| vec![], |now| vec![NotifyState::Reloading, now]));
        match self.loader.load() {
            Ok((config, _)) => self.take_over(config),
            Err(error) => log::error!("not reloaded, the old configuration stays in force: {error}"),
        }
        notify(&[NotifyState::Ready]);
        log::debug!("reloading took {:?}", began.elapsed());
    }

    fn take_over(&mut self, mut config: S::Config) {
        warn_of(fit_descriptors(&mut config));
        self.longest_drain = config.longest_drain();
        let (changed, restart) = self.service.reload(&config);
        if let Err(error) = self.logging.set_levels(config.logging().1) {
            log::error!("the log level stays as it is: {error}");
        }
        match changed.is_empty() {
            true => log::info!("reloaded: nothing changed"),
            false => log::info!("reloaded: changed {}", changed.join(", ")),
        }
        if !restart.is_empty() {
            log::warn!("these changes need a restart: {}", restart.join(", "));
        }
        self.config = config;
    }
}
