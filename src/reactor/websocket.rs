//! WebSocket on a connection: from bytes to messages to what they cause.

use std::sync::Arc;

use super::connection::{Endpoint, Flag, Phase};
use super::message::{Action, ReplyTo};
use super::{Reactor, Reader};
use crate::metrics::{Received, Sent};
use crate::protocol::{self, ClientMessage};
use crate::ws::assembler::{self, Event, Rules, Step};
use crate::ws::close::CloseReason;
use crate::ws::deflate::Inflater;
use crate::ws::frame::{self, CloseCode, Control, Data, Frame, OpCode};

impl Reactor {
    /// Takes bytes of an open or closing WebSocket. What cannot be used yet is
    /// kept with the connection.
    pub(super) fn take_frames(&mut self, slot: u32, bytes: &mut [u8], inflater: &mut Inflater) {
        let message_bytes_max = self.config.message_bytes_max;
        let Some(row) = self.table.get(slot) else { return };
        let rules = Rules { message_bytes_max, deflate: row.deflate_bits().is_some() };
        let mut unfinished = row.input.take().and_then(|input| input.unfinished);
        let mut at = 0;
        loop {
            match assembler::step(&mut unfinished, &mut bytes[at..], rules, inflater) {
                Ok(Step { event: None, .. }) => break self.keep(slot, &[], unfinished),
                Ok(Step { consumed, event: Some(event), .. }) => {
                    at += consumed;
                    if !self.take_event(slot, event) {
                        break;
                    }
                }
                Err(error) => break self.fail(slot, &error),
            }
            if self.pauses_reading(slot) {
                break self.keep(slot, &bytes[at..], unfinished);
            }
        }
    }

    /// Goes on with frames that were kept back.
    pub(super) fn resume_frames(&mut self, slot: u32, reader: &mut Reader) {
        let Some(row) = self.table.get(slot) else { return };
        let Some(input) = &mut row.input else { return };
        let mut bytes = std::mem::take(&mut input.bytes);
        self.take_frames(slot, &mut bytes, &mut reader.inflater);
    }

    fn keep(&mut self, slot: u32, bytes: &[u8], unfinished: Option<Box<assembler::Unfinished>>) {
        let Some(row) = self.table.get(slot) else { return };
        if bytes.is_empty() && unfinished.is_none() {
            return;
        }
        let input = row.input_mut();
        input.bytes = bytes.to_vec();
        input.unfinished = unfinished;
    }

    /// False when the connection reads no more.
    fn take_event(&mut self, slot: u32, event: Event<'_>) -> bool {
        let Some(row) = self.table.get(slot) else { return false };
        let open = row.phase == Phase::Open;
        match event {
            Event::Close(close) => {
                self.take_close(slot, close);
                false
            }
            // After our close frame, what else the peer still sends is void.
            _ if !open => true,
            Event::Text(text) => self.admit_message(slot, text.len()) && self.take_text(slot, text),
            Event::Binary(payload) => {
                self.admit_message(slot, payload.len()) && self.echo(slot, Received::Binary, payload)
            }
            Event::Ping(payload) => {
                self.write(slot, |out| frame::write_frame(out, OpCode::Control(Control::Pong), payload));
                true
            }
            Event::Pong(_) => true,
        }
    }

    fn take_close(&mut self, slot: u32, close: Option<(CloseCode, &str)>) {
        let Some(row) = self.table.get(slot) else { return };
        row.set(Flag::PeerDone, true);
        if row.phase == Phase::Open {
            self.write(slot, |out| frame::write_close(out, close.map(|(code, _)| code), ""));
        }
        self.finish(slot, CloseReason::PeerClosed);
    }

    /// Counts a message against the connection's rate.
    fn admit_message(&mut self, slot: u32, bytes: usize) -> bool {
        let (now, max) = (self.now, self.config.messages_per_second);
        let admitted = self.table.get(slot).is_some_and(|row| row.rate.admit(now, max));
        if !admitted {
            self.counters().received(Received::Refused, bytes);
            self.close(slot, CloseReason::MessageRate, "");
        }
        // The closing handshake is still read.
        admitted || self.table.get(slot).is_some()
    }

    fn take_text(&mut self, slot: u32, text: &str) -> bool {
        let Some(row) = self.table.get(slot) else { return false };
        match (row.endpoint, row.phase) {
            (_, phase) if phase != Phase::Open => {}
            (Endpoint::Echo, _) => return self.echo(slot, Received::Text, text.as_bytes()),
            (Endpoint::Hub, _) => self.take_message(slot, text),
        }
        true
    }

    // What comes in is known where it is called, so no branch is left of it.
    #[inline(always)]
    fn echo(&mut self, slot: u32, what: Received, payload: &[u8]) -> bool {
        if self.table.get(slot).is_some_and(|row| row.is_open()) {
            self.counters().received(what, payload.len());
            let (opcode, sent) = match what {
                Received::Binary => (Data::Binary, Sent::Binary),
                _ => (Data::Text, Sent::Text),
            };
            self.queue_payload(slot, opcode, sent, payload);
        }
        true
    }

    fn take_message(&mut self, slot: u32, text: &str) {
        let parsed = protocol::parse(text);
        self.counters().received(Received::of(&parsed), text.len());
        match parsed {
            Ok(ClientMessage::Ping) => self.answer_with(slot, |out, at| protocol::write_pong(out, at, text)),
            Ok(ClientMessage::Unknown) => {
                self.answer_with(slot, |out, at| protocol::write_echo(out, at, text))
            }
            Ok(ClientMessage::Malformed(why)) => self.complain(slot, why),
            Err(protocol::InvalidJson) => self.complain(slot, "Invalid JSON"),
            Ok(ClientMessage::SendMessage { target_user, content }) => {
                if !self.may_send(slot, &target_user) {
                    return;
                }
                let Some(sender) = self.table.id(slot) else { return };
                let frame = self.encode(slot, |out, from| protocol::write_message(out, from, content));
                self.route(&target_user, Action::Deliver(frame), ReplyTo::Client(sender));
            }
            Ok(ClientMessage::Broadcast { content }) => {
                if !self.may_broadcast(slot) {
                    return;
                }
                let frame = self.encode(slot, |out, from| protocol::write_broadcast(out, from, content));
                self.broadcast(frame, ReplyTo::Nobody);
            }
        }
    }

    fn complain(&mut self, slot: u32, why: &str) {
        self.answer(slot, |out| protocol::write_error(out, why));
    }

    pub(super) fn answer_with(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>, &str)) {
        self.timestamp();
        let stamp = std::mem::take(&mut self.stamp);
        self.answer(slot, |out| write(out, &stamp.text));
        self.stamp = stamp;
    }

    /// Encodes a message in the name of the user on a connection.
    fn encode(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>, &str)) -> Frame {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        match self.table.get(slot).and_then(|row| row.user.clone()) {
            Some(user) => write(&mut scratch, &user),
            None => write(&mut scratch, &self.anonymous_name(slot)),
        }
        let frame = self.stamped(Frame::text(&scratch));
        self.scratch = scratch;
        frame
    }

    /// The id of the user on a connection that named none.
    pub(super) fn anonymous_name(&self, slot: u32) -> Arc<str> {
        self.table.id(slot).map_or_else(|| "".into(), |id| self.hub.homes().anonymous(id).into())
    }
}
