//! A batch into envelopes.

use super::body::{self, Body, Fields};
use super::{BatchHeader, Envelope, UNNUMBERED, VERSION, WireError};
use crate::limits::{CLUSTER_BATCH_BYTES_MAX, NODE_ID_BYTES};

/// An envelope and its place in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its number, if its kind is numbered.
    pub number: Option<u64>,
    /// What it says.
    pub envelope: Envelope<'a>,
}

/// Takes a batch apart without copying. The order and length of all envelopes
/// are checked before this returns, so that a damaged batch is refused as a
/// whole; their bodies are read while iterating.
///
/// # Errors
/// Any [`WireError`] but [`WireError::Body`].
pub fn read(batch: &[u8]) -> Result<(BatchHeader<'_>, Envelopes<'_>), WireError> {
    if batch.len() > CLUSTER_BATCH_BYTES_MAX {
        return Err(WireError::TooBig(batch.len()));
    }
    let mut fields = Fields(batch);
    let header = header(&mut fields, batch.len())?;
    let envelopes = Envelopes { rest: fields, number: header.first, unknown: 0 };
    envelopes.check(header.count)?;
    Ok((header, envelopes))
}

fn header<'a>(fields: &mut Fields<'a>, length: usize) -> Result<BatchHeader<'a>, WireError> {
    use WireError::Length;
    let version = fields.u8().ok_or(Length)?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    if usize::try_from(fields.u32().ok_or(Length)?) != Ok(length) {
        return Err(Length);
    }
    let source = fields.u8().map(usize::from).and_then(|bytes| fields.bytes(bytes)).ok_or(Length)?;
    if source.is_empty() || source.len() > NODE_ID_BYTES {
        return Err(WireError::Source);
    }
    let source = std::str::from_utf8(source).map_err(|_| WireError::Source)?;
    let incarnation = fields.u64().ok_or(Length)?;
    let kind = fields.u8().ok_or(Length)?;
    let stream = body::stream(kind, fields.u64().ok_or(Length)?).ok_or(WireError::Stream(kind))?;
    let (first, count) = (fields.u64().ok_or(Length)?, fields.u32().ok_or(Length)?);
    if first == 0 || first.checked_add(u64::from(count)).is_none() {
        return Err(WireError::Numbers);
    }
    Ok(BatchHeader { source, incarnation, stream, first, count })
}

/// The envelopes of a batch, in order. One that is malformed is an error in
/// its place; kinds this version does not know are passed over.
pub struct Envelopes<'a> {
    rest: Fields<'a>,
    number: u64,
    unknown: u32,
}

impl<'a> Envelopes<'a> {
    /// How many of unknown kinds were passed over so far.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    /// Walks over all envelopes without reading their bodies.
    fn check(&self, count: u32) -> Result<(), WireError> {
        let mut rest = Fields(self.rest.0);
        let mut numbered: u32 = 0;
        while !rest.0.is_empty() {
            let (kind, _) = next_envelope(&mut rest).ok_or(WireError::Length)?;
            // A batch is too short for 2³² envelopes.
            numbered += u32::from(kind < UNNUMBERED);
        }
        if numbered == count { Ok(()) } else { Err(WireError::Count) }
    }

    /// The number of an envelope of this kind that stands here.
    fn number(&mut self, kind: u8) -> Option<u64> {
        let number = (kind < UNNUMBERED).then_some(self.number);
        self.number += u64::from(number.is_some());
        number
    }
}

impl<'a> Iterator for Envelopes<'a> {
    type Item = Result<Item<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (kind, body) = next_envelope(&mut self.rest)?;
            let number = self.number(kind);
            match body::read(kind, body) {
                Body::Known(envelope) => return Some(Ok(Item { number, envelope })),
                Body::Malformed => return Some(Err(WireError::Body(kind))),
                Body::Unknown => self.unknown += 1,
            }
        }
    }
}

/// Kind and body of the envelope that comes next.
fn next_envelope<'a>(rest: &mut Fields<'a>) -> Option<(u8, &'a [u8])> {
    let kind = rest.u8()?;
    let length = usize::try_from(rest.u32()?).ok()?;
    Some((kind, rest.bytes(length)?))
}
