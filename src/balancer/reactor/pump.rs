//! Bytes both ways.
//!
//! What is read from one side is written to the other at once, by way of the
//! reactor's one buffer. What the other side does not take is held, and as long
//! as anything is held nothing more is read: so no pair holds more than one
//! buffer's worth in a direction, and an idle one holds nothing.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use super::Reactor;
use super::pair::{Pair, Side, Stage, Step};
use crate::balancer::ended::Ended;
use crate::balancer::metrics::Counter;
use crate::tls::{Channel, Scratch, Session};

/// Buffers read from one side in one turn before others get theirs.
const BUFFERS_PER_TURN: usize = 4;

/// What a read from one side came to.
pub(super) enum Gulp {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// The side ended its direction.
    End,
    /// Nothing is there now.
    Nothing,
    /// The socket broke.
    Broken(io::Error),
}

impl Reactor {
    /// Passes on what a side has sent, until there is no more, the other side
    /// takes no more, or others are to have their turn.
    pub(super) fn pump(&mut self, slot: u32, from: Side) {
        let mut budget = BUFFERS_PER_TURN * self.buffer.len();
        while self.table.get(slot).is_some_and(|pair| pair.wants_from(from)) {
            if budget == 0 {
                // Or the buffer is in use further up the stack.
                return self.go_on_later(slot);
            }
            match self.gulp(slot, from) {
                Gulp::Bytes(count) => {
                    budget = budget.saturating_sub(count);
                    let buffer = std::mem::take(&mut self.buffer);
                    self.pass_on_bytes(slot, from, &buffer[..count]);
                    self.buffer = buffer;
                }
                Gulp::End => self.on_end(slot, from),
                Gulp::Nothing => return,
                Gulp::Broken(error) => self.on_broken(slot, from, &error),
            }
        }
    }

    /// Reads from a side once.
    pub(super) fn gulp(&mut self, slot: u32, from: Side) -> Gulp {
        if self.tls.get(slot, from).is_some() {
            return self.gulp_sealed(slot, from);
        }
        self.table.get(slot).map_or(Gulp::Nothing, |pair| gulp(pair, from, &mut self.buffer))
    }

    /// The pair has more to read; it is its turn again in the next one.
    fn go_on_later(&mut self, slot: u32) {
        if let Some(pair) = self.table.get(slot).filter(|pair| !pair.is_waiting) {
            pair.is_waiting = true;
            self.waiting.push(slot);
        }
    }

    /// Goes on with pairs whose budget was used up.
    pub(super) fn pump_waiting(&mut self) {
        for slot in std::mem::take(&mut self.waiting) {
            let Some(pair) = self.table.get(slot) else { continue };
            pair.is_waiting = false;
            self.pump(slot, Side::Client);
            self.pump(slot, Side::Backend);
        }
    }

    fn pass_on_bytes(&mut self, slot: u32, from: Side, bytes: &[u8]) {
        let now = self.now;
        let Some(pair) = self.table.get(slot) else { return };
        pair.active_at = now;
        if pair.end(from).ignored {
            return;
        }
        let bytes = match from {
            Side::Client if !pair.is_websocket => {
                // What follows the request's body would be another request, which nobody has looked at.
                let count = bytes.len().min(pair.body_left as usize);
                pair.body_left -= count as u32;
                &bytes[..count]
            }
            Side::Client => bytes,
            Side::Backend => pair.take_of_answer(bytes),
        };
        let is_last = matches!(pair.stage, Stage::Opening(_)) && pair.body_left == 0;
        if is_last {
            self.wait_for_backend(slot);
        }
        self.account(slot, from, bytes.len());
        self.send(slot, from.other(), bytes);
        if from == Side::Backend {
            self.feed_frames(slot, bytes);
            self.end_answer_if_whole(slot);
        }
    }

    /// Keeps track of where the backend's frames end; a pair that waits for
    /// such a place to be closed is closed there.
    pub(super) fn feed_frames(&mut self, slot: u32, bytes: &[u8]) {
        let Some(pair) = self.table.get(slot).filter(|pair| pair.is_websocket) else { return };
        pair.frames.feed(bytes);
        if pair.is_due && pair.frames.at_boundary() {
            self.part_for_drain(slot);
        }
    }

