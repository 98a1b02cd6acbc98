//! Deadlines without timers: a slice of the table is looked through at a time.
//!
//! Owns: [`Sweep`], which slice is next, and [`judge`], what is due for one
//! row. A pass over the whole table takes an eighth of the shortest deadline
//! (between 50 ms and 1 s), so a deadline is met late by at most that.

use std::time::Duration;

use super::Reactor;
use super::connection::{Connection, Flag, Phase};
use crate::clock::Tick;
use crate::config::Config;
use crate::http::Response;
use crate::limits::{CLOSE_HANDSHAKE, HTTP_IDLE, READ_BUFFER_BYTES};
use crate::metrics::Counter;
use crate::ws::close::CloseReason;
use crate::ws::frame::PING;

/// Slices in a pass over a large table.
const SLICES: u32 = 16;

/// Rows below which a table is looked through at once.
const SMALL: u32 = 4096;

/// The deadlines, in ticks; 0 for none.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a request to be complete.
    pub handshake: u32,
    /// For a kept-alive HTTP connection to ask again.
    pub http_idle: u32,
    /// Silence after which a ping is sent, and again after each such span.
    pub heartbeat_interval: u32,
    /// Silence after which the connection is closed.
    pub heartbeat_timeout: u32,
    /// For a closing connection to make progress.
    pub close: u32,
}

impl Deadlines {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        Deadlines {
            handshake: Tick::count(config.handshake_timeout),
            http_idle: Tick::count(HTTP_IDLE),
            heartbeat_interval: Tick::count(config.heartbeat_interval),
            heartbeat_timeout: Tick::count(config.heartbeat_timeout),
            close: Tick::count(CLOSE_HANDSHAKE),
        }
    }
}

/// What is due for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Leave,
    /// A ping.
    Ping,
    /// A close frame and the closing handshake.
    Close(CloseReason),
    /// The end, now.
    End(CloseReason),
}

/// Looks at one row.
pub fn judge<S>(row: &Connection<S>, now: Tick, deadlines: &Deadlines) -> Verdict {
    let span = now.since(row.mark);
    match row.phase {
        Phase::Open if deadlines.heartbeat_interval == 0 => Verdict::Leave,
        Phase::Open if span >= deadlines.heartbeat_timeout => Verdict::Close(CloseReason::HeartbeatTimeout),
        // More than are counted are not sent: it has not answered any of so many.
        Phase::Open if row.pings == u8::MAX => Verdict::Leave,
        Phase::Open if span >= deadlines.heartbeat_interval.saturating_mul(u32::from(row.pings) + 1) => {
            Verdict::Ping
        }
        Phase::Http if row.is(Flag::Awaiting) => Verdict::Leave,
        Phase::Http if row.is(Flag::KeptAlive) && row.input.is_none() => {
            if span >= deadlines.http_idle {
                Verdict::End(CloseReason::HttpIdle)
            } else {
                Verdict::Leave
            }
        }
        Phase::Http if span >= deadlines.handshake => Verdict::End(CloseReason::HandshakeTimeout),
        // A drain waits for its own deadline.
        Phase::CloseSent if row.ending == Some(CloseReason::Draining) => Verdict::Leave,
        Phase::CloseSent | Phase::Flushing | Phase::Lingering if span >= deadlines.close => {
            Verdict::End(CloseReason::CloseTimeout)
        }
        _ => Verdict::Leave,
    }
}

/// Which rows are looked at when.
#[derive(Debug)]
pub struct Sweep {
    deadlines: Deadlines,
    /// Ticks in a pass.
    pass: u32,
    cursor: u32,
    /// When the last slice was looked at.
    last: Tick,
}

