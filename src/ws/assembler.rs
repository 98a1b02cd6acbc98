//! A client's bytes in, events out (RFC 6455, sections 5 to 8).
//!
//! Owns the rules of a message: fragments, interleaved control frames, UTF-8,
//! sizes. Never keeps a slice of the caller's buffer, and owns no heap while
//! nothing is unfinished: what a connection stores while it is idle is one
//! `None`.

use crate::limits::CONTROL_PAYLOAD_BYTES;
use crate::ws::deflate::{InflateError, Inflater};
use crate::ws::error::ProtocolError;
use crate::ws::frame::{CloseCode, Control, Data, OpCode};
use crate::ws::header::{self, HEADER_BYTES_MAX, Header};
use crate::ws::mask::unmask;
use crate::ws::utf8::ValidPrefix;
use std::mem;
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

/// What was agreed with, or is allowed to, this client.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The longest message, in bytes of payload, before and after inflating.
    pub message_bytes_max: usize,
    /// Whether permessage-deflate was negotiated: RSV1 may be set on the first
    /// frame of a message.
    pub deflate: bool,
}

/// One event and what it took.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Step<'a> {
    /// Bytes taken from the start of the input. All of it when there is no
    /// event.
    pub consumed: usize,
    /// The event, or `None` when the input holds no more of them.
    pub event: Option<Event<'a>>,
    /// The message came compressed.
    pub compressed: bool,
}

/// Takes one event from `input`, which is unmasked in place.
///
/// Call it again with `&mut input[consumed..]` until there is no event: by
/// then all input was taken in, and what is unfinished is remembered in
/// `unfinished`. The call without an event is the one that frees what the
/// last event was borrowed from, so it has to be made even if no input is
/// left. A complete frame that is a message of its own is handed out where it
/// lies, without a copy or an allocation.
///
/// # Errors
/// The first thing the client did wrong, as soon as the byte that shows it is
/// there. The connection is to be failed and nothing more may be fed.
#[inline]
pub fn step<'a>(
    unfinished: &'a mut Option<Box<Unfinished>>,
    input: &'a mut [u8],
    rules: Rules,
    inflater: &'a mut Inflater,
) -> Result<Step<'a>, ProtocolError> {
    let (consumed, ready) = advance(unfinished, input, rules)?;
    let Some(ready) = ready else { return Ok(Step { consumed, event: None, compressed: false }) };
    let payload = match (ready.place, unfinished) {
        (Place::Input { start }, _) => &input[start..consumed],
        (Place::Control, Some(kept)) => &kept.control[..usize::from(kept.control_bytes)],
        (Place::Message, Some(kept)) => &kept.payload,
        (Place::Control | Place::Message, None) => &[],
    };
    let payload = if ready.compressed {
        inflater.inflate(payload, rules.message_bytes_max).map_err(|error| match error {
            InflateError::TooBig => ProtocolError::TooBig,
            InflateError::Corrupt => ProtocolError::Inflate,
        })?
    } else {
        payload
    };
    Ok(Step { consumed, event: Some(ready.kind.event(payload)?), compressed: ready.compressed })
}

/// What an unfinished frame or message needs to be remembered between reads:
/// about 250 bytes and the payload received so far.
#[derive(Debug)]
pub struct Unfinished {
    /// The message that frames are being collected for.
    message: Option<Message>,
    /// Its payload so far: unmasked, and compressed if the message is.
    payload: Vec<u8>,
    /// How much of it is known to be UTF-8.
    valid: ValidPrefix,
    /// The frame of which payload is missing.
    frame: Option<Partial>,
    /// What the last call handed out: the next one forgets it.
    handed_out: Option<Place>,
    header: [u8; HEADER_BYTES_MAX],
    /// Bytes of an incomplete header.
    header_bytes: u8,
    control: [u8; CONTROL_PAYLOAD_BYTES],
    /// Bytes of an incomplete control payload.
    control_bytes: u8,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    text: bool,
    compressed: bool,
}

/// A frame of which `taken` bytes of payload were taken in.
#[derive(Clone, Copy, Debug)]
struct Partial {
    header: Header,
    taken: usize,
}

/// An event whose payload lies complete at `place`.
#[derive(Clone, Copy)]
struct Ready {
    kind: Kind,
    compressed: bool,
    place: Place,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the input, from `start` to the end of what was consumed.
    Input { start: usize },
    /// In [`Unfinished::control`].
    Control,
    /// In [`Unfinished::payload`].
    Message,
}

