//! What whoever watches the balancer is shown: the state of the backends, what
//! happened lately, and the stream of both.
//!
//! Owns: [`Live`], and [`Watchers`], to whom the director tells its news. Events
//! are rendered once, on the director's thread, whatever the number of listeners.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Sender;

use super::director::Audience;
use super::metrics::{Counter, Gauge};
use super::reactor::{ReactorMessage, Shared};
use super::roster::{BackendId, BackendRecord, Directory, LiveUpdate, State};
use super::view::{History, Rates, SnapshotView, Totals};

/// The latest state and recent history.
#[derive(Debug, Default)]
pub struct Live {
    history: History,
    rates: Rates,
}

impl Live {
    /// What a new listener is sent first.
    pub fn opening(&mut self) -> Bytes {
        self.history.opening()
    }
}

/// The reactors and the API, as the director's audience.
pub(super) struct Watchers {
    /// What holds the way to the director must not be held by it.
    pub(super) shared: Weak<Shared>,
    /// Who waits until every backend is known to be up or not.
    pub(super) checked: Sender<()>,
}

impl Watchers {
    fn tell_checked(&self, backends: &[BackendRecord]) {
        if !backends.is_empty() && backends.iter().all(|backend| backend.state != State::Checking) {
            // Told often, heard once.
            let _ = self.checked.try_send(());
        }
    }
}

impl Audience for Watchers {
    fn directory(&self, directory: Arc<Directory>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.set_directory(directory);
        }
    }

    fn backend_down(&self, backend: BackendId, why: Arc<str>) {
        let Some(shared) = self.shared.upgrade() else { return };
        log::debug!("closing what is left at {backend}: {why}");
        for mailbox in &shared.mailboxes {
            // A reactor takes its mail every turn; the director can wait for one.
            while mailbox.post(ReactorMessage::BackendDown(backend)).is_err() && shared.is_running() {
                thread::park_timeout(Duration::from_millis(1));
            }
        }
    }

    fn news(&self, update: Arc<LiveUpdate>) {
        self.tell_checked(&update.backends);
        let Some(shared) = self.shared.upgrade() else { return };
        let news = render(&shared, shared.strategy().name(), &update);
        if shared.metrics.gauge(Gauge::Listeners) > 0 {
            for mailbox in &shared.mailboxes {
                // A listener that misses a second sees the next.
                drop(mailbox.post(ReactorMessage::News(news.clone())));
            }
        }
    }
}

/// Takes an update in and writes it as the listeners get it.
fn render(shared: &Shared, strategy: &str, update: &LiveUpdate) -> Bytes {
    let metrics = &shared.metrics;
    let connections = shared.connections();
    let totals = Totals {
        accepted: metrics.total(Counter::Accepted),
        to_backends: metrics.total(Counter::BytesToBackends),
        to_clients: metrics.total(Counter::BytesToClients),
    };
    let mut live = shared.live();
    live.history.sample(update.at, connections);
    let mut news: Vec<u8> = Vec::new();
    for happened in &update.events {
        news.extend_from_slice(&live.history.event(happened));
    }
    let snapshot = SnapshotView {
        at: update.at,
        phase: shared.phase().name(),
        strategy,
        connections,
        queued: shared.queued(),
        accepted: totals.accepted,
        refused: metrics.refused(),
        rates: live.rates.update(Instant::now(), totals),
        backends: &update.backends,
    };
    news.extend_from_slice(&snapshot.to_event());
    news.into()
}