impl Sweep {
    /// A sweep that meets the configured deadlines.
    pub fn new(config: &Config) -> Self {
        let mut shortest = config.handshake_timeout.min(CLOSE_HANDSHAKE);
        if !config.heartbeat_interval.is_zero() {
            let patience = config.heartbeat_timeout.saturating_sub(config.heartbeat_interval);
            shortest = shortest.min(config.heartbeat_interval).min(patience);
        }
        if config.simulate {
            shortest = shortest.min(config.simulate_interval);
        }
        let pass = (shortest / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
        Sweep { deadlines: Deadlines::new(config), pass: Tick::count(pass), cursor: 0, last: Tick::default() }
    }

    /// Ticks in a pass over the whole table.
    pub fn pass_ticks(&self) -> u32 {
        self.pass
    }

    /// Ticks until the next slice is due.
    pub fn ticks_left(&self, now: Tick) -> u32 {
        let interval = if self.cursor == 0 { self.pass } else { (self.pass / SLICES).max(1) };
        interval.saturating_sub(now.since(self.last))
    }

    /// The slice that is due, of a table of `rows`. A table that fits one slice
    /// is due once per pass, a larger one a slice at a time.
    fn next(&mut self, now: Tick, rows: u32) -> Option<std::ops::Range<u32>> {
        if self.ticks_left(now) > 0 {
            return None;
        }
        let slice = rows.div_ceil(SLICES).max(SMALL);
        let start = if self.cursor < rows { self.cursor } else { 0 };
        let end = rows.min(start + slice);
        self.cursor = if end < rows { end } else { 0 };
        self.last = now;
        Some(start..end)
    }

    /// Takes new deadlines over.
    pub fn reconfigure(&mut self, config: &Config) {
        *self = Sweep { cursor: self.cursor, last: self.last, ..Sweep::new(config) };
    }
}

impl Reactor {
    /// Looks through the slice that is due.
    pub(super) fn sweep_slice(&mut self) {
        let Some(slots) = self.sweep.next(self.now, self.table.high_water()) else { return };
        if slots.start == 0 {
            self.shrink_scratch();
            if self.table.shrink() {
                self.sessions.shrink(self.table.high_water());
                self.crowd_left = true;
            } else if std::mem::take(&mut self.crowd_left) {
                crate::memory::give_back();
            }
            // After a shortage of descriptors nobody says that there are some again.
            self.doors.iter_mut().for_each(|door| door.waiting = true);
        }
        for slot in slots {
            self.sweep_row(slot);
        }
        self.flush_when_full();
    }

    /// Gives back what unusually large messages needed.
    fn shrink_scratch(&mut self) {
        self.flush();
        self.outgoing.shrink();
        self.scratch.shrink_to(READ_BUFFER_BYTES);
        self.deflater.shrink();
        if let Some(reader) = &mut self.reader {
            reader.inflater.shrink();
        }
    }

    fn sweep_row(&mut self, slot: u32) {
        let Some(row) = self.table.get(slot) else { return };
        match judge(row, self.now, &self.sweep.deadlines) {
            Verdict::Leave if self.config.simulate => self.simulate(slot),
            Verdict::Leave => {}
            Verdict::Ping => {
                row.pings = row.pings.saturating_add(1);
                self.write(slot, |out| out.extend_from_slice(&PING));
                self.count(Counter::PingsSent, 1);
            }
            Verdict::Close(reason) => self.close(slot, reason, ""),
            Verdict::End(CloseReason::HandshakeTimeout) => self.time_out_request(slot),
            Verdict::End(reason) => self.end(slot, reason),
        }
    }

