//! The set of backends: what is known of them and what is to be done.
//!
//! Owns: [`Roster`], a state machine that is told what is listed, what names
//! stand for, what checks found, what reactors observed and what operators want;
//! it answers with [`Effect`]s and with the checks that are due. Never: sockets,
//! files, clocks, threads.
//!
//! A backend is a name and an address. One that is listed comes; one that is no
//! longer listed takes nothing new and is forgotten when its pairs are gone; one
//! that an operator removes is forgotten at once and its pairs are closed. Ids
//! are never given twice.
//!
//! The pairs of a backend that checks take down are closed when there is a sound
//! backend for their clients: if all fail at once the fault may well be on this
//! side, and there is nowhere to go.

mod changes;
mod directory;
mod member;
mod records;
mod spec;
mod unresolved;
mod wishes;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use directory::{Backend, BackendId, Directory};
pub use records::{
    AdminCommand, AdminDone, AdminError, BackendRecord, Check, EventKind, LiveEvent, LiveUpdate, Moment,
    Origin,
};
pub use spec::{Spec, SpecError, WEIGHTS};
pub use wishes::BACKENDS_MAX;

pub use super::health::State;
use super::health::{Checked, Health, Passed, Scene, Timings};
use member::Member;
use unresolved::Unresolved;
use wishes::{News, Wishes};

/// What an error may say of itself, in bytes; the rest is cut off.
const ERROR_BYTES_MAX: usize = 200;

/// What the roster goes by; from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How patient health is.
    pub timings: Timings,
    /// From the beginning of one check of a backend to the next, at most
    /// [`super::health::TIME_MAX`].
    pub check_interval: Duration,
}

/// A check that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOrder {
    /// Of whom.
    pub id: BackendId,
    /// What it is called.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Backends came or went: reactors are to see this.
    Publish(Arc<Directory>),
    /// The pairs of this backend are to be closed, so that their clients go elsewhere.
    Close(BackendId, Arc<str>),
    /// This happened.
    Event(LiveEvent),
}

/// All backends.
#[derive(Debug)]
pub struct Roster {
    settings: Settings,
    rng: Rng,
    wishes: Wishes,
    members: Vec<Member>,
    unresolved: Vec<Unresolved>,
    last_id: u32,
    directory: Arc<Directory>,
    stale: bool,
    effects: VecDeque<Effect>,
}

impl Roster {
    /// Nobody is known yet. `seed` is for jitter.
    pub fn new(settings: Settings, seed: u64) -> Roster {
        Roster {
            settings,
            rng: Rng::with_seed(seed),
            wishes: Wishes::default(),
            members: Vec::new(),
            unresolved: Vec::new(),
            last_id: 0,
            directory: Arc::default(),
            stale: false,
            effects: VecDeque::new(),
        }
    }

    /// Goes by these from now on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// What this origin, which is not DNS, lists from now on.
    pub fn handle_list(&mut self, origin: Origin, specs: Vec<Spec>, at: Moment) {
        self.wishes.list(origin, specs);
        self.reconcile(at);
    }

    /// The name whose addresses are backends on this port from now on.
    pub fn handle_dns(&mut self, dns: Option<(String, u16)>, at: Moment) {
        self.wishes.follow(dns);
        self.reconcile(at);
    }

