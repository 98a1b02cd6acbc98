//! A backend as the roster keeps it.
//!
//! Owns: [`Member`], its health, when it is checked next and what was last told
//! of it. Never: the other backends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;

use super::records::{BackendRecord, Check, Moment, Origin};
use super::wishes::Wanted;
use super::{Backend, Settings};
use crate::balancer::health::{Health, State};

/// Between two checks, however much one is wanted.
const CHECK_GAP: Duration = Duration::from_millis(250);

/// Losses are gathered this long before they are told.
const LOSS_GATHERING: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) backend: Arc<Backend>,
    pub(super) origin: Origin,
    pub(super) weight: u32,
    max_connections: Option<u32>,
    pub(super) health: Health,
    /// State, drained, unlisted, as they were last told.
    shown: (State, bool, bool),
    pub(super) why: String,
    pub(super) since: SystemTime,
    pub(super) last_check: Option<Check>,
    next_check: Instant,
    /// When the check that is under way began.
    checking: Option<Instant>,
    checks: u64,
    /// Another check is wanted as soon as the one under way has ended.
    again: bool,
    /// Clients that lost it and when that is told.
    losses: Option<(u32, Instant)>,
    /// Its pairs are to be closed as soon as they have somewhere to go.
    pub(super) stranded: bool,
}

/// A change to be told.
pub(super) struct Change {
    /// What it was.
    pub(super) before: State,
    /// What it is.
    pub(super) state: State,
}

impl Member {
    pub(super) fn new(backend: Arc<Backend>, wanted: &Wanted, at: Moment) -> Member {
        let health = Health::new(at.now);
        Member {
            backend,
            origin: wanted.origin,
            weight: wanted.weight,
            max_connections: wanted.max_connections,
            shown: (health.state(), false, false),
            why: health.why(),
            health,
            since: at.wall,
            last_check: None,
            next_check: at.now,
            checking: None,
            checks: 0,
            again: false,
            losses: None,
            stranded: false,
        }
    }

    /// Whether it is the one that is wanted.
    pub(super) fn is(&self, wanted: &Wanted) -> bool {
        wanted.address.as_ref() == Ok(&self.backend.address) && wanted.name == self.backend.name
    }

    /// Takes over what is now said of it.
    pub(super) fn follow(&mut self, wanted: &Wanted) {
        self.origin = wanted.origin;
        self.weight = wanted.weight;
        self.max_connections = wanted.max_connections;
        self.backend.set_max_connections(wanted.max_connections);
    }

    /// Whether it has vanished from where it was listed and has no pairs left.
    pub(super) fn is_gone(&self) -> bool {
        self.health.is_unlisted() && self.connections() == 0
    }

    pub(super) fn connections(&self) -> u32 {
        self.backend.active.load(Ordering::Relaxed)
    }

    /// Publishes its weight. If it is in another state, or in the same for
    /// another reason, that is to be told.
    pub(super) fn publish(&mut self, settings: &Settings, at: Moment) -> Option<Change> {
        let share = self.health.share(at.now, &settings.timings);
        // At most 1000 × 10 × 100.
        self.backend.weight_milli.store(self.weight * 10 * share, Ordering::Relaxed);
        let shown = (self.health.state(), self.health.is_drained(), self.health.is_unlisted());
        let is_leaving = matches!(shown, (State::Draining, false, false));
        self.backend.last_resort.store(is_leaving, Ordering::Relaxed);
        let before = std::mem::replace(&mut self.shown, shown);
        if before == shown {
            return None;
        }
        self.why = self.health.why();
        if before.0 != shown.0 {
            self.since = at.wall;
            self.stranded = shown.0 == State::Down;
        }
        if let Some(until) = self.health.ejected_until() {
            self.next_check = self.next_check.min(until);
        }
        Some(Change { before: before.0, state: shown.0 })
    }

    /// Wants a check soon.
    pub(super) fn hurry(&mut self, now: Instant) {
        match self.checking {
            Some(_) => self.again = true,
            None => self.next_check = self.next_check.min(now + CHECK_GAP),
        }
    }

    /// When it is to be checked, unless it is being checked.
    pub(super) fn check_due(&self) -> Option<Instant> {
        self.checking.is_none().then_some(self.next_check)
    }

    pub(super) fn begin_check(&mut self, now: Instant) {
        self.checking = Some(now);
    }

    /// Plans the next check. Jitter keeps backends from being checked in step;
    /// those that came together part after their first one.
    pub(super) fn end_check(&mut self, check: Check, settings: &Settings, now: Instant, rng: &mut Rng) {
        let began = self.checking.take().unwrap_or(now);
        let percent = if self.checks == 0 { rng.u32(40..=100) } else { rng.u32(90..=110) };
        let interval = match std::mem::take(&mut self.again) {
            true => CHECK_GAP,
            false => settings.check_interval * percent / 100,
        };
        self.checks += 1;
        let next = (began + interval).max(now + CHECK_GAP.min(interval));
        // A good check ends an ejection, once it has lasted its time.
        let pardon = self.health.ejected_until().filter(|until| *until > now);
        self.next_check = pardon.map_or(next, |until| next.min(until));
        self.last_check = Some(check);
    }

    /// Counts clients that lost it, to be told together.
    pub(super) fn lose(&mut self, clients: u32, now: Instant) {
        let (sum, due) = self.losses.unwrap_or((0, now + LOSS_GATHERING));
        self.losses = Some((sum.saturating_add(clients), due));
    }

    /// The clients that lost it, if it is time to tell.
    pub(super) fn take_losses(&mut self, now: Instant) -> Option<u32> {
        let (clients, _) = self.losses.take_if(|(_, due)| *due <= now)?;
        Some(clients)
    }

    /// When [`super::Roster::handle_timeout`] has something to do for it.
    pub(super) fn poll_timeout(&self, settings: &Settings, now: Instant) -> Option<Instant> {
        let slow = self.health.poll_timeout(now, &settings.timings);
        slow.into_iter().chain(self.losses.map(|(_, due)| due)).min()
    }

    pub(super) fn record(&self) -> BackendRecord {
        let mut record = BackendRecord {
            id: self.backend.id,
            name: self.backend.name.clone(),
            address: Some(self.backend.address),
            origin: self.origin,
            weight: self.weight,
            state: self.shown.0,
            admin_drained: self.health.is_drained(),
            why: self.why.clone(),
            since: self.since,
            last_check: self.last_check.clone(),
            connections: 0,
            total: 0,
            failures: 0,
            bytes_to_backend: 0,
            bytes_to_clients: 0,
            max_connections: self.max_connections,
        };
        record.count(&self.backend);
        record
    }
}
