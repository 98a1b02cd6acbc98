//! The body of each kind of envelope, written and read side by side.

use super::{Answer, Aside, Envelope, Probe, Stream, TRIES_MAX};
use crate::delivery::Outcome;
use crate::limits::{CLUSTER_TEXT_BYTES, USER_ID_BYTES};

/// Bytes of one connection in an ack.
const ROW_BYTES: usize = 9;

/// A text longer than its field may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Appends the body of `envelope`. On an error, `out` ends in a part of it.
pub(super) fn write(out: &mut Vec<u8>, envelope: &Envelope<'_>) -> Result<(), TooLong> {
    match envelope {
        Envelope::Send { answer, user, text, aside } => {
            put_answer(out, *answer);
            put_text(out, user, USER_ID_BYTES)?;
            put_text(out, text, CLUSTER_TEXT_BYTES)?;
            aside.write(out);
        }
        Envelope::Broadcast { id, text, wants_result, aside } => {
            put_u64(out, *id);
            out.push(u8::from(*wants_result));
            put_text(out, text, CLUSTER_TEXT_BYTES)?;
            aside.write(out);
        }
        Envelope::Kick { id, user, reason, farewell, aside } => {
            put_u64(out, *id);
            out.push(u8::from(farewell.is_some()));
            put_text(out, user, USER_ID_BYTES)?;
            put_text(out, reason, CLUSTER_TEXT_BYTES)?;
            put_text(out, farewell.unwrap_or_default(), CLUSTER_TEXT_BYTES)?;
            aside.write(out);
        }
        Envelope::Locate { id, user } => {
            put_u64(out, *id);
            put_text(out, user, USER_ID_BYTES)?;
        }
        Envelope::Ack { id, connections, audience, unconfirmed } => {
            put_u64(out, *id);
            put_u64(out, *audience);
            put_u32(out, *unconfirmed);
            if connections.len() > CLUSTER_TEXT_BYTES / ROW_BYTES {
                return Err(TooLong);
            }
            put_u32(out, connections.len() as u32);
            for (connection, outcome) in connections {
                put_u64(out, *connection);
                out.push(outcome_code(*outcome));
            }
        }
        Envelope::Elsewhere { user, elsewhere } => {
            out.push(u8::from(*elsewhere));
            put_text(out, user, USER_ID_BYTES)?;
        }
        Envelope::Forget { user } => put_text(out, user, USER_ID_BYTES)?,
        Envelope::Begin { number } => put_u64(out, *number),
        Envelope::Returned { sender, tries, user, text } => {
            put_u64(out, *sender);
            out.push(*tries);
            put_text(out, user, USER_ID_BYTES)?;
            put_text(out, text, CLUSTER_TEXT_BYTES)?;
        }
        Envelope::Probed { probe, held_micros, stayed_micros } => {
            probe.write(out);
            put_u32(out, *held_micros);
            put_u32(out, *stayed_micros);
        }
        Envelope::Resend { stream, from, to } | Envelope::Lost { stream, from, to } => {
            put_stream(out, *stream);
            put_u64(out, *from);
            put_u64(out, *to);
        }
    }
    Ok(())
}

/// What a body says.
pub(super) enum Body<'a> {
    /// This.
    Known(Envelope<'a>),
    /// Nothing this version knows.
    Unknown,
    /// Nothing that could be said.
    Malformed,
}

/// Reads the body of an envelope of this kind.
pub(super) fn read(kind: u8, body: &[u8]) -> Body<'_> {
    let mut fields = Fields(body);
    let envelope = match kind {
        0x01 => send(&mut fields),
        0x02 => broadcast(&mut fields),
        0x03 => kick(&mut fields),
        0x04 => locate(&mut fields),
        0x05 => ack(&mut fields),
        0x06 => elsewhere(&mut fields),
        0x07 => forget(&mut fields),
        0x08 => begin(&mut fields),
        0x09 => returned(&mut fields),
        0x0a => probed(&mut fields),
        0x81 => range(&mut fields).map(|(stream, from, to)| Envelope::Resend { stream, from, to }),
        0x82 => range(&mut fields).map(|(stream, from, to)| Envelope::Lost { stream, from, to }),
        _ => return Body::Unknown,
    };
    envelope.map_or(Body::Malformed, Body::Known)
}

fn send<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    let answer = fields.answer()?;
    let (user, text) = (fields.text(USER_ID_BYTES)?, fields.text(CLUSTER_TEXT_BYTES)?);
    Some(Envelope::Send { answer, user, text, aside: Aside::read(fields) })
}

fn returned<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    let (sender, tries) = (fields.u64()?, fields.u8()?);
    let (user, text) = (fields.text(USER_ID_BYTES)?, fields.text(CLUSTER_TEXT_BYTES)?);
    Some(Envelope::Returned { sender, tries, user, text })
}

fn probed<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    let probe = Probe::read(fields)?;
    Some(Envelope::Probed { probe, held_micros: fields.u32()?, stayed_micros: fields.u32()? })
}

fn broadcast<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    let (id, wants_result) = (fields.u64()?, fields.flag()?);
    let text = fields.text(CLUSTER_TEXT_BYTES)?;
    Some(Envelope::Broadcast { id, text, wants_result, aside: Aside::read(fields) })
}

