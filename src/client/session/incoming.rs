//! What comes on an open connection, and what it means for it.

use std::time::Duration;

use tungstenite::Message;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::open::NO_STATUS;
use super::outgoing::PROBE;
use super::{Context, Phase, Session};
use crate::client::backoff::ADVICE_MAX;
use crate::client::business::Confirmed;
use crate::client::event::What;
use crate::client::ledger::{Announced, Place};
use crate::client::message::{self, Meaning};
use crate::client::refusal::Closed;

impl Session {
    pub(super) fn take(&mut self, context: &mut Context<'_>, message: Message) {
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
        reconnect_after: Option<Duration>,
        announced: Option<Announced>,
    ) {
        self.ledger.notice(announced);
        if let Phase::Open(open) = &mut self.phase {
            let span = reconnect_after.map(|span| span.min(ADVICE_MAX));
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
}
