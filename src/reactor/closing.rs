//! A reactor's part in a drain: every client is told, then closed at its time.
//!
//! Owns: [`Closing`]. When a connection's close frame is due follows from its
//! id; the notice tells the client that very span, so whether it leaves by
//! itself or waits to be closed, the reconnects are spread the same.
//!
//! Where the listeners outlive the node, nobody is refused: nobody is accepted
//! any more, and who was accepted and asks for a WebSocket late is let in, told
//! and closed like the others.

use std::time::Duration;

use super::Reactor;
use super::connection::{Endpoint, Flag, Phase};
use super::message::{News, Tally};
use super::simulate::FINAL_MESSAGES;
use crate::clock::Tick;
use crate::drain::close_offset;
use crate::ids::ConnId;
use crate::metrics::Counter;
use crate::protocol;
use crate::ws::close::CloseReason;

/// Clients told, and clients closed, in one turn.
const PER_TURN: usize = 2048;

/// How long a node whose listeners outlive it waits for the requests of those
/// it has accepted.
const LATE_REQUESTS: Duration = Duration::from_secs(1);

struct Due {
    offset: Duration,
    connection: ConnId,
}

/// The schedule of a drain and how far it has come.
pub(super) struct Closing {
    reason: &'static str,
    began: Tick,
    /// By the time of the close.
    schedule: Vec<Due>,
    told: usize,
    closed: usize,
    tally: Tally,
    /// Number of the first HTTP request that came after the last WebSocket had
    /// gone. Those before it are answered before the end.
    asks_end: Option<u64>,
    /// The deadline passed: nothing more is waited for.
    aborted: bool,
    reported: bool,
}

impl Closing {
    /// Whether clients are still to be told.
    pub(super) fn has_notices_left(&self) -> bool {
        self.told < self.schedule.len()
    }

    /// Ticks until the next close is due.
    pub(super) fn ticks_left(&self, now: Tick) -> Option<u32> {
        let next = self.schedule.get(self.closed)?;
        Some(Tick::count(next.offset).saturating_sub(now.since(self.began)))
    }

    /// Whether who was accepted last has had time to ask.
    fn is_late(&self, now: Tick) -> bool {
        now.since(self.began) >= Tick::count(LATE_REQUESTS)
    }

    fn next_due(&self, now: Tick) -> Option<ConnId> {
        let due = self.closed < self.told && self.ticks_left(now)? == 0;
        due.then(|| self.schedule[self.closed].connection)
    }
}

impl Reactor {
    /// Draws the schedule up.
    pub(super) fn begin_closing(&mut self, reason: &'static str, window: Duration) {
        let mut schedule = Vec::with_capacity(self.table.len());
        for slot in 0..self.table.high_water() {
            let open = self.table.get(slot).is_some_and(|row| row.is_open());
            if let Some(connection) = self.table.id(slot).filter(|_| open) {
                let number = u64::from(connection.slot()) << 32 | u64::from(connection.generation());
                let seed = self.shared.drain_seed ^ u64::from(self.me.0);
                schedule.push(Due { offset: close_offset(number, seed, window), connection });
            }
        }
        schedule.sort_unstable_by_key(|due| due.offset);
        let (began, tally) = (self.now, Tally::default());
        if self.shared.listeners_outlive {
            self.shut_doors();
        }
        self.closing = Some(Closing {
            reason,
            began,
            schedule,
            told: 0,
            closed: 0,
            tally,
            asks_end: None,
            aborted: false,
            reported: false,
        });
    }

    /// Tells and closes whoever it is time for; reports when nobody is left.
    pub(super) fn go_on_closing(&mut self) {
        self.send_notices();
        self.send_closes();
        let left = self.websockets;
        let may_ask = self.shared.listeners_outlive && !self.table.is_empty();
        let Some(closing) = self.closing.as_mut().filter(|closing| left == 0 && !closing.reported) else {
            return;
        };
        let end = *closing.asks_end.get_or_insert(self.asks.next());
        let owes_answers = !closing.aborted && self.asks.has_any_before(end);
        if !owes_answers && (!may_ask || closing.is_late(self.now)) {
            closing.reported = true;
            let news = News::Drained { reactor: self.me, tally: closing.tally };
            // Without a supervisor nobody waits for the news.
            drop(self.news.try_send(news));
        }
    }

    fn send_notices(&mut self) {
        for _ in 0..PER_TURN {
            let Some(closing) = &mut self.closing else { return };
            let Some(due) = closing.schedule.get(closing.told) else { return };
            closing.told += 1;
            let (reason, offset, connection) = (closing.reason, due.offset, due.connection);
            if let Some(slot) = self.table.find(connection) {
                self.tell_leaving(slot, reason, offset);
            }
        }
    }

    fn tell_leaving(&mut self, slot: u32, reason: &str, offset: Duration) {
        self.send_batch(slot);
        let Some(row) = self.table.get(slot) else { return };
        if row.phase != Phase::Open || row.endpoint != Endpoint::Hub {
            return;
        }
        let business = if self.config.simulate { fastrand::u32(1..=FINAL_MESSAGES) } else { 0 };
        let last = row.sequence + business;
        let simulation = self.config.simulate.then_some((business, last));
        let reconnect_after_ms = offset.as_millis() as u64;
        self.answer_with(slot, |out, at| {
            protocol::write_shutdown(out, reason, reconnect_after_ms, at, simulation);
        });
        for _ in 0..business {
            self.send_business(slot);
        }
        if let Some(closing) = &mut self.closing {
            closing.tally.told += 1;
            self.shared.metrics.thread(self.me).add(Counter::ShutdownNotices, 1);
            closing.tally.business += u64::from(business);
        }
        self.flush_when_full();
    }

    /// Tells a client that has become one since the others were told, and closes it.
    pub(super) fn part_at_once(&mut self, slot: u32) {
        let Some(reason) = self.closing.as_ref().map(|closing| closing.reason) else { return };
        self.tell_leaving(slot, reason, Duration::ZERO);
        self.close(slot, CloseReason::Draining, "");
    }

    fn send_closes(&mut self) {
        for _ in 0..PER_TURN {
            let now = self.now;
            let Some(closing) = &mut self.closing else { return };
            let Some(connection) = closing.next_due(now) else { return };
            closing.closed += 1;
            if let Some(slot) = self.table.find(connection) {
                self.close(slot, CloseReason::Draining, "");
            }
        }
    }

    /// The deadline passed: cuts off every WebSocket that is left, and answers
    /// every HTTP request with what is known.
    pub(super) fn abort(&mut self) {
        if let Some(closing) = &mut self.closing {
            closing.aborted = true;
        }
        self.close_all_asks();
        for slot in 0..self.table.high_water() {
            if let Some(row) = self.table.get(slot)
                && row.is(Flag::WebSocket)
            {
                row.ending = Some(CloseReason::DrainDeadline);
                self.end(slot, CloseReason::DrainDeadline);
            }
        }
    }

    /// Counts the end of a WebSocket while the node drains.
    pub(super) fn tally_end(&mut self, reason: CloseReason) {
        if let Some(closing) = &mut self.closing {
            match reason {
                CloseReason::DrainDeadline => closing.tally.forced += 1,
                _ => closing.tally.closed += 1,
            }
        }
    }
}
