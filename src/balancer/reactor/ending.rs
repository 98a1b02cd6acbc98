//! How pairs end: by either side, because a backend was lost, because the
//! balancer drains, or because time is up.

use std::time::Duration;

use super::Reactor;
use super::pair::{Pair, Side, Stage};
use super::request::unix_millis;
use super::timers::{Millis, NEVER};
use crate::balancer::director::Observed;
use crate::balancer::ended::Ended;
use crate::balancer::metrics::Counter;
use crate::balancer::roster::{Backend, BackendId};
use crate::drain::{Phase, close_offset};
use crate::limits::CLOSE_HANDSHAKE;
use crate::reactor::message::{News, Tally};
use crate::ws::frame::write_close;

/// Code of the close frames sent by the balancer: the service goes on elsewhere
/// (IANA's registry of RFC 6455 close codes: service restart).
const SERVICE_RESTART: u16 = 1012;

/// Closes drawn up in one turn of a drain.
const CLOSES_PER_TURN: usize = 2048;

/// How long a balancer whose listeners outlive it waits for the requests of
/// those it has accepted.
const LATE_REQUESTS: Duration = Duration::from_secs(1);

/// The age of a lost connection from which on it makes no difference.
const OLD_SECONDS: u64 = 60;

/// How far a reactor's part of a drain is.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// Slots that have not been looked at yet begin here.
    next: u32,
    /// When the last had been accepted, where the listeners outlive the balancer.
    began: Millis,
    /// Over which the closes are spread.
    window: Duration,
    tally: Tally,
    reported: bool,
}

impl Reactor {
    /// The pair is over.
    pub(super) fn end(&mut self, slot: u32, reason: Ended) {
        self.leave_queue(slot);
        let Some(pair) = self.table.get(slot) else { return };
        pair.log_end(reason);
        let was_counted = pair.info.is_some();
        if let Some(held) = pair.held.take() {
            self.held_bytes -= held.to_client.len() + held.to_backend.len();
        }
        let listened = matches!(pair.stage, Stage::Listening);
        self.tls.remove(slot, Side::Client);
        let is_websocket = pair.is_websocket;
        self.drop_backend(slot);
        self.shared.metrics.thread(self.me).ended(reason);
        if was_counted {
            self.shared.release();
            self.pairs -= 1;
        }
        self.listeners -= usize::from(listened);
        if let Some(closing) = self.closing.as_mut().filter(|_| is_websocket) {
            match reason {
                Ended::DrainDeadline => closing.tally.forced += 1,
                _ => closing.tally.closed += 1,
            }
        }
        self.table.bury(slot);
    }

    /// Gives the place at the backend back and closes that connection.
    pub(super) fn drop_backend(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        pair.backend = None;
        pair.backend_end = super::pair::End { eof: true, shut: true, ..Default::default() };
        if let Some(backend) = pair.at.take() {
            backend.release();
        }
        self.tls.remove(slot, Side::Backend);
    }

    /// When a row is to be looked at next; `NEVER` for not at all.
    pub(super) fn set_due(&mut self, slot: u32, due: Millis) {
        let Some(pair) = self.table.get(slot) else { return };
        pair.due = due;
        let generation = pair.generation;
        self.timers.set(due, slot, generation);
    }

    /// When a row is to be looked at next: this long from now.
    pub(super) fn set_due_in(&mut self, slot: u32, span: Duration) {
        self.set_due(slot, self.now + span.as_millis() as Millis);
    }

    /// One direction was shut: the other is waited for, but not for ever.
    pub(super) fn wait_for_other_half(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        let span = match pair.stage {
            Stage::Parting => CLOSE_HANDSHAKE,
            _ => self.config.half_close_timeout,
        };
        self.set_due_in(slot, span);
    }

    /// Looks at the rows whose time has come.
    pub(super) fn handle_due(&mut self) {
        while let Some((due, slot, generation)) = self.timers.pop(self.now) {
            let is_current = |pair: &&mut Pair| pair.generation == generation && pair.due == due;
            if self.table.get(slot).filter(is_current).is_some() {
                self.is_due(slot);
            }
        }
        let table = &mut self.table;
        let rows = table.len();
        self.timers.tidy(rows, |due, slot, generation| {
            table.get(slot).is_some_and(|pair| pair.generation == generation && pair.due == due)
        });
    }

