//! What a backend answers to a request, until bytes are pumped.

use std::time::Duration;

use super::Reactor;
use super::opening::Failure;
use super::pair::{Opening, Pair, Side, Stage, Step, UNTIL_CLOSE};
use super::pump::Gulp;
use crate::balancer::director::Observed;
use crate::balancer::head::{self, Answer, Asked, Body};

/// Interim answers (1xx) to one request that are passed on.
const INTERIM_ANSWERS_MAX: u8 = 16;

impl Reactor {
    /// Reads what the backend answers to the request.
    pub(super) fn read_answer(&mut self, slot: u32) {
        while let Some(pair) = self.table.get(slot) {
            if pair.step() != Some(Step::Answering) || !pair.backend_end.readable {
                return;
            }
            match self.gulp(slot, Side::Backend) {
                Gulp::Bytes(count) => {
                    if let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) {
                        opening.answer.extend_from_slice(&self.buffer[..count]);
                    }
                    self.take_answer(slot);
                }
                Gulp::End => self.handshake_failed(slot, "it closed the connection without an answer"),
                Gulp::Nothing => return,
                Gulp::Broken(error) => self.handshake_failed(slot, &error.to_string()),
            }
        }
    }

    fn take_answer(&mut self, slot: u32) {
        let Some(opening) = self.table.get(slot).and_then(|pair| pair.opening()) else { return };
        let is_upgrade = opening.asked == Asked::Upgrade;
        match head::read_answer(&opening.answer, opening.asked) {
            Answer::Partial => {}
            Answer::Interim { .. } if opening.interim_answers >= INTERIM_ANSWERS_MAX => {
                self.handshake_failed(slot, "it has too much to say before its answer");
            }
            Answer::Interim { head_len } => {
                opening.interim_answers += 1;
                let interim: Vec<u8> = opening.answer.drain(..head_len).collect();
                self.send(slot, Side::Client, &interim);
                self.take_answer(slot);
            }
            Answer::Switching { head_len } => self.open(slot, head_len),
            Answer::Other { status: 503, .. } if is_upgrade => {
                self.backend_failed(slot, &Failure::Unwilling);
            }
            Answer::Other { status, .. } if is_upgrade && status >= 500 => {
                self.handshake_failed(slot, &format!("it answered {status}"));
            }
            Answer::Other { head_len, body, .. } => self.relay(slot, head_len, body),
            Answer::Bad(why) => self.handshake_failed(slot, why),
        }
    }

    /// The backend agreed: from now on bytes are pumped.
    fn open(&mut self, slot: u32, head_len: usize) {
        let Some(answer) = self.start_pumping(slot, head_len) else { return };
        if let Some(backend) = self.table.get(slot).and_then(|pair| pair.at.clone()) {
            self.tell_director(Observed::Connected { backend: backend.id });
        }
        self.watch_idle(slot);
        self.send(slot, Side::Client, &answer);
        self.feed_frames(slot, &answer[head_len..]);
        if self.closing.is_some() {
            self.set_due_in(slot, Duration::ZERO);
        }
        self.pump(slot, Side::Client);
        self.pump(slot, Side::Backend);
    }

    /// Any other answer goes to the client as it is, to its end; what follows
    /// that would be taken for an answer to another request.
    fn relay(&mut self, slot: u32, head_len: usize, body: Body) {
        let Some(pair) = self.table.get(slot) else { return };
        pair.answer_left = match body {
            Body::Length(bytes) => bytes,
            Body::Chunked | Body::UntilClose => UNTIL_CLOSE,
        };
        if pair.is_websocket {
            // No upgrade, and nothing more may follow on this connection.
            pair.is_websocket = false;
            pair.body_left = 0;
            self.says_farewell(slot, Side::Backend);
            let Some(pair) = self.table.get(slot) else { return };
            let shut = pair.backend.as_ref().map(|stream| stream.shutdown(std::net::Shutdown::Write));
            pair.backend_end.shut = shut.is_some();
        }
        let Some(answer) = self.start_pumping(slot, head_len) else { return };
        let mut bytes = Vec::with_capacity(answer.len() + 32);
        head::write_answer(&mut bytes, &answer[..head_len]);
        let Some(pair) = self.table.get(slot) else { return };
        bytes.extend_from_slice(pair.take_of_answer(&answer[head_len..]));
        self.set_due_in(slot, self.config.half_close_timeout);
        self.send(slot, Side::Client, &bytes);
        self.end_answer_if_whole(slot);
        self.pump(slot, Side::Client);
        self.pump(slot, Side::Backend);
    }

    /// Lets the backend go whose answer is whole, whether it ends the connection or not.
    pub(super) fn end_answer_if_whole(&mut self, slot: u32) {
        let is_whole = |pair: &&mut Pair| matches!(pair.stage, Stage::Open) && pair.answer_left == 0;
        let Some(pair) = self.table.get(slot).filter(is_whole) else { return };
        // Whatever else the client sends of its request nobody wants to know.
        pair.client_end.ignored = true;
        self.says_farewell(slot, Side::Backend);
        self.drop_backend(slot);
        if let Some(pair) = self.table.get(slot) {
            // The client may take its time, as if the backend had ended but its own direction.
            pair.backend_end.shut = false;
        }
        self.after_flush(slot, Side::Client);
    }

    /// The handshake is over; what the backend has answered, a head of
    /// `head_len` bytes and what follows it, is returned.
    fn start_pumping(&mut self, slot: u32, head_len: usize) -> Option<Vec<u8>> {
        let now = self.now;
        let pair = self.table.get(slot)?;
        let Stage::Opening(opening) = std::mem::replace(&mut pair.stage, Stage::Open) else { return None };
        let Opening { answer, forward, forwarded, follows, early, .. } = *opening;
        pair.active_at = now;
        self.account(slot, Side::Client, follows);
        self.account(slot, Side::Backend, answer.len() - head_len);
        if forwarded < forward.len() {
            // It answered before it had taken the whole request.
            self.send(slot, Side::Backend, &forward[forwarded..]);
        }
        if self.table.get(slot).is_some_and(|pair| pair.is_websocket) && !early.is_empty() {
            self.account(slot, Side::Client, early.len());
            self.send(slot, Side::Backend, &early);
        }
        Some(answer)
    }
}
