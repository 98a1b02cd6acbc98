//! Envelopes into a batch.

use bytes::Bytes;

use super::body::{self, TooLong};
use super::{ENVELOPE_HEAD_BYTES, Envelope, Stream, VERSION, WireError};
use crate::limits::{CLUSTER_BATCH_BYTES, NODE_ID_BYTES};

/// Where the length of the whole batch stands.
const BYTES_AT: usize = 1;

/// Bytes of the header's end that are known only when the batch is sealed:
/// first number and count.
const NUMBERS_BYTES: usize = 12;

/// Why an envelope was not taken into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The batch is to be sealed first; then there is room.
    Full,
    /// A text exceeds its bound: a user id [`crate::limits::USER_ID_BYTES`],
    /// another text [`crate::limits::CLUSTER_TEXT_BYTES`]. It fits no batch.
    TooBig,
}

/// Collects envelopes for one stream; the same buffer serves batch after batch.
#[derive(Debug)]
pub struct BatchWriter {
    buffer: Vec<u8>,
    header_bytes: usize,
    count: u32,
}

impl BatchWriter {
    /// A writer for a stream of the node `source`.
    ///
    /// # Errors
    /// [`WireError::Source`] when `source` is empty or longer than
    /// [`NODE_ID_BYTES`].
    pub fn new(source: &str, incarnation: u64, stream: Stream) -> Result<Self, WireError> {
        let length = u8::try_from(source.len()).map_err(|_| WireError::Source)?;
        if length == 0 || source.len() > NODE_ID_BYTES {
            return Err(WireError::Source);
        }
        let mut buffer = vec![VERSION, 0, 0, 0, 0, length];
        buffer.extend_from_slice(source.as_bytes());
        body::put_u64(&mut buffer, incarnation);
        body::put_stream(&mut buffer, stream);
        buffer.extend_from_slice(&[0; NUMBERS_BYTES]);
        let header_bytes = buffer.len();
        Ok(BatchWriter { buffer, header_bytes, count: 0 })
    }

    /// Takes an envelope in.
    ///
    /// # Errors
    /// [`Refused`]; the batch is as it was.
    pub fn append(&mut self, envelope: &Envelope<'_>) -> Result<(), Refused> {
        let start = self.buffer.len();
        let written = self.lay_out(envelope, start);
        if written.is_err() {
            self.buffer.truncate(start);
        }
        written?;
        self.count += u32::from(envelope.is_numbered());
        Ok(())
    }

    fn lay_out(&mut self, envelope: &Envelope<'_>, start: usize) -> Result<(), Refused> {
        self.buffer.push(envelope.kind());
        body::put_u32(&mut self.buffer, 0);
        body::write(&mut self.buffer, envelope).map_err(|TooLong| Refused::TooBig)?;
        // One large envelope is a batch of its own.
        if self.buffer.len() > CLUSTER_BATCH_BYTES && start > self.header_bytes {
            return Err(Refused::Full);
        }
        let body_bytes = self.buffer.len() - start - ENVELOPE_HEAD_BYTES;
        self.patch(start + 1, &(body_bytes as u32).to_le_bytes());
        Ok(())
    }

    /// Whether nothing was taken in.
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == self.header_bytes
    }

    /// Numbered envelopes taken in.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Length of the batch in bytes, if it were sealed now.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The batch, whose first numbered envelope is number `first`. The writer
    /// is empty afterwards. A batch of nothing is a batch too: it tells the
    /// receiver that all numbers below `first` were sent.
    pub fn seal(&mut self, first: u64) -> Bytes {
        debug_assert!(first > 0, "numbers begin at 1");
        let length = self.buffer.len() as u32;
        let numbers_at = self.header_bytes - NUMBERS_BYTES;
        self.patch(BYTES_AT, &length.to_le_bytes());
        self.patch(numbers_at, &first.to_le_bytes());
        self.patch(numbers_at + 8, &self.count.to_le_bytes());
        // Copied, so that a batch that is kept for long holds no more than its length.
        let batch = Bytes::copy_from_slice(&self.buffer);
        self.buffer.truncate(self.header_bytes);
        self.buffer.shrink_to(CLUSTER_BATCH_BYTES);
        self.count = 0;
        batch
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