/// Moves on to the next event whose payload is complete: the bytes consumed
/// and the event.
#[inline]
fn advance(
    unfinished: &mut Option<Box<Unfinished>>,
    input: &mut [u8],
    rules: Rules,
) -> Result<(usize, Option<Ready>), ProtocolError> {
    if unfinished.as_deref_mut().is_some_and(Unfinished::settle) {
        *unfinished = None;
    }
    let mut at = 0;
    loop {
        let (consumed, partial) = next_frame(unfinished, &input[at..], rules)?;
        at += consumed;
        let Some(partial) = partial else { return Ok((at, None)) };
        let start = at;
        at += partial.missing().min(input.len() - at);
        let fragment = &mut input[start..at];
        unmask(fragment, partial.header.mask, partial.taken);
        let complete = partial.missing() == fragment.len();
        if let Some(kind) = whole(&partial, complete) {
            let ready = Ready { kind, compressed: partial.header.rsv1, place: Place::Input { start } };
            return Ok((at, Some(ready)));
        }
        let keeper = unfinished.get_or_insert_with(Unfinished::new);
        let ready = keeper.keep(partial, fragment, complete)?;
        if ready.is_some() || !complete {
            return Ok((at, ready));
        }
    }
}

/// The event that a frame is by itself, if it was neither split by the network
/// nor fragmented by the client.
#[inline]
fn whole(partial: &Partial, complete: bool) -> Option<Kind> {
    (complete && partial.taken == 0 && partial.header.fin).then(|| kind(partial.header.opcode)).flatten()
}

/// What a first frame starts; `None` for a continuation.
#[inline]
fn kind(opcode: OpCode) -> Option<Kind> {
    match opcode {
        OpCode::Data(Data::Text) => Some(Kind::Text),
        OpCode::Data(Data::Binary) => Some(Kind::Binary),
        OpCode::Control(Control::Close) => Some(Kind::Close),
        OpCode::Control(Control::Ping) => Some(Kind::Ping),
        OpCode::Control(Control::Pong) => Some(Kind::Pong),
        OpCode::Data(_) | OpCode::Control(_) => None,
    }
}

/// The frame whose payload comes next, and how much of the input its header
/// took; `None` when the input ends before it is known.
#[inline]
fn next_frame(
    unfinished: &mut Option<Box<Unfinished>>,
    input: &[u8],
    rules: Rules,
) -> Result<(usize, Option<Partial>), ProtocolError> {
    if let Some(partial) = unfinished.as_deref_mut().and_then(|kept| kept.frame.take()) {
        return Ok((0, Some(partial)));
    }
    let (consumed, header) = match unfinished.as_deref_mut() {
        Some(kept) if kept.header_bytes > 0 => kept.resume_header(input)?,
        _ => match header::parse(input)? {
            Some((header, length)) => (length, Some(header)),
            None if input.is_empty() => (0, None),
            None => unfinished.get_or_insert_with(Unfinished::new).resume_header(input)?,
        },
    };
    let Some(header) = header else { return Ok((consumed, None)) };
    admit(&header, unfinished.as_deref(), rules)?;
    Ok((consumed, Some(Partial { header, taken: 0 })))
}

/// Whether a frame may come now, and be this long. Sizes are checked by what
/// the header declares, before any of it is kept.
#[inline]
fn admit(header: &Header, unfinished: Option<&Unfinished>, rules: Rules) -> Result<(), ProtocolError> {
    let message = unfinished.and_then(|unfinished| unfinished.message);
    let (compressed, kept) = match (header.opcode, message) {
        (OpCode::Control(_), _) if header.rsv1 => return Err(ProtocolError::ReservedBits),
        (OpCode::Control(_), _) => return Ok(()),
        (OpCode::Data(Data::Continue), None) => return Err(ProtocolError::UnexpectedContinuation),
        // Only the first frame of a message may set it (RFC 7692, section 6.1).
        (OpCode::Data(Data::Continue), Some(_)) if header.rsv1 => return Err(ProtocolError::ReservedBits),
        (OpCode::Data(Data::Continue), Some(message)) => {
            (message.compressed, unfinished.map_or(0, |unfinished| unfinished.payload.len()))
        }
        (OpCode::Data(_), Some(_)) => return Err(ProtocolError::InterruptedMessage),
        (OpCode::Data(_), None) if header.rsv1 && !rules.deflate => return Err(ProtocolError::ReservedBits),
        (OpCode::Data(_), None) => (header.rsv1, 0),
    };
    let room = rules.wire_bytes_max(compressed).saturating_sub(kept);
    if header.payload_bytes > room as u64 { Err(ProtocolError::TooBig) } else { Ok(()) }
}