    fn is_due(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        pair.due = NEVER;
        match pair.stage {
            Stage::Opening(_) => self.opening_timed_out(slot),
            Stage::Bereft => self.part(slot, "Backend lost, come back", Ended::BackendLost),
            Stage::Open if pair.is_websocket && self.closing.is_some() => self.part_for_drain(slot),
            Stage::Open if pair.client_end.shut || pair.backend_end.shut => {
                self.end(slot, Ended::HalfClosedTimeout);
            }
            Stage::Open => self.check_idle(slot),
            Stage::Parting => {
                let reason = pair.parting;
                self.end(slot, reason);
            }
            Stage::Asking => self.asking_timed_out(slot),
            Stage::Listening | Stage::Dead => {}
        }
    }

    /// Starts the clock of the idle timeout, if there is one.
    pub(super) fn watch_idle(&mut self, slot: u32) {
        let span = self.config.idle_timeout;
        let due = if span.is_zero() { NEVER } else { self.now + span.as_millis() as Millis };
        self.set_due(slot, due);
    }

    /// The idle timeout has changed.
    pub(super) fn watch_all_idle(&mut self) {
        let is_idle = |pair: &Pair| {
            let is_whole = !pair.client_end.shut && !pair.backend_end.shut;
            pair.is_websocket && is_whole && matches!(pair.stage, Stage::Open)
        };
        for slot in 0..self.table.high_water() {
            // In a drain their time is that of their close.
            if self.closing.is_none() && self.table.get(slot).is_some_and(|pair| is_idle(pair)) {
                self.watch_idle(slot);
            }
        }
    }

    fn check_idle(&mut self, slot: u32) {
        let span = self.config.idle_timeout.as_millis() as Millis;
        let Some(pair) = self.table.get(slot) else { return };
        let due = pair.active_at + span;
        match due <= self.now {
            _ if span == 0 => {}
            true => self.end(slot, Ended::IdleTimeout),
            false => self.set_due(slot, due),
        }
    }

    /// The backend of an open WebSocket has gone without a close frame. Its
    /// client is told when it is its turn, so that not all come back at once;
    /// in the middle of a frame it cannot be told.
    pub(super) fn lose_backend(&mut self, slot: u32) {
        let window = self.config.failover_window;
        let Some(pair) = self.table.get(slot) else { return };
        let since = pair.info.as_ref().map_or(0, |info| info.since);
        if let Some(backend) = pair.at.clone() {
            self.note_loss(&backend, since);
        }
        self.count(Counter::Failovers, 1);
        let Some(pair) = self.table.get(slot) else { return };
        if !pair.frames.at_boundary() {
            return self.end(slot, Ended::BackendLostMidFrame);
        }
        pair.stage = Stage::Bereft;
        pair.client_end.ignored = true;
        self.drop_backend(slot);
        let due = self.now + window.mul_f64(fastrand::f64()).as_millis() as Millis;
        self.set_due(slot, due);
        self.pump(slot, Side::Client);
    }

    /// Clients lost with a backend, connected at `since`, are reported once a
    /// turn, those of the same age together.
    fn note_loss(&mut self, backend: &Backend, since: u64) {
        let age_seconds = (unix_millis().saturating_sub(since) / 1000).min(OLD_SECONDS);
        match self.lost.iter_mut().find(|(id, age, _)| (*id, *age) == (backend.id, age_seconds)) {
            Some((.., clients)) => *clients += 1,
            None => self.lost.push((backend.id, age_seconds, 1)),
        }
    }

    /// Tells the director which backends were lost in this turn.
    pub(super) fn report_losses(&mut self) {
        for (backend, age_seconds, clients) in std::mem::take(&mut self.lost) {
            self.tell_director(Observed::Lost { backend, clients, age_ms: age_seconds * 1000 });
        }
    }

