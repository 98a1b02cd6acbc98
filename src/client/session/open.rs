//! An open connection: what comes, what is sent, and how it ends.

use std::io::ErrorKind;
use std::time::Instant;

use bytes::Bytes;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::link::Link;
use super::{Context, Phase, Session};
use crate::client::backoff::Advice;
use crate::client::business::{Business, Confirmed, random_data};
use crate::client::event::What;
use crate::client::ledger::{Announced, Place};
use crate::client::message::{self, Meaning};
use crate::client::refusal::Closed;

/// Messages of one connection in one turn.
const MESSAGES_PER_TURN: usize = 64;

/// Payload of the ping that asks whether all was taken in.
const PROBE: &[u8] = b"probe";

/// The code of a close frame without one (RFC 6455, section 7.1.5).
const NO_STATUS: u16 = 1005;

/// What a program sends.
#[derive(Clone, Debug)]
pub(in crate::client) enum Outgoing {
    Text(String),
    Binary(Bytes),
}

impl Outgoing {
    pub(in crate::client) fn len(&self) -> usize {
        match self {
            Outgoing::Text(text) => text.len(),
            Outgoing::Binary(bytes) => bytes.len(),
        }
    }
}

/// What there is while a connection is open.
pub(super) struct Open {
    socket: WebSocket<Link>,
    since: Instant,
    heartbeat: Heartbeat,
    /// A notice said to connect again then.
    reconnect_at: Option<Instant>,
    /// When this side closes although it was not asked to.
    leave_at: Option<Instant>,
    /// When waiting for what is not confirmed, or for the closing handshake, ends.
    patience: Option<Instant>,
    /// A close frame was sent.
    closing: bool,
    /// The server's close frame.
    closed: Option<Closed>,
    /// The program's messages that are not flushed: how many, and their bytes.
    waiting: (u64, usize),
}

/// Whether the server is alive.
struct Heartbeat {
    due: Instant,
    /// Bytes received when it was last looked at.
    received: u64,
    asked: bool,
}

impl Open {
    pub(super) fn new(socket: WebSocket<Link>, context: &Context<'_>) -> Self {
        let received = socket.get_ref().received;
        Open {
            socket,
            since: context.now,
            heartbeat: Heartbeat { due: context.now + context.options.heartbeat, received, asked: false },
            reconnect_at: None,
            leave_at: None,
            patience: None,
            closing: false,
            closed: None,
            waiting: (0, 0),
        }
    }

    pub(super) fn deadline(&self, business: Option<&Business>) -> Instant {
        let business = business.filter(|_| !self.closing).and_then(Business::deadline);
        let others = [self.leave_at.filter(|_| !self.closing), self.patience, business];
        others.into_iter().flatten().fold(self.heartbeat.due, Instant::min)
    }

    /// Sends a close frame, once.
    fn send_close(&mut self, context: &Context<'_>, code: CloseCode) {
        if !std::mem::replace(&mut self.closing, true) {
            self.patience = Some(context.now + context.options.close_timeout);
            context.gate.set_open(false);
            // What goes wrong shows when it is read from.
            drop(self.socket.close(Some(CloseFrame { code, reason: "".into() })));
        }
    }

    /// Writes what is owed, as far as the socket takes it.
    fn flush(&mut self, context: &Context<'_>) {
        // An error that is not "later" shows when it is read from, too.
        if self.socket.flush().is_ok() {
            let (_, bytes) = std::mem::take(&mut self.waiting);
            context.gate.give_back(bytes);
        }
    }
}

impl Session {
    /// Reads as much as one turn may; whether there may be more.
    pub(super) fn read(&mut self, context: &mut Context<'_>) -> bool {
        self.flush(context);
        for _ in 0..MESSAGES_PER_TURN {
            let Phase::Open(open) = &mut self.phase else { return false };
            match open.socket.read() {
                Ok(message) => self.take(context, message),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => {
                    self.broken(context, &error);
                    return false;
                }
            }
        }
        true
    }

    /// Writes what is owed.
    pub(in crate::client) fn flush(&mut self, context: &mut Context<'_>) {
        if let Phase::Open(open) = &mut self.phase {
            open.flush(context);
        }
    }

