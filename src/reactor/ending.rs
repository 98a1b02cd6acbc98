//! How a connection ends. Every way leads through [`Reactor::end`].

use std::net::Shutdown;

use log::Level;
use log::kv::Value;

use super::Reactor;
use super::connection::{Flag, Phase};
use super::message::ReactorMessage;
use crate::clock::Tick;
use crate::config::SlowConsumer;
use crate::delivery::Outcome;
use crate::logging;
use crate::metrics::Counter;
use crate::ws::close::CloseReason;
use crate::ws::error::ProtocolError;
use crate::ws::frame;

/// Whether the log has a line about the end of every WebSocket, so that it is
/// worth keeping what that line will say.
pub(super) fn all_are_logged() -> bool {
    log::log_enabled!(Level::Debug)
}

impl Reactor {
    /// Begins a closing handshake: the close frame follows what is owed, then
    /// the peer's is awaited. An empty `text` stands for the reason's own.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason, text: &str) {
        if self.say_goodbye(slot, reason, text) {
            self.enter(slot, Phase::CloseSent);
        }
    }

    /// Ends a connection whose peer broke the protocol: the close frame is
    /// sent, nothing more is read (RFC 6455, section 7.1.7).
    pub(super) fn fail(&mut self, slot: u32, error: &ProtocolError) {
        log::debug!("{}: {error}", self.name(slot));
        if self.say_goodbye(slot, error.reason(), "") {
            self.enter(slot, Phase::Flushing);
        } else {
            self.finish(slot, error.reason());
        }
    }

    fn say_goodbye(&mut self, slot: u32, reason: CloseReason, text: &str) -> bool {
        if !self.table.get(slot).is_some_and(|row| row.is_open()) {
            return false;
        }
        self.depart(slot);
        let Some(row) = self.table.get(slot) else { return false };
        row.ending = Some(reason);
        let text = if text.is_empty() { reason.text() } else { text };
        self.write(slot, |out| frame::write_close(out, reason.code(), text));
        true
    }

    /// Reads no more and ends the connection once what is owed is written.
    pub(super) fn finish(&mut self, slot: u32, reason: CloseReason) {
        self.depart(slot);
        let Some(row) = self.table.get(slot) else { return };
        row.ending.get_or_insert(reason);
        self.enter(slot, Phase::Flushing);
        if self.owed(slot) == 0 {
            self.flushed(slot);
        }
    }

    fn enter(&mut self, slot: u32, phase: Phase) {
        let now = self.now;
        let Some(row) = self.table.get(slot) else { return };
        row.phase = phase;
        row.mark = now;
        if phase == Phase::CloseSent && row.is(Flag::ReadPaused) {
            // Its close frame stands behind what was left unread.
            self.resume(slot);
        } else if phase == Phase::Flushing {
            row.input = None;
        }
    }

    /// All that was owed to a connection that is to end has been written.
    pub(super) fn flushed(&mut self, slot: u32) {
        let now = self.now;
        if !self.says_farewell(slot) {
            return;
        }
        let Some(row) = self.table.get(slot) else { return };
        if row.is(Flag::PeerDone) || row.stream.shutdown(Shutdown::Write).is_err() {
            return self.end(slot, CloseReason::PeerVanished);
        }
        row.phase = Phase::Lingering;
        row.mark = now;
    }

    /// Ends a connection now. `reason` counts unless one was stated before.
    pub(super) fn end(&mut self, slot: u32, reason: CloseReason) {
        self.depart(slot);
        if matches!(reason, CloseReason::HttpIdle | CloseReason::HandshakeTimeout) {
            self.says_last_word(slot);
        }
        let Some(row) = self.table.get(slot) else { return };
        let reason = row.ending.unwrap_or(reason);
        let websocket = row.is(Flag::WebSocket);
        let unsent = row.outbound.take().map_or(0, |outbound| outbound.bytes());
        self.outbound_bytes -= unsent + self.sessions.unsent_bytes(slot);
        self.sessions.remove(slot);
        self.counters().closed(reason);
        if log::log_enabled!(reason.level()) {
            self.log_end(slot, reason, unsent);
        }
        if websocket {
            self.websockets -= 1;
            self.tally_end(reason);
        }
        self.drop_batch(slot);
        self.drop_permits(slot);
        self.table.bury(slot);
    }

    /// Says on one line who it was, how long it was there, what it carried and why it ended.
    fn log_end(&mut self, slot: u32, reason: CloseReason, unsent_bytes: usize) {
        let Some(id) = self.table.id(slot) else { return };
        let Some(row) = self.table.get(slot) else { return };
        let record = self.records.take(slot, row.generation);
        // A socket that was reset does not know its peer any more.
        let client = record
            .as_ref()
            .and_then(|record| record.client)
            .or_else(|| row.stream.peer_addr().ok().map(|peer| peer.ip().to_canonical()));
        let mut fields: Vec<(&str, Value<'_>)> =
            vec![("reason", reason.label().into()), ("connection", Value::from_display(&id))];
        fields.extend(row.user.as_deref().map(|user| ("user", user.into())));
        fields.extend(client.as_ref().map(|client| ("client", Value::from_display(client))));
        if let Some(record) = &record {
            let ticks = self.now.since(record.opened);
            fields.push(("seconds", (f64::from(ticks) * f64::from(Tick::MS) / 1000.0).into()));
            fields.push(("received_bytes", record.received_bytes.into()));
            fields.push(("sent_bytes", record.sent_bytes.into()));
            fields.extend(record.trace.as_ref().map(|trace| ("trace_id", Value::from_display(trace))));
        }
        fields.push(("unsent_bytes", (unsent_bytes as u64).into()));
        let line = format_args!("connection {id} ended: {}", reason.label());
        logging::say(reason.level(), module_path!(), &fields, line);
    }

    /// Takes an open connection out of everything that would send to it.
    fn depart(&mut self, slot: u32) {
        if !self.table.get(slot).is_some_and(|row| row.is_open()) {
            return;
        }
        self.send_batch(slot);
        // Nothing may follow its close frame (RFC 6455, section 5.5.1).
        self.drop_batch(slot);
        let id = self.table.id(slot);
        let Some(row) = self.table.get(slot) else { return };
        self.members.count(row, false);
        self.outgoing.leave_audience(row, slot);
        row.phase = Phase::Flushing;
        // It stays in the row as well, for the log.
        let user = row.user.clone();
        self.shared.release();
        if let (Some(user), Some(connection)) = (user, id) {
            let home = self.hub.homes().of(&user);
            if home == self.me {
                let edge = self.hub.leave(&user, connection);
                self.tell_presence(edge, &user);
            } else {
                self.post_surely(home, ReactorMessage::Leave { user, connection });
            }
        }
    }

    /// More is owed to a connection than it may cost.
    pub(super) fn slow_consumer(&mut self, slot: u32) -> Outcome {
        if !self.table.get(slot).is_some_and(|row| row.is_open()) {
            return Outcome::Gone;
        }
        self.count(Counter::DroppedSlowConsumer, 1);
        if self.config.slow_consumer == SlowConsumer::Disconnect {
            self.close(slot, CloseReason::SlowConsumer, "");
        }
        Outcome::SlowConsumer
    }

    /// The connection's id, for the log.
    pub(super) fn name(&self, slot: u32) -> String {
        self.table.id(slot).map_or_else(|| format!("slot {slot}"), |id| format!("connection {id}"))
    }
}