    /// Counts bytes that a side has sent after its head.
    pub(super) fn account(&mut self, slot: u32, from: Side, bytes: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(pair) = self.table.get(slot) else { return };
        let count = bytes as u64;
        let counter = match from {
            Side::Client => {
                pair.to_backend += count;
                if let Some(backend) = &pair.at {
                    backend.bytes_to_backend.fetch_add(count, Relaxed);
                }
                Counter::BytesToBackends
            }
            Side::Backend => {
                pair.to_client += count;
                if let Some(backend) = &pair.at {
                    backend.bytes_to_clients.fetch_add(count, Relaxed);
                }
                Counter::BytesToClients
            }
        };
        self.count(counter, count);
    }

    /// Writes to a side; what it does not take is held for it.
    pub(super) fn send(&mut self, slot: u32, to: Side, bytes: &[u8]) {
        let Some(pair) = self.table.get(slot) else { return };
        let sent = match pair.holds(to) {
            true => Ok(0),
            false => write(pair, to, bytes, self.tls.get(slot, to)),
        };
        match sent {
            Ok(count) if count < bytes.len() => {
                let rest = &bytes[count..];
                pair.held.get_or_insert_default().of(to).extend_from_slice(rest);
                self.held_bytes += rest.len();
                self.count(Counter::PumpsPaused, 1);
            }
            Ok(_) => {}
            Err(error) => self.on_unwritable(slot, to, &error),
        }
    }

    /// A side takes more: what was held for it is written, and then what the other sends.
    pub(super) fn write_held(&mut self, slot: u32, to: Side) {
        let Some(pair) = self.table.get(slot) else { return };
        if pair.holds(to) {
            let mut held = pair.held.take().unwrap_or_default();
            let bytes = held.of(to);
            let written = write(pair, to, bytes, self.tls.get(slot, to));
            if let Ok(count) = written {
                bytes.drain(..count);
                if bytes.is_empty() {
                    bytes.shrink_to_fit();
                }
                self.held_bytes -= count;
            }
            let Some(pair) = self.table.get(slot) else { return };
            pair.held = (!held.is_empty()).then_some(held);
            if let Err(error) = written {
                return self.on_unwritable(slot, to, &error);
            }
        }
        self.after_flush(slot, to);
    }

    /// If nothing is held for a side: its direction is shut when that was all,
    /// else more is read for it.
    pub(super) fn after_flush(&mut self, slot: u32, to: Side) {
        if self.tls.unsent_bytes(slot, to) > 0 {
            // An event says when to go on.
            return;
        }
        let Some(pair) = self.table.get(slot).filter(|pair| !pair.holds(to)) else { return };
        let is_all = match (&pair.stage, to) {
            (Stage::Parting, Side::Client) => true,
            (Stage::Open | Stage::Parting, _) => pair.end(to.other()).eof,
            _ => false,
        };
        if is_all {
            self.shut(slot, to);
        } else {
            self.pump(slot, to.other());
        }
    }

    /// Tells a side that no more will come.
    fn shut(&mut self, slot: u32, to: Side) {
        if !self.says_farewell(slot, to) {
            return;
        }
        let Some(pair) = self.table.get(slot) else { return };
        let end = pair.end(to);
        if !end.shut {
            end.shut = true;
            // A socket that is broken is found out by the next read.
            let _ = pair.stream(to).map(|stream| stream.shutdown(Shutdown::Write));
            self.wait_for_other_half(slot);
        }
        self.end_if_done(slot);
    }

    /// Both directions are over.
    fn end_if_done(&mut self, slot: u32) {
        let Some(pair) = self.table.get(slot) else { return };
        let client_done = pair.client_end.shut && pair.client_end.eof;
        let end = &pair.backend_end;
        // There is nobody for whom to wait for what is thrown away.
        let backend_done = pair.backend.is_none() || (end.shut && (end.eof || end.ignored));
        let parted = matches!(pair.stage, Stage::Parting);
        if client_done && (backend_done || parted) {
            let reason = pair.reason();
            self.end(slot, reason);
        }
    }

    /// A side's direction was read to its end.
    fn on_end(&mut self, slot: u32, from: Side) {
        let Some(pair) = self.table.get(slot) else { return };
        pair.end(from).eof = true;
        match (&pair.stage, from) {
            (Stage::Opening(_), Side::Client) => self.end(slot, Ended::ClientLeft),
            (Stage::Opening(_), Side::Backend) => self.handshake_failed(slot, "it closed the connection"),
            (Stage::Open, Side::Backend) if pair.is_lost() => self.lose_backend(slot),
            (Stage::Open | Stage::Parting, _) => {
                self.end_if_done(slot);
                self.after_flush(slot, from.other());
            }
            (Stage::Bereft | Stage::Listening, _) => self.end(slot, Ended::ClientLeft),
            // It has said all, and is still to be answered.
            (Stage::Asking | Stage::Dead, _) => {}
        }
    }