    /// Takes a message of the program, whose room was taken at the gate.
    /// Written when the turn flushes.
    pub(in crate::client) fn send(&mut self, context: &mut Context<'_>, message: Outgoing) {
        let bytes = message.len();
        if let Phase::Open(open) = &mut self.phase {
            let message = match message {
                Outgoing::Text(text) => Message::text(text),
                Outgoing::Binary(bytes) => Message::binary(bytes),
            };
            // Written later is as good as written.
            if !matches!(open.socket.write(message), Err(ref error) if !is_later(error)) {
                open.waiting.0 += 1;
                open.waiting.1 += bytes;
                return;
            }
        }
        context.gate.give_back(bytes);
        self.ledger.unsent(1);
    }

    /// Asks whether all was taken in; [`What::Probed`] is the answer.
    pub(in crate::client) fn probe(&mut self) {
        if let Phase::Open(open) = &mut self.phase {
            // If it goes wrong the connection is lost, and the program told so.
            drop(open.socket.write(Message::Ping(Bytes::from_static(PROBE))));
        }
    }

    /// Sends what was not confirmed on the connection before.
    pub(super) fn begin_business(&mut self, context: &mut Context<'_>) {
        let (Some(business), Phase::Open(open)) = (&mut self.business, &mut self.phase) else { return };
        for text in business.opened(context.now, fastrand::f64()) {
            drop(open.socket.write(Message::text(text)));
            self.ledger.sent(true);
        }
        open.flush(context);
    }