    /// Says why to a client that began a request; one that sent nothing is not answered.
    fn time_out_request(&mut self, slot: u32) {
        if self.table.get(slot).is_some_and(|row| row.input.is_some()) {
            let answer = Response::error(408, "the request was not complete in time");
            self.respond(slot, &answer, false, false);
            return self.finish(slot, CloseReason::HandshakeTimeout);
        }
        self.end(slot, CloseReason::HandshakeTimeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::connection::Input;

    const DEADLINES: Deadlines =
        Deadlines { handshake: 10, http_idle: 60, heartbeat_interval: 30, heartbeat_timeout: 100, close: 5 };

    #[test]
    fn each_phase_has_its_deadline() {
        let check = |phase, span, expected| {
            let mut row = Connection::accepted((), Tick(0), false);
            row.phase = phase;
            assert_eq!(judge(&row, Tick(span), &DEADLINES), expected, "{phase:?} after {span}");
        };
        check(Phase::Http, 9, Verdict::Leave);
        check(Phase::Http, 10, Verdict::End(CloseReason::HandshakeTimeout));
        check(Phase::Open, 29, Verdict::Leave);
        check(Phase::Open, 30, Verdict::Ping);
        check(Phase::Open, 100, Verdict::Close(CloseReason::HeartbeatTimeout));
        for phase in [Phase::CloseSent, Phase::Flushing, Phase::Lingering] {
            check(phase, 4, Verdict::Leave);
            check(phase, 5, Verdict::End(CloseReason::CloseTimeout));
        }
        check(Phase::Dead, 1000, Verdict::Leave);
    }

    #[test]
    fn one_ping_is_sent_per_interval_of_silence() {
        let mut row = Connection::accepted((), Tick(0), false);
        row.phase = Phase::Open;
        let mut pings = Vec::new();
        for now in 0..100 {
            if judge(&row, Tick(now), &DEADLINES) == Verdict::Ping {
                pings.push(now);
                row.pings += 1;
            }
        }
        assert_eq!(pings, [30, 60, 90]);
        row.seen(Tick(95));
        assert_eq!(judge(&row, Tick(120), &DEADLINES), Verdict::Leave, "a sign of life starts anew");
    }

    #[test]
    fn who_is_pinged_for_long_is_not_pinged_faster() {
        let deadlines = Deadlines { heartbeat_interval: 8, heartbeat_timeout: 80_000, ..DEADLINES };
        let mut row = Connection::accepted((), Tick(0), false);
        row.phase = Phase::Open;
        let mut last = 0;
        for now in 0..79_999 {
            if judge(&row, Tick(now), &deadlines) == Verdict::Ping {
                assert!(now - last >= 8, "pings at {last} and {now}");
                last = now;
                row.pings = row.pings.saturating_add(1);
            }
        }
        assert_eq!(last, 255 * 8);
        assert_eq!(judge(&row, Tick(80_000), &deadlines), Verdict::Close(CloseReason::HeartbeatTimeout));
    }

    #[test]
    fn a_request_begun_on_a_kept_alive_connection_has_the_shorter_deadline() {
        let mut row = Connection::accepted((), Tick(0), false);
        row.set(Flag::KeptAlive, true);
        assert_eq!(judge(&row, Tick(59), &DEADLINES), Verdict::Leave);
        assert_eq!(judge(&row, Tick(60), &DEADLINES), Verdict::End(CloseReason::HttpIdle));
        row.input = Some(Box::new(Input::default()));
        assert_eq!(judge(&row, Tick(10), &DEADLINES), Verdict::End(CloseReason::HandshakeTimeout));
        row.set(Flag::Awaiting, true);
        assert_eq!(judge(&row, Tick(99), &DEADLINES), Verdict::Leave, "we are the ones to answer");
    }

    #[test]
    fn every_row_is_seen_once_in_a_pass() {
        for rows in [0, 1, SMALL, SMALL + 1, 1_000_000] {
            let mut sweep = Sweep::new(&Config::default());
            let mut seen = 0;
            let mut now = Tick(sweep.pass_ticks());
            loop {
                let slice = sweep.next(now, rows).unwrap_or_else(|| panic!("a slice is due at {now:?}"));
                assert_eq!(slice.start, seen, "{rows} rows");
                seen = slice.end;
                assert_eq!(sweep.next(now, rows), None, "one slice at a time");
                if sweep.cursor == 0 {
                    break;
                }
                now = Tick(now.0 + sweep.ticks_left(now));
            }
            assert_eq!(seen, rows);
            assert!(now.0 <= 2 * sweep.pass_ticks(), "{rows} rows took until {now:?}");
        }
    }
}
