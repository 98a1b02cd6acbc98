//! What is sent on an open connection: the program's messages, business, probes.

use std::io::ErrorKind;

use bytes::Bytes;
use tungstenite::Message;
use tungstenite::error::Error;

use super::{Context, Phase, Session};
use crate::client::business::random_data;

/// Payload of the ping that asks whether all was taken in.
pub(super) const PROBE: &[u8] = b"probe";

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

impl Session {
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

    pub(super) fn do_business(&mut self, context: &mut Context<'_>) {
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
}

/// The message is in the buffer and will be written when the socket takes more.
fn is_later(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}