fn kick<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    let (id, has_farewell) = (fields.u64()?, fields.flag()?);
    let (user, reason) = (fields.text(USER_ID_BYTES)?, fields.text(CLUSTER_TEXT_BYTES)?);
    let farewell = fields.text(CLUSTER_TEXT_BYTES)?;
    let farewell = has_farewell.then_some(farewell);
    Some(Envelope::Kick { id, user, reason, farewell, aside: Aside::read(fields) })
}

fn locate<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    Some(Envelope::Locate { id: fields.u64()?, user: fields.text(USER_ID_BYTES)? })
}

fn ack<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    let (id, audience, unconfirmed) = (fields.u64()?, fields.u64()?, fields.u32()?);
    let rows = usize::try_from(fields.u32()?).ok()?.checked_mul(ROW_BYTES)?;
    let rows = fields.bytes(rows)?.chunks_exact(ROW_BYTES);
    let mut connections = Vec::with_capacity(rows.len());
    for row in rows {
        let mut row = Fields(row);
        connections.push((row.u64()?, outcome(row.u8()?)));
    }
    Some(Envelope::Ack { id, connections, audience, unconfirmed })
}

fn elsewhere<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    let elsewhere = fields.flag()?;
    Some(Envelope::Elsewhere { user: fields.text(USER_ID_BYTES)?, elsewhere })
}

fn forget<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    Some(Envelope::Forget { user: fields.text(USER_ID_BYTES)? })
}

fn begin<'a>(fields: &mut Fields<'a>) -> Option<Envelope<'a>> {
    let number = fields.u64()?;
    (number > 0).then_some(Envelope::Begin { number })
}

/// A range of numbers of a stream, in order and not beginning below 1.
fn range(fields: &mut Fields<'_>) -> Option<(Stream, u64, u64)> {
    let kind = fields.u8()?;
    let stream = stream(kind, fields.u64()?)?;
    let (from, to) = (fields.u64()?, fields.u64()?);
    (1 <= from && from <= to).then_some((stream, from, to))
}

/// In the byte of an answer: an ack is wanted, and the number before names it.
const ACK: u8 = 0b01;

/// In the byte of an answer: the message is wanted back, the number before is
/// its sender, and the tries are in the bits above.
const RETURN: u8 = 0b10;

/// Appends what is to be answered: nine bytes, of whose last a node that knows
/// nothing of returning sees the lowest bit.
fn put_answer(out: &mut Vec<u8>, answer: Answer) {
    let (number, byte) = match answer {
        Answer::Nothing => (0, 0),
        Answer::Ack(id) => (id, ACK),
        Answer::Return { sender, tries } => (sender, RETURN | tries.min(TRIES_MAX) << 2),
    };
    put_u64(out, number);
    out.push(byte);
}

/// What happened to a connection, as a byte.
fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Delivered => 0,
        Outcome::SlowConsumer => 1,
        Outcome::Gone => 2,
        Outcome::Closed => 3,
        Outcome::Overloaded => 4,
        Outcome::TimedOut => 5,
        Outcome::Unavailable => 6,
    }
}

/// A byte as what happened. What a later version calls otherwise is unknown
/// here, which is what a timeout means.
fn outcome(code: u8) -> Outcome {
    match code {
        0 => Outcome::Delivered,
        1 => Outcome::SlowConsumer,
        2 => Outcome::Gone,
        3 => Outcome::Closed,
        4 => Outcome::Overloaded,
        6 => Outcome::Unavailable,
        _ => Outcome::TimedOut,
    }
}

/// Appends a stream: its kind and the incarnation meant.
pub(super) fn put_stream(out: &mut Vec<u8>, stream: Stream) {
    let (kind, target) = match stream {
        Stream::Broadcast => (0, 0),
        Stream::To(incarnation) => (1, incarnation),
    };
    out.push(kind);
    put_u64(out, target);
}

/// A kind and an incarnation as a stream; `None` for an unknown kind.
pub(super) fn stream(kind: u8, target: u64) -> Option<Stream> {
    match kind {
        0 => Some(Stream::Broadcast),
        1 => Some(Stream::To(target)),
        _ => None,
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str, bytes_max: usize) -> Result<(), TooLong> {
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= bytes_max).ok_or(TooLong)?;
    put_u32(out, length);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// What has not been read yet. Each method takes one field off the front, or
/// says `None` when it is not there; no length is believed before its bytes
/// are seen.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(field)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The lowest bit of a byte; the others are left to later versions.
    fn flag(&mut self) -> Option<bool> {
        self.u8().map(|byte| byte & 1 == 1)
    }

    fn answer(&mut self) -> Option<Answer> {
        let (number, byte) = (self.u64()?, self.u8()?);
        Some(match byte {
            byte if byte & ACK != 0 => Answer::Ack(number),
            byte if byte & RETURN != 0 => Answer::Return { sender: number, tries: byte >> 2 },
            _ => Answer::Nothing,
        })
    }

    fn text(&mut self, bytes_max: usize) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok().filter(|length| *length <= bytes_max)?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }
}