    /// A side takes no more. What it said before, perhaps why, is still to be
    /// read and passed on; the end of that is the end of the side. What the other
    /// sends is read all the same: one that waits to be read from reads nothing.
    fn on_unwritable(&mut self, slot: u32, to: Side, error: &io::Error) {
        let Some(pair) = self.table.get(slot) else { return };
        if !matches!((&pair.stage, to), (Stage::Open, _) | (Stage::Opening(_), Side::Backend)) {
            return self.on_broken(slot, to, error);
        }
        pair.end(to.other()).ignored = true;
        let end = pair.end(to);
        (end.shut, end.readable, end.closing) = (true, true, true);
        if let Some(held) = &mut pair.held {
            self.held_bytes -= std::mem::take(held.of(to)).len();
        }
        if matches!(pair.stage, Stage::Open) {
            self.wait_for_other_half(slot);
            self.pump(slot, to);
            self.pump(slot, to.other());
        }
    }

    /// A side's socket broke.
    pub(super) fn on_broken(&mut self, slot: u32, side: Side, error: &io::Error) {
        let Some(pair) = self.table.get(slot) else { return };
        match (&pair.stage, side) {
            (Stage::Opening(_), Side::Backend) => self.handshake_failed(slot, &error.to_string()),
            (Stage::Open, Side::Backend) => {
                pair.backend_end.eof = true;
                if pair.is_lost() { self.lose_backend(slot) } else { self.end(slot, Ended::BackendBroke) }
            }
            (Stage::Parting, Side::Backend) => self.drop_backend(slot),
            (_, Side::Client) => self.end(slot, Ended::of_client(error)),
            (_, Side::Backend) => {}
        }
    }
}

impl Pair {
    /// Whether bytes of that side are wanted now.
    fn wants_from(&self, from: Side) -> bool {
        let is_open = match &self.stage {
            Stage::Open | Stage::Parting => true,
            Stage::Bereft | Stage::Asking | Stage::Listening => from == Side::Client,
            // A request's body may still be on its way.
            Stage::Opening(opening) => {
                from == Side::Client
                    && opening.step == Step::Answering
                    && !self.is_websocket
                    && self.body_left > 0
                    && opening.forwarded == opening.forward.len()
            }
            Stage::Dead => false,
        };
        let end = match from {
            Side::Client => &self.client_end,
            Side::Backend => &self.backend_end,
        };
        let has_room = end.ignored || !self.holds(from.other());
        is_open && has_room && end.readable && !end.eof
    }

    /// Whether the backend's end means that a WebSocket was cut off, whose client is still there.
    fn is_lost(&self) -> bool {
        let is_heard = !self.client_end.eof && !self.backend_end.ignored;
        self.is_websocket && !self.frames.close_seen() && is_heard
    }

    fn reason(&self) -> Ended {
        match &self.stage {
            Stage::Parting => self.parting,
            _ if self.is_websocket => Ended::Closed,
            _ => Ended::Answered,
        }
    }
}

/// Reads from a side once. A read that did not fill the buffer emptied the
/// socket, so unless the peer has ended its direction the next event says when
/// there is more (epoll(7), edge-triggered).
fn gulp(pair: &mut Pair, from: Side, buffer: &mut [u8]) -> Gulp {
    let read = loop {
        let Some(stream) = pair.stream(from) else { break Ok(None) };
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(None),
            read => break read.map(Some),
        }
    };
    let end = pair.end(from);
    end.readable = matches!(read, Ok(Some(count)) if count > 0 && (count == buffer.len() || end.closing));
    match read {
        Ok(Some(0)) => Gulp::End,
        Ok(Some(count)) => Gulp::Bytes(count),
        Ok(None) => Gulp::Nothing,
        Err(error) => Gulp::Broken(error),
    }
}

/// Writes as much as a side takes, sealed if it has a session.
pub(super) fn write(
    pair: &mut Pair,
    to: Side,
    bytes: &[u8],
    session: Option<(&mut Session, &mut Scratch)>,
) -> io::Result<usize> {
    let Some(socket) = pair.stream(to) else { return Ok(bytes.len()) };
    match session {
        None => write_all(socket, bytes),
        Some((session, scratch)) => write_all(&mut Channel { session, socket, scratch }, bytes),
    }
}

fn write_all(to: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