impl Rules {
    /// The longest message as it is sent. What does not compress grows a
    /// little by being compressed, and is still within the bound once inflated.
    fn wire_bytes_max(&self, compressed: bool) -> usize {
        let max = self.message_bytes_max;
        if compressed { max.saturating_add(max / 8).saturating_add(64) } else { max }
    }
}

impl Partial {
    /// Bytes of payload that are still to come. [`admit`] saw to it that they
    /// can be counted in memory.
    #[inline]
    fn missing(&self) -> usize {
        self.header.payload_bytes as usize - self.taken
    }
}

impl Unfinished {
    fn new() -> Box<Unfinished> {
        Box::new(Unfinished {
            message: None,
            payload: Vec::new(),
            valid: ValidPrefix::default(),
            frame: None,
            handed_out: None,
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            control: [0; CONTROL_PAYLOAD_BYTES],
            control_bytes: 0,
        })
    }

    /// The heap this holds, in bytes.
    pub fn heap_bytes(&self) -> usize {
        mem::size_of::<Self>() + self.payload.capacity()
    }

    /// Bytes of payload and header received and not yet part of an event.
    pub fn buffered_bytes(&self) -> usize {
        self.payload.len() + usize::from(self.control_bytes) + usize::from(self.header_bytes)
    }

    /// Forgets what the last call handed out. True when nothing is left.
    fn settle(&mut self) -> bool {
        match self.handed_out.take() {
            Some(Place::Control) => self.control_bytes = 0,
            Some(Place::Message) => self.message = None,
            Some(Place::Input { .. }) | None => {}
        }
        self.message.is_none() && self.frame.is_none() && self.header_bytes == 0
    }

    /// Takes in more of a header: the bytes of the input that belong to it, and
    /// the header once it is complete.
    fn resume_header(&mut self, input: &[u8]) -> Result<(usize, Option<Header>), ProtocolError> {
        let known = usize::from(self.header_bytes);
        let fresh = input.len().min(HEADER_BYTES_MAX - known);
        let end = known + fresh;
        self.header[known..end].copy_from_slice(&input[..fresh]);
        match header::parse(&self.header[..end])? {
            Some((header, length)) => {
                self.header_bytes = 0;
                Ok((length - known, Some(header)))
            }
            None => {
                self.header_bytes = end as u8;
                Ok((fresh, None))
            }
        }
    }

    /// Keeps a fragment, unmasked: the event it completes, if it does.
    fn keep(
        &mut self,
        partial: Partial,
        fragment: &[u8],
        complete: bool,
    ) -> Result<Option<Ready>, ProtocolError> {
        let Partial { header, taken } = partial;
        let taken = taken + fragment.len();
        self.frame = (!complete).then_some(Partial { header, taken });
        if taken == 0 && !complete {
            // Only the header is here. The payload may yet come in one piece.
            return Ok(None);
        }
        let ready = match header.opcode {
            OpCode::Control(_) => {
                self.control[usize::from(self.control_bytes)..][..fragment.len()].copy_from_slice(fragment);
                self.control_bytes += fragment.len() as u8;
                kind(header.opcode).map(|kind| Ready { kind, compressed: false, place: Place::Control })
            }
            OpCode::Data(_) => {
                let Message { text, compressed } = self.append(partial, fragment)?;
                let kind = if text { Kind::Text } else { Kind::Binary };
                header.fin.then_some(Ready { kind, compressed, place: Place::Message })
            }
        };
        let ready = ready.filter(|_| complete);
        self.handed_out = ready.map(|ready| ready.place);
        Ok(ready)
    }

    /// Adds a fragment to the message it belongs to or starts.
    fn append(&mut self, partial: Partial, fragment: &[u8]) -> Result<Message, ProtocolError> {
        let header = partial.header;
        let text = header.opcode == OpCode::Data(Data::Text);
        let message = *self.message.get_or_insert(Message { text, compressed: header.rsv1 });
        self.reserve(fragment.len(), header.fin.then(|| partial.missing()));
        self.payload.extend_from_slice(fragment);
        if message.text && !message.compressed {
            self.valid.check(&self.payload).map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        Ok(message)
    }

    /// Makes room for `fresh` bytes. The buffer doubles, so that many small
    /// pieces take linear time, and grows by what has arrived rather than by what
    /// a header promises; but not beyond `rest`, what the message still lacks
    /// where that is known.
    fn reserve(&mut self, fresh: usize, rest: Option<usize>) {
        if self.payload.capacity() - self.payload.len() < fresh {
            let doubled = self.payload.len().max(fresh);
            self.payload.reserve_exact(doubled.min(rest.unwrap_or(usize::MAX)));
        }
    }
}

impl Kind {
    #[inline]
    fn event(self, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
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

#[cfg(test)]
mod tests;
