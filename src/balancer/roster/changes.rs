//! How the roster changes: backends come and go, their states change.

use std::sync::Arc;

use fastrand::Rng;

use super::member::Member;
use super::records::{AdminError, BackendRecord, EventKind, LiveEvent, Moment, Origin};
use super::spec::Spec;
use super::wishes::{BACKENDS_MAX, Wanted};
use super::{Backend, BackendId, Effect, Health, Roster, Scene, State, Unresolved};

impl Roster {
    pub(super) fn index(&self, id: BackendId) -> Option<usize> {
        self.members.iter().position(|member| member.backend.id == id)
    }

    /// Lets something happen to a backend's health and tells what that changed.
    pub(super) fn examine(
        &mut self,
        index: usize,
        at: Moment,
        happen: impl FnOnce(&mut Health, &Scene<'_>, &mut Rng),
    ) {
        let timings = &self.settings.timings;
        let others = || self.members.iter().enumerate().filter(|(other, _)| *other != index);
        let scene = Scene {
            now: at.now,
            timings,
            another_takes: others().any(|(_, other)| other.health.state().takes()),
            another_is_warm: others().any(|(_, other)| other.health.is_warm(at.now, timings)),
        };
        let member = &mut self.members[index];
        happen(&mut member.health, &scene, &mut self.rng);
        if let Some(change) = member.publish(&self.settings, at) {
            self.tell_change(index, change.before, change.state, at);
        }
        self.rescue(at);
    }

    fn tell_change(&mut self, index: usize, before: State, state: State, at: Moment) {
        let Member { backend, why, health, .. } = &self.members[index];
        let (name, held) = (&backend.name, health.is_drained() || health.is_unlisted());
        let text = match state {
            // Whoever enabled it was told so.
            _ if before == state && !held && state != State::Draining => return,
            _ if before == state => format!("{name} takes no new connections: {}", health.hold()),
            State::Checking => return,
            // The end of a slow start is none of the news.
            State::Up if before == State::SlowStart => return,
            State::Up => format!("{name} is up: {why}"),
            State::SlowStart => format!("{name} is up, with more and more connections: {why}"),
            State::Draining => format!("{name} takes no new connections: {why}"),
            State::Ejected => format!("{name} takes no connections for a while: {why}"),
            State::Down => format!("{name} is down: {why}"),
        };
        let kind = if before == state { Some(EventKind::BackendDraining) } else { EventKind::of(state) };
        if let Some(kind) = kind {
            self.tell_of(kind, index, text, self.members[index].connections(), at);
        }
    }

    pub(super) fn tell_of(&mut self, kind: EventKind, index: usize, text: String, clients: u32, at: Moment) {
        let backend = Some(self.members[index].backend.id);
        self.effects.push_back(Effect::Event(LiveEvent { at: at.wall, kind, backend, text, clients }));
    }

    /// Has the pairs of dead backends closed when their clients have somewhere to go.
    fn rescue(&mut self, at: Moment) {
        let stranded = |members: &[Member]| members.iter().position(|member| member.stranded);
        if stranded(&self.members).is_none() || !self.members.iter().any(|member| member.health.is_sound()) {
            return;
        }
        while let Some(index) = stranded(&self.members) {
            let member = &mut self.members[index];
            member.stranded = false;
            let (id, clients) = (member.backend.id, member.connections());
            let why = format!("{} is down: {}", member.backend.name, member.why);
            if clients > 0 {
                let text = format!("{clients} connections to {} are closed: it is down", member.backend.name);
                self.tell_of(EventKind::Failover, index, text, clients, at);
                self.effects.push_back(Effect::Close(id, why.into()));
            }
        }
    }

    /// Makes the backends those that are wanted.
    pub(super) fn reconcile(&mut self, at: Moment) {
        let members = &self.members;
        let wanted = self.wishes.wanted(|name| {
            let listed = |member: &&Member| member.backend.name == name && !member.health.is_unlisted();
            members.iter().filter(listed).map(|member| member.backend.address).collect()
        });
        for index in 0..self.members.len() {
            let found = wanted.iter().find(|wanted| self.members[index].is(wanted));
            if let Some(wanted) = found {
                self.members[index].follow(wanted);
            }
            self.examine(index, at, |health, scene, _| health.set_unlisted(found.is_none(), scene));
        }
        let (resolved, unresolved): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|wanted| wanted.address.is_ok());
        for wanted in resolved {
            if !self.members.iter().any(|member| member.is(&wanted)) {
                self.join(wanted, at);
            }
        }
        self.wait_for(unresolved, at);
        self.forget_gone(at);
    }

