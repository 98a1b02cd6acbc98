//! One step of the protocol at a time: what `rustls` asks for, done.
//!
//! Owns: [`take_step`] and what it works with. Never: when to take a step, or a
//! connection.

use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::session::TlsError;
use crate::limits::TLS_RECORD_BYTES;

/// What sealing adds to a record, rounded up (RFC 8446, section 5.2; RFC 5246, section 6.2.3.3).
const RECORD_OVERHEAD_BYTES: usize = 64;

/// What is wanted of the protocol once it has no more to do by itself.
#[derive(Clone, Copy)]
pub(super) enum Wish<'a> {
    Nothing,
    /// Seal these bytes.
    Seal(&'a [u8]),
    /// Say that we will send no more.
    Close,
}

/// What the protocol works with.
pub(super) struct Work<'a> {
    pub(super) wish: Wish<'a>,
    /// Where plain bytes go, and how many have.
    pub(super) plain: &'a mut [u8],
    pub(super) filled: usize,
    /// Where sealed bytes go.
    pub(super) out: &'a mut Vec<u8>,
    pub(super) peer_closed: bool,
}

/// Whether the protocol has more to do with the same bytes.
#[derive(PartialEq, Eq)]
pub(super) enum Step {
    Again,
    Done,
}

/// Does what the protocol asks for next.
pub(super) fn take_step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    at: &mut usize,
    work: &mut Work<'_>,
) -> Result<Step, TlsError> {
    let mut used = status.discard;
    let step = match status.state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                used += record.discard;
                work.take_plain(record.payload)?;
            }
            Ok(Step::Again)
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            append(work.out, 0, |space| data.encode(space)).map_err(|_| TlsError::NoKeys)?;
            Ok(Step::Again)
        }
        // What was encoded is in the hands of whoever sends it.
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => {
            work.peer_closed = true;
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            match work.wish {
                Wish::Nothing => {}
                Wish::Seal(plain) => {
                    let records = plain.len() / TLS_RECORD_BYTES + 1;
                    let room = plain.len() + records * RECORD_OVERHEAD_BYTES;
                    append(work.out, room, |space| traffic.encrypt(plain, space))?;
                }
                Wish::Close => {
                    append(work.out, RECORD_OVERHEAD_BYTES, |space| traffic.queue_close_notify(space))?
                }
            }
            Ok(Step::Done)
        }
        // Without keys nothing can be sealed. Early data is never agreed to.
        Ok(_) if matches!(work.wish, Wish::Seal(_)) => Err(TlsError::NoKeys),
        Ok(_) => Ok(Step::Done),
    };
    *at += used;
    step
}

impl Work<'_> {
    fn take_plain(&mut self, payload: &[u8]) -> Result<(), TlsError> {
        let space = self.plain.get_mut(self.filled..self.filled + payload.len()).ok_or(TlsError::TooLarge)?;
        space.copy_from_slice(payload);
        self.filled += payload.len();
        Ok(())
    }
}

/// Appends what `write` writes into a space of `room` bytes, or of as many as it says it needs.
fn append<E: Insufficient>(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), E> {
    let start = out.len();
    out.resize(start + room, 0);
    let written = write(&mut out[start..]).or_else(|error| {
        let needed = error.needed().ok_or(error)?;
        out.resize(start + needed, 0);
        write(&mut out[start..])
    });
    out.truncate(start + *written.as_ref().unwrap_or(&0));
    written.map(drop)
}

/// An error that may say how much room is needed.
trait Insufficient {
    fn needed(&self) -> Option<usize>;
}

impl Insufficient for EncryptError {
    fn needed(&self) -> Option<usize> {
        match self {
            EncryptError::InsufficientSize(size) => Some(size.required_size),
            EncryptError::EncryptExhausted => None,
        }
    }
}

impl Insufficient for EncodeError {
    fn needed(&self) -> Option<usize> {
        match self {
            EncodeError::InsufficientSize(size) => Some(size.required_size),
            EncodeError::AlreadyEncoded => None,
        }
    }
}
