//! What comes to the director's thread, handed to the roster.

use std::time::Duration;

use super::{OBSERVED_PER_TURN, TICK, Thread};
use crate::balancer::director::files::{Look, Watch};
use crate::balancer::director::{Observed, Order, Plan};
use crate::balancer::health::Passed;
use crate::balancer::roster::{EventKind, Moment, Origin};

impl Thread {
    /// Whether it is to stop.
    pub(super) fn take_orders(&mut self, at: Moment) -> bool {
        self.links.orders.begin();
        while let Some(order) = self.links.orders.pop() {
            match order {
                Order::Follow(plan) => self.follow(*plan, at),
                Order::Stop => return true,
            }
        }
        false
    }

    fn follow(&mut self, plan: Plan, at: Moment) {
        self.roster.set_settings(plan.settings());
        self.roster.handle_list(Origin::Flag, plan.backends.clone(), at);
        self.roster.handle_dns(plan.backends_dns.clone(), at);
        match &plan.backends_file {
            None => {
                self.watch = None;
                self.roster.handle_list(Origin::File, Vec::new(), at);
            }
            Some(path) if self.watch.as_ref().is_some_and(|watch| watch.path() == path) => {}
            Some(path) => self.watch = Some(Watch::new(path)),
        }
        self.plan = plan;
        self.next_tick = at.now;
    }

    pub(super) fn take_mail(&mut self, at: Moment) {
        self.busy = self.links.inbox.begin() > OBSERVED_PER_TURN;
        for _ in 0..OBSERVED_PER_TURN {
            let Some(observed) = self.links.inbox.pop() else { return };
            self.take(observed, at);
        }
    }

    fn take(&mut self, observed: Observed, at: Moment) {
        let (backend, passed) = match observed {
            Observed::ConnectFailed { backend, error } => (backend, Passed::ConnectFailed(error)),
            Observed::HandshakeFailed { backend, error } => (backend, Passed::HandshakeFailed(error)),
            Observed::Connected { backend } => (backend, Passed::Connected),
            Observed::Lost { backend, clients, age_ms } => {
                (backend, Passed::Lost(clients, Duration::from_millis(age_ms)))
            }
            Observed::Admin { command, reply } => {
                let done = self.roster.handle_command(command, at);
                self.replies.push((reply, done));
                // A name may have to be resolved.
                self.next_tick = at.now;
                return;
            }
        };
        self.roster.handle_passed(backend, &passed, at);
    }

    pub(super) fn take_answers(&mut self, at: Moment) {
        while let Some(answer) = self.links.resolver.answer(self.plan.dns_interval(), at.now) {
            self.roster.handle_resolved(&answer.host, answer.addresses, at);
        }
    }

    pub(super) fn take_checks(&mut self, at: Moment) {
        self.links.checks.handle_timeout(at.now);
        for (id, checked, latency) in self.links.checks.take_found() {
            self.roster.handle_check(id, &checked, latency, at);
        }
    }

    pub(super) fn tick(&mut self, at: Moment) {
        self.next_tick = at.now + TICK;
        if let Some(watch) = &mut self.watch {
            let (look, path) = (watch.look(), watch.path().display().to_string());
            self.take_look(look, &path, at);
        }
        self.links.resolver.ask(self.roster.hosts(), at.now);
        self.roster.handle_timeout(at);
    }

    fn take_look(&mut self, look: Look, path: &str, at: Moment) {
        match look {
            Look::Same => {}
            Look::Changed(specs) => {
                let text = format!("{path} has changed: {} backends", specs.len());
                self.roster.tell(EventKind::FileChanged, text, at);
                self.roster.handle_list(Origin::File, specs, at);
            }
            Look::Restored => {
                self.roster.tell(EventKind::FileChanged, format!("{path} is again what it was"), at);
            }
            Look::Bad(why) => {
                let text = format!("{path} cannot be used, the backends of before stay: {why}");
                self.roster.tell(EventKind::FileBad, text, at);
            }
        }
    }
}