    fn take(&mut self, context: &mut Context<'_>, message: Message) {
        match message {
            Message::Text(text) => self.take_text(context, text.as_str()),
            Message::Binary(bytes) => {
                self.ledger.message(bytes.len());
                if context.options.message_events {
                    self.tell(context, What::Binary(bytes));
                }
            }
            Message::Pong(payload) if payload == PROBE => self.tell(context, What::Probed),
            Message::Close(frame) => self.take_close(context, frame.as_ref()),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }

    fn take_text(&mut self, context: &mut Context<'_>, text: &str) {
        self.ledger.message(text.len());
        if context.options.message_events {
            self.tell(context, What::Text(text.to_owned()));
        }
        message::read(text, &mut |meaning| self.take_meaning(context, meaning));
    }

    fn take_meaning(&mut self, context: &mut Context<'_>, meaning: Meaning) {
        match meaning {
            Meaning::Welcome { instance } => {
                self.ledger.welcomed(&instance);
                self.tell(context, What::Welcomed { instance });
            }
            Meaning::Notice { reason, reconnect_after, announced } => {
                self.take_notice(context, reason, reconnect_after, announced);
            }
            Meaning::Business { seq } => match self.ledger.numbered(seq) {
                Place::Next => {}
                Place::Gap(missing) => self.tell(context, What::Gap { seq, missing }),
                Place::Duplicate => self.tell(context, What::Duplicate { seq }),
            },
            Meaning::Confirmation { seq } => self.take_confirmation(context, seq),
            Meaning::Other => {}
        }
    }

    fn take_notice(
        &mut self,
        context: &mut Context<'_>,
        reason: String,
        reconnect_after: Option<std::time::Duration>,
        announced: Option<Announced>,
    ) {
        self.ledger.notice(announced);
        if let Phase::Open(open) = &mut self.phase {
            let span = reconnect_after.map(|span| span.min(crate::client::backoff::ADVICE_MAX));
            open.reconnect_at = span.map(|span| context.now + span);
            // The server closes then; should it not, this side does.
            open.leave_at = open.reconnect_at.map(|at| at + context.options.close_timeout);
        }
        self.tell(context, What::Notice { reason, reconnect_after, announced });
    }

    fn take_confirmation(&mut self, context: &mut Context<'_>, seq: u64) {
        let Some(business) = &mut self.business else { return };
        match business.confirmed(seq) {
            Confirmed::First => self.ledger.confirmed(false),
            Confirmed::Again => self.ledger.confirmed(true),
            Confirmed::Unknown => {}
        }
        let done = business.is_done();
        let settled = business.is_settled();
        self.leaving |= done;
        if let (true, true, Phase::Open(open)) = (self.leaving, settled, &mut self.phase) {
            open.send_close(context, CloseCode::Normal);
        }
    }

    fn take_close(&mut self, context: &mut Context<'_>, frame: Option<&CloseFrame>) {
        let Phase::Open(open) = &mut self.phase else { return };
        let (code, reason) =
            frame.map_or((NO_STATUS, ""), |frame| (frame.code.into(), frame.reason.as_str()));
        open.closed.get_or_insert_with(|| Closed::by_frame(code, reason));
        // The answer goes out with the next read; then the server ends the connection.
        open.closing = true;
        open.patience.get_or_insert(context.now + context.options.close_timeout);
        context.gate.set_open(false);
    }

    /// Closes as soon as nothing waits for a confirmation.
    pub(super) fn leave(&mut self, context: &mut Context<'_>) {
        let Phase::Open(open) = &mut self.phase else { return };
        let settled = self.business.as_ref().is_none_or(Business::is_settled);
        if let Some(business) = &mut self.business {
            business.closed();
        }
        if settled {
            open.send_close(context, CloseCode::Normal);
        } else {
            open.patience.get_or_insert(context.now + context.options.close_timeout);
        }
    }

    pub(super) fn open_timeout(&mut self, context: &mut Context<'_>) {
        let Phase::Open(open) = &mut self.phase else { return };
        let now = context.now;
        if open.patience.is_some_and(|until| until <= now) {
            if open.closing {
                return self.lose(context, Closed::without_frame("the server did not end the connection"));
            }
            open.send_close(context, CloseCode::Normal);
        }
        if open.leave_at.is_some_and(|at| at <= now) {
            open.send_close(context, CloseCode::Normal);
        }
        if open.heartbeat.due <= now && !self.beat(context) {
            return self.lose(context, Closed::without_frame("no sign of life from the server"));
        }
        self.do_business(context);
    }

    /// Looks whether the server is alive, or asks it.
    fn beat(&mut self, context: &Context<'_>) -> bool {
        let Phase::Open(open) = &mut self.phase else { return true };
        let received = open.socket.get_ref().received;
        let heartbeat = &mut open.heartbeat;
        heartbeat.due = context.now + context.options.heartbeat;
        if received > heartbeat.received {
            heartbeat.received = received;
            heartbeat.asked = false;
        } else if heartbeat.asked {
            return false;
        } else {
            heartbeat.asked = true;
            drop(open.socket.write(Message::Ping(Bytes::new())));
            open.flush(context);
        }
        true
    }

    fn do_business(&mut self, context: &mut Context<'_>) {
        let (Some(business), Phase::Open(open)) = (&mut self.business, &mut self.phase) else { return };
        if open.closing {
            return;
        }
        if let Some(text) = business.poll(context.now, fastrand::f64(), random_data) {
            self.ledger.sent(false);
            drop(open.socket.write(Message::text(text)));
            open.flush(context);
        }
    }

    /// Reading showed that the connection is over, or that the server broke the protocol.
    fn broken(&mut self, context: &mut Context<'_>, error: &Error) {
        let Phase::Open(open) = &mut self.phase else { return };
        let fault = match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            Error::Protocol(_) => Some(CloseCode::Protocol),
            Error::Utf8(_) => Some(CloseCode::Invalid),
            Error::Capacity(_) => Some(CloseCode::Size),
            _ => None,
        };
        if let Some(code) = fault {
            open.send_close(context, code);
        }
        let why = match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                "the connection was cut without a close frame".to_owned()
            }
            Error::ConnectionClosed | Error::AlreadyClosed => "closed".to_owned(),
            Error::Io(error) => error.to_string(),
            other => format!("the server broke the protocol: {other}"),
        };
        self.lose(context, Closed::without_frame(why));
    }

    /// The connection is over: how, unless the server's close frame says it.
    fn lose(&mut self, context: &mut Context<'_>, otherwise: Closed) {
        let Phase::Open(open) = std::mem::replace(&mut self.phase, Phase::Queued) else { return };
        context.gate.set_open(false);
        let (unsent, bytes) = open.waiting;
        context.gate.give_back(bytes);
        self.ledger.unsent(unsent);
        if let Some(business) = &mut self.business {
            business.closed();
        }
        let lost = self.ledger.closed(self.leaving, context.now);
        let closed = open.closed.clone().unwrap_or(otherwise);
        if self.leaving {
            return self.end(context, closed, lost);
        }
        if closed.is_unwanted() && !context.options.keep_trying {
            let code = closed.code.unwrap_or(NO_STATUS);
            return self.refuse(context, format!("closed with {code} {}", closed.reason));
        }
        self.backoff.lived(context.now.saturating_duration_since(open.since));
        let told = open.reconnect_at.map(|at| at.saturating_duration_since(context.now));
        let advice: Advice = closed.advice(told);
        let retry_in = self.backoff.next(advice, fastrand::f64());
        self.wait(context, retry_in);
        self.tell(context, What::Disconnected { closed, lost, unsent, retry_in });
    }
}

/// The message is in the buffer and will be written when the socket takes more.
fn is_later(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}
