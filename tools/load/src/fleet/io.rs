//! Bytes in and out of the sockets, and frames out of the bytes.

use super::{Fleet, Load, Outbox, Phase, READ_BYTES, note};
use crate::frame::{self, Parsed};
use crate::handshake::{close_reason, handshake_end};
use mio::{Events, Token};
use std::io::{self, Read, Write};
use std::time::Duration;

/// The largest message of a server that is taken in.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Fleet {
    /// Sends whole frames on a connection; what the socket does not take now follows when it can.
    pub(crate) fn send(&mut self, index: usize, bytes: &[u8]) {
        let Some(member) = self.members.get_mut(index).filter(|member| member.stream.is_some()) else {
            return;
        };
        let Some(session) = &mut member.tls else { return self.write(index, bytes) };
        let mut sealed = std::mem::take(&mut self.sealed);
        match session.seal(bytes, &mut sealed) {
            Ok(()) => self.write(index, &sealed),
            Err(reason) => self.end(index, reason),
        }
        sealed.clear();
        self.sealed = sealed;
    }

    /// Writes bytes as they are.
    pub(super) fn write(&mut self, index: usize, bytes: &[u8]) {
        let Some(member) = self.members.get_mut(index) else { return };
        let Some(stream) = &mut member.stream else { return };
        let mut rest = bytes;
        while member.unsent.is_empty() && !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return self.end(index, format!("write: {error}")),
            }
        }
        member.unsent.extend_from_slice(rest);
    }

    pub(super) fn turn(&mut self, load: &mut impl Load, timeout: Duration) -> Result<(), String> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(format!("epoll: {error}")),
            Ok(()) => {}
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(index) = event.token();
            if event.is_writable() {
                self.writable(index);
            }
            if event.is_readable() || event.is_read_closed() {
                self.readable(index, event.is_read_closed(), load);
            }
        }
        self.events = events;
        Ok(())
    }

    fn writable(&mut self, index: usize) {
        let Some(member) = self.members.get_mut(index) else { return };
        if member.phase == Phase::Connecting {
            let Some(stream) = &member.stream else { return };
            match stream.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return self.end(index, format!("connect: {error}")),
            }
            return self.connected(index);
        }
        if !member.unsent.is_empty() {
            let bytes = std::mem::take(&mut member.unsent);
            self.write(index, &bytes);
        }
    }

    fn readable(&mut self, index: usize, to_the_end: bool, load: &mut impl Load) {
        loop {
            let Some(member) = self.members.get_mut(index) else { return };
            let Some(stream) = &mut member.stream else { return };
            let held = member.tls.as_ref().map_or(&member.partial[..], |session| session.held());
            let kept = held.len();
            self.buffer[..kept].copy_from_slice(held);
            match stream.read(&mut self.buffer[kept..]) {
                Ok(0) => return self.end(index, "ended by the server without a close frame".into()),
                Ok(read) => {
                    let filled = kept + read;
                    let drained = filled < self.buffer.len();
                    if let Err(reason) = self.arrived(index, filled, load) {
                        return self.end(index, reason);
                    }
                    if drained && !to_the_end {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.end(index, format!("read: {error}")),
            }
        }
    }

    /// Takes in the first `filled` bytes of the buffer, which begin with what was kept of earlier reads.
    fn arrived(&mut self, index: usize, filled: usize, load: &mut impl Load) -> Result<(), String> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let taken = match self.members[index].tls {
            Some(_) => self.open_records(index, &mut buffer[..filled], load),
            None => self.take_in(index, &buffer[..filled], load).map(|need| {
                if need > buffer.len() {
                    buffer.resize(need + READ_BYTES, 0);
                }
            }),
        };
        self.buffer = buffer;
        taken
    }

    /// Takes in bytes that begin with the unfinished frame of earlier ones; one at their end is kept. How many bytes
    /// that one has, as far as is known.
    pub(super) fn take_in(
        &mut self,
        index: usize,
        input: &[u8],
        load: &mut impl Load,
    ) -> Result<usize, String> {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.target = index;
        let now = self.now();
        let taken = self.take_frames(index, input, now, load, &mut outbox);
        if !outbox.bytes.is_empty() {
            self.send(outbox.target, &outbox.bytes);
            outbox.bytes.clear();
        }
        self.outbox = outbox;
        let (consumed, need) = taken?;
        let partial = &mut self.members[index].partial;
        partial.clear();
        if consumed < input.len() {
            partial.extend_from_slice(&input[consumed..]);
        } else {
            *partial = Vec::new();
        }
        Ok(need)
    }

    /// Answers how much was consumed and how large a buffer the next frame needs.
    fn take_frames(
        &mut self,
        index: usize,
        input: &[u8],
        now: u64,
        load: &mut impl Load,
        outbox: &mut Outbox,
    ) -> Result<(usize, usize), String> {
        let mut at = 0;
        if self.members[index].phase == Phase::Handshaking {
            match handshake_end(input)? {
                Some(end) => at = end,
                None => return Ok((0, 0)),
            }
            self.members[index].phase = Phase::AwaitingWelcome;
            if !self.welcome {
                self.now_ready(index);
                load.opened(index, &[], now, outbox);
            }
        }
        let mut messages = 0u32;
        let need = loop {
            let (fin, opcode, payload, len) = match frame::parse(&input[at..])? {
                Parsed::Frame { fin, opcode, payload, len } => (fin, opcode, payload, len),
                Parsed::Partial(need) => break need,
            };
            at += len;
            match opcode {
                frame::PING => frame::write(&mut outbox.bytes, frame::PONG, payload),
                frame::PONG => {}
                frame::CLOSE => return Err(close_reason(payload)),
                frame::TEXT | frame::BINARY if fin => {
                    if self.members[index].phase == Phase::AwaitingWelcome {
                        self.now_ready(index);
                        load.opened(index, payload, now, outbox);
                    } else {
                        messages += 1;
                        load.message(index, opcode, payload, now);
                    }
                }
                _ => return Err("the server sent a fragmented message or an unknown opcode".into()),
            }
        };
        if messages > 0 {
            self.last_message_at = now;
            load.read_done(index, now, outbox);
        }
        if need > MESSAGE_BYTES_MAX {
            return Err(format!("the server sent a message of {need} bytes"));
        }
        Ok((at, need))
    }

    fn now_ready(&mut self, index: usize) {
        self.members[index].phase = Phase::Ready;
        self.opening -= 1;
        self.ready += 1;
    }

    pub(super) fn end(&mut self, index: usize, reason: String) {
        let member = &mut self.members[index];
        member.stream = None;
        member.tls = None;
        let was_ready = member.phase == Phase::Ready;
        if was_ready {
            self.ready -= 1;
        } else {
            self.opening -= 1;
        }
        match (self.reopens, was_ready) {
            (true, _) => return self.ended.push((index, reason)),
            (false, true) => self.lost += 1,
            (false, false) => self.refused += 1,
        }
        note(&mut self.reasons, reason);
    }
}