    /// The names that are to be resolved, again and again.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.wishes.hosts().into_iter()
    }

    /// What a name stands for, or why that is not known; then it stands for what
    /// it did before.
    pub fn handle_resolved(&mut self, host: &str, answer: Result<Vec<IpAddr>, String>, at: Moment) {
        if !self.hosts().any(|known| known == host) {
            return;
        }
        let failure = answer.as_ref().err().map_or("it has no address", |error| cut(error)).to_owned();
        match self.wishes.resolved(host, answer) {
            News::Same => {}
            News::Changed { addresses, first } => {
                let list = addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
                let now = if first { "" } else { "now " };
                self.tell(EventKind::Resolved, format!("{host} {now}stands for {list}"), at);
            }
            News::Failed => {
                let text = format!("{host} cannot be resolved, what is known of it stays: {failure}");
                self.tell(EventKind::ResolveFailed, text, at);
            }
            News::Recovered => {
                self.tell(EventKind::Resolved, format!("{host} can be resolved again, to the same"), at);
            }
        }
        self.reconcile(at);
    }

    /// What became of connections to the backend; one that is gone is ignored.
    pub fn handle_passed(&mut self, id: BackendId, passed: &Passed, at: Moment) {
        let Some(index) = self.index(id) else { return };
        let member = &mut self.members[index];
        if let Passed::Lost(clients, _) = passed {
            member.lose(*clients, at.now);
        }
        if *passed != Passed::Connected {
            member.hurry(at.now);
        }
        self.examine(index, at, |health, scene, rng| health.handle_passed(passed, scene, rng));
    }

    /// What a check found that took this long.
    pub fn handle_check(&mut self, id: BackendId, checked: &Checked, latency: Duration, at: Moment) {
        let Some(index) = self.index(id) else { return };
        let status = if let Checked::Status(status) = checked { Some(*status) } else { None };
        let error = match checked {
            Checked::Status(_) => None,
            Checked::Refused => Some("connection refused".to_owned()),
            Checked::Failed(why) | Checked::NotMade(why) => Some(cut(why).to_owned()),
        };
        let check = Check { at: at.wall, ok: checked.is_good(), status, latency, error };
        self.members[index].end_check(check, &self.settings, at.now, &mut self.rng);
        self.examine(index, at, |health, scene, rng| health.handle_check(checked, scene, rng));
    }

    /// Does what an operator wants.
    ///
    /// # Errors
    /// Why it cannot be done; nothing has changed.
    pub fn handle_command(&mut self, command: AdminCommand, at: Moment) -> Result<AdminDone, AdminError> {
        let record = match command {
            AdminCommand::Add(spec) => self.add(spec, at)?,
            AdminCommand::Drain(id) => self.set_drained(id, true, at)?,
            AdminCommand::Enable(id) => self.set_drained(id, false, at)?,
            AdminCommand::Remove(id) => self.remove(id, at)?,
        };
        Ok(AdminDone { record })
    }

    /// To be called at [`Roster::poll_timeout`], and once a second to forget
    /// backends whose last pair has gone.
    pub fn handle_timeout(&mut self, at: Moment) {
        for index in 0..self.members.len() {
            self.examine(index, at, |health, scene, _| health.handle_timeout(scene));
            if let Some(clients) = self.members[index].take_losses(at.now) {
                let what = if clients == 1 { "client lost its" } else { "clients lost their" };
                let text = format!("{clients} {what} connection to {}", self.members[index].backend.name);
                self.tell_of(EventKind::Failover, index, text, clients, at);
            }
        }
        self.forget_gone(at);
    }

    /// When the next check is due or [`Roster::handle_timeout`] has something to do.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let of = |member: &Member| {
            member.poll_timeout(&self.settings, now).into_iter().chain(member.check_due()).min()
        };
        self.members.iter().filter_map(of).min()
    }

    /// The next check that is due. It is under way until [`Roster::handle_check`].
    pub fn poll_check(&mut self, now: Instant) -> Option<CheckOrder> {
        let due = |member: &&mut Member| member.check_due().is_some_and(|due| due <= now);
        // The longest overdue first, so that nobody starves when many are.
        let member = self.members.iter_mut().filter(due).min_by_key(|member| member.check_due())?;
        member.begin_check(now);
        let Backend { id, name, address, .. } = &*member.backend;
        Some(CheckOrder { id: *id, name: name.clone(), address: *address })
    }

    /// What is to be done next. A publication comes before what follows from it.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if std::mem::take(&mut self.stale) {
            let backends = self.members.iter().map(|member| Arc::clone(&member.backend)).collect();
            self.directory = Arc::new(Directory { version: self.directory.version + 1, backends });
            return Some(Effect::Publish(Arc::clone(&self.directory)));
        }
        self.effects.pop_front()
    }

    /// All backends, also those without an address, in the order of their ids.
    pub fn records(&self) -> Vec<BackendRecord> {
        let members = self.members.iter().map(Member::record);
        let mut records: Vec<_> = members.chain(self.unresolved.iter().map(Unresolved::record)).collect();
        records.sort_unstable_by_key(|record| record.id);
        records
    }

    /// Tells something that concerns no single backend.
    pub fn tell(&mut self, kind: EventKind, text: String, at: Moment) {
        let event = LiveEvent { at: at.wall, kind, backend: None, text, clients: 0 };
        self.effects.push_back(Effect::Event(event));
    }
}

/// As much of an error as is kept.
fn cut(error: &str) -> &str {
    let mut end = error.len().min(ERROR_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

#[cfg(test)]
mod tests;
