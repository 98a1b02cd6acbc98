//! A client's bytes in, events out (RFC 6455, sections 5 to 8).
//!
//! Owns the rules of a message: fragments, interleaved control frames, UTF-8,
//! sizes. Never keeps a slice of the caller's buffer, and owns no heap while
//! nothing is unfinished: what a connection stores while it is idle is one
//! `None`.

mod event;
mod unfinished;

use crate::ws::deflate::{InflateError, Inflater};
use crate::ws::error::ProtocolError;
use crate::ws::frame::{Data, OpCode};
use crate::ws::header::{self, Header};
use crate::ws::mask::unmask;
use event::Kind;
use unfinished::{Partial, Place, Ready};

pub use event::Event;
pub use unfinished::Unfinished;

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
    (complete && partial.taken == 0 && partial.header.fin).then(|| Kind::of(partial.header.opcode)).flatten()
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

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