    fn join(&mut self, wanted: Wanted, at: Moment) {
        let Ok(address) = wanted.address else { return };
        let waiting = self.unresolved.iter().position(|waiting| waiting.wanted.name == wanted.name);
        let id = match waiting {
            Some(index) => self.unresolved.swap_remove(index).id,
            None => self.next_id(),
        };
        let backend = Backend::new(id, wanted.name.clone(), address, wanted.max_connections);
        self.members.push(Member::new(Arc::new(backend), &wanted, at));
        self.stale = true;
        let named = if address.to_string() == wanted.name { String::new() } else { format!(" ({address})") };
        let text = format!("{}{named} is a backend now, from {}", wanted.name, origin_text(wanted.origin));
        self.tell_of(EventKind::BackendAdded, self.members.len() - 1, text, 0, at);
    }

    /// Keeps those that are wanted and have no address yet. One whose name is
    /// still served at an address of before cannot be: answers are kept.
    fn wait_for(&mut self, wanted: Vec<Wanted>, at: Moment) {
        let mut waiting = std::mem::take(&mut self.unresolved);
        for wanted in wanted {
            let why = wanted.address.clone().err().unwrap_or_default();
            let known = waiting.iter().position(|known| known.wanted.name == wanted.name);
            let (id, since) = match known.map(|index| waiting.swap_remove(index)) {
                Some(known) => (known.id, known.since),
                None => (self.next_id(), at.wall),
            };
            self.unresolved.push(Unresolved { id, wanted, why: super::cut(&why).to_owned(), since });
        }
    }

    fn next_id(&mut self) -> BackendId {
        self.last_id += 1;
        BackendId(self.last_id)
    }

    /// Forgets those that are no longer listed and have no pairs left.
    pub(super) fn forget_gone(&mut self, at: Moment) {
        while let Some(index) = self.members.iter().position(Member::is_gone) {
            let text = format!("{} is no backend any more", self.members[index].backend.name);
            self.tell_of(EventKind::BackendRemoved, index, text, 0, at);
            self.members.remove(index);
            self.stale = true;
        }
    }

    pub(super) fn add(&mut self, spec: Spec, at: Moment) -> Result<BackendRecord, AdminError> {
        let name = spec.name();
        let address = self.wishes.address(&spec).ok();
        let same =
            |record: &BackendRecord| record.name == name || (address.is_some() && record.address == address);
        let listed = |id| self.index(id).is_none_or(|index| !self.members[index].health.is_unlisted());
        let records = self.records();
        if let Some(known) = records.iter().find(|record| same(record) && listed(record.id)) {
            return Err(AdminError::Exists(known.id));
        }
        if records.len() >= BACKENDS_MAX {
            return Err(AdminError::TooMany);
        }
        self.wishes.add(spec);
        self.reconcile(at);
        // The newest of that name: an older one may still be draining.
        let added = self.records().into_iter().rev().find(|record| record.name == name);
        added.ok_or(AdminError::TooMany)
    }

    pub(super) fn set_drained(
        &mut self,
        id: BackendId,
        drained: bool,
        at: Moment,
    ) -> Result<BackendRecord, AdminError> {
        let index = self.find(id)?;
        if !drained && self.members[index].health.is_unlisted() {
            return Err(AdminError::Unlisted(id));
        }
        if !drained && self.members[index].health.is_drained() {
            let text = format!("{} was enabled by an operator", self.members[index].backend.name);
            self.tell_of(EventKind::BackendEnabled, index, text, self.members[index].connections(), at);
        }
        if !drained {
            self.members[index].hurry(at.now);
        }
        self.examine(index, at, |health, scene, _| health.set_drained(drained, scene));
        Ok(self.members[index].record())
    }

    pub(super) fn remove(&mut self, id: BackendId, at: Moment) -> Result<BackendRecord, AdminError> {
        if let Some(waiting) = self.unresolved.iter().position(|waiting| waiting.id == id) {
            let waiting = self.unresolved.remove(waiting);
            self.wishes.remove(&waiting.wanted.name);
            return Ok(waiting.record());
        }
        let index = self.find(id)?;
        let (record, clients) = (self.members[index].record(), self.members[index].connections());
        let text = format!("{} was removed by an operator", record.name);
        self.tell_of(EventKind::BackendRemoved, index, text.clone(), clients, at);
        let listed = !self.members[index].health.is_unlisted();
        self.members[index].backend.retire();
        self.members.remove(index);
        self.stale = true;
        self.effects.push_back(Effect::Close(id, text.into()));
        // The name may be listed still, for another address.
        if listed {
            self.wishes.remove(&record.name);
        }
        self.reconcile(at);
        Ok(record)
    }

    fn find(&self, id: BackendId) -> Result<usize, AdminError> {
        let waiting = self.unresolved.iter().any(|waiting| waiting.id == id);
        let missing = if waiting { AdminError::Unresolved(id) } else { AdminError::Unknown(id) };
        self.index(id).ok_or(missing)
    }
}

fn origin_text(origin: Origin) -> &'static str {
    match origin {
        Origin::Flag => "the configuration",
        Origin::File => "the file of backends",
        Origin::Dns => "DNS",
        Origin::Api => "an operator",
    }
}