    /// A backend is gone although its connections may look alive: its clients
    /// are sent elsewhere.
    pub(super) fn backend_is_down(&mut self, backend: BackendId) {
        for slot in 0..self.table.high_water() {
            let Some(pair) = self.table.get(slot) else { continue };
            if pair.at.as_ref().is_none_or(|at| at.id != backend) {
                continue;
            }
            match &pair.stage {
                Stage::Opening(_) => self.handshake_failed(slot, "it was called down"),
                Stage::Open if pair.is_websocket => self.lose_backend(slot),
                Stage::Open => self.end(slot, Ended::BackendBroke),
                _ => self.drop_backend(slot),
            }
        }
    }

    /// Sends the client its close frame, and what it is owed before.
    fn part(&mut self, slot: u32, text: &str, reason: Ended) {
        let mut frame = Vec::new();
        write_close(&mut frame, Some(SERVICE_RESTART.into()), text);
        let Some(pair) = self.table.get(slot) else { return };
        pair.stage = Stage::Parting;
        pair.parting = reason;
        pair.client_end.ignored = pair.backend.is_none();
        pair.backend_end.ignored = true;
        self.set_due_in(slot, CLOSE_HANDSHAKE);
        self.send(slot, Side::Client, &frame);
        self.after_flush(slot, Side::Client);
    }

    /// The pair's turn in a drain: what the client still sends, its close frame
    /// above all, is passed on.
    pub(super) fn part_for_drain(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        pair.is_due = true;
        // Between two frames of the backend's there is room for ours; else when the frame has come.
        if pair.frames.at_boundary() {
            self.part(slot, "Balancer is draining", Ended::Drained);
        }
    }

    /// From here on pairs are closed over the window.
    pub(super) fn begin_closing(&mut self, window: Duration) {
        if self.shared.listeners_outlive {
            self.shut_door();
        }
        self.closing = Some(Closing { began: self.now, window, ..Closing::default() });
        self.part_with_listeners();
    }

    /// Whether pairs are still to be given their times.
    pub(super) fn has_closes_left(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.next < self.table.high_water())
    }

    /// Gives pairs the time of their close; reports when nobody is left.
    pub(super) fn go_on_closing(&mut self) {
        let Some(mut closing) = self.closing.take() else { return };
        for _ in 0..CLOSES_PER_TURN {
            if closing.next >= self.table.high_water() {
                break;
            }
            let slot = closing.next;
            closing.next += 1;
            let Some(pair) = self.table.get(slot) else { continue };
            if pair.is_websocket && matches!(pair.stage, Stage::Open) {
                closing.tally.told += 1;
                let number = u64::from(slot) << 32 | u64::from(pair.generation);
                let offset =
                    close_offset(number, self.shared.drain_seed ^ u64::from(self.me.0), closing.window);
                self.set_due_in(slot, offset);
            }
        }
        let is_late = self.now.saturating_sub(closing.began) >= LATE_REQUESTS.as_millis() as Millis;
        let may_ask = self.shared.listeners_outlive && !self.table.is_empty() && !is_late;
        let is_over = closing.next >= self.table.high_water() && self.pairs == 0 && !may_ask;
        if is_over && !closing.reported {
            closing.reported = true;
            // The supervisor outlives the reactors.
            drop(self.news.send(News::Drained { reactor: self.me, tally: closing.tally }));
        }
        self.closing = Some(closing);
    }

    /// Cuts off what is left.
    pub(super) fn abort(&mut self) {
        for slot in 0..self.table.high_water() {
            if self.table.get(slot).is_some_and(|pair| pair.info.is_some()) {
                self.end(slot, Ended::DrainDeadline);
            }
        }
    }

    /// Whether the balancer leaves and clients are to go elsewhere. Who connects while the
    /// listeners stay open waits there instead, and who came before that was accepted.
    pub(super) fn refuses_clients(&self) -> bool {
        let phase = self.shared.phase();
        phase > Phase::Closing || (phase == Phase::Closing && !self.shared.listeners_outlive)
    }
}
