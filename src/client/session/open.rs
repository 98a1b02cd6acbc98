//! An open connection: what is read and sent, whether the server is alive,
//! and how it ends.

use std::io::ErrorKind;
use std::time::Instant;

use bytes::Bytes;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::link::Link;
use super::{Context, Phase, Session};
use crate::client::business::Business;
use crate::client::event::What;
use crate::client::refusal::Closed;

/// Messages of one connection in one turn.
const MESSAGES_PER_TURN: usize = 64;

/// Bytes read from one connection in one turn.
const BYTES_PER_TURN: usize = 256 * 1024;

/// The code of a close frame without one (RFC 6455, section 7.1.5).
pub(super) const NO_STATUS: u16 = 1005;

/// What there is while a connection is open.
pub(super) struct Open {
    pub(super) socket: WebSocket<Link>,
    since: Instant,
    heartbeat: Heartbeat,
    /// A notice said to connect again then.
    pub(super) reconnect_at: Option<Instant>,
    /// When this side closes although it was not asked to.
    pub(super) leave_at: Option<Instant>,
    /// When waiting for what is not confirmed, or for the closing handshake, ends.
    pub(super) patience: Option<Instant>,
    /// A close frame was sent.
    pub(super) closing: bool,
    /// The server's close frame.
    pub(super) closed: Option<Closed>,
    /// The program's messages that are not flushed: how many, and their bytes.
    pub(super) waiting: (u64, usize),
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
    pub(super) fn send_close(&mut self, context: &Context<'_>, code: CloseCode) {
        if !std::mem::replace(&mut self.closing, true) {
            self.patience = Some(context.now + context.options.close_timeout);
            context.gate.set_open(false);
            // What goes wrong shows when it is read from.
            drop(self.socket.close(Some(CloseFrame { code, reason: "".into() })));
        }
    }

    /// Writes what is owed, as far as the socket takes it.
    pub(super) fn flush(&mut self, context: &Context<'_>) {
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
        if let Phase::Open(open) = &mut self.phase {
            open.socket.get_mut().allow(BYTES_PER_TURN);
        }
        for _ in 0..MESSAGES_PER_TURN {
            let Phase::Open(open) = &mut self.phase else { return false };
            match open.socket.read() {
                Ok(message) => self.take(context, message),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    return open.socket.get_ref().is_spent();
                }
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
        let advice = closed.advice(told);
        let retry_in = self.backoff.next(advice, fastrand::f64());
        self.wait(context, retry_in);
        self.tell(context, What::Disconnected { closed, lost, unsent, retry_in });
    }
}
