//! What comes out of the assembler, and what its payload has to be.

use crate::ws::error::ProtocolError;
use crate::ws::frame::{CloseCode, Control, Data, OpCode};
use std::str;

/// What a client said. Payloads are borrowed from the input, from the
/// unfinished message or from the inflater, and last until the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message, valid UTF-8.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with a pong of the same payload (at most 125
    /// bytes).
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong(&'a [u8]),
    /// The close frame: its code, valid on the wire, and its reason. Nothing
    /// that follows it may be fed.
    Close(Option<(CloseCode, &'a str)>),
}

/// Which event a payload makes.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

impl Kind {
    /// What the first frame of a message starts, or a control frame is; `None`
    /// for a continuation.
    #[inline]
    pub(super) fn of(opcode: OpCode) -> Option<Kind> {
        match opcode {
            OpCode::Data(Data::Text) => Some(Kind::Text),
            OpCode::Data(Data::Binary) => Some(Kind::Binary),
            OpCode::Control(Control::Close) => Some(Kind::Close),
            OpCode::Control(Control::Ping) => Some(Kind::Ping),
            OpCode::Control(Control::Pong) => Some(Kind::Pong),
            OpCode::Data(_) | OpCode::Control(_) => None,
        }
    }

    /// The event, if its payload may be one.
    ///
    /// # Errors
    /// Text or a close reason that is not UTF-8, a close code that may not be
    /// sent.
    #[inline]
    pub(super) fn event(self, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
        Ok(match self {
            Kind::Text => Event::Text(utf8(payload)?),
            Kind::Binary => Event::Binary(payload),
            Kind::Ping => Event::Ping(payload),
            Kind::Pong => Event::Pong(payload),
            Kind::Close => Event::Close(close(payload)?),
        })
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, ProtocolError> {
    str::from_utf8(bytes).map_err(|_| ProtocolError::InvalidUtf8)
}

/// The payload of a close frame (RFC 6455, section 5.5.1).
fn close(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, ProtocolError> {
    match payload {
        [] => Ok(None),
        [_] => Err(ProtocolError::CloseTooShort),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            code if may_be_sent(code) => Ok(Some((CloseCode::from(code), utf8(reason)?))),
            code => Err(ProtocolError::CloseCode(code)),
        },
    }
}

/// Whether a close code may stand on the wire: RFC 6455, section 7.4, and the
/// codes registered since (1012 to 1014). `CloseCode::is_allowed` does not know
/// 1014.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
