//! permessage-deflate without context takeover (RFC 7692): each message is
//! compressed on its own, so one compressor and one decompressor serve every
//! connection of a reactor and a connection keeps no state at all.

pub use crate::ws::negotiate::{Deflate, negotiate};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::fmt;

/// What every message ends with on the inside and no message carries on the
/// wire (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The smallest window a compressor can keep to, as a power of two. zlib's
/// format knows 8 as well, its raw deflate does not.
pub(super) const WINDOW_BITS_MIN: u8 = 9;

/// The largest window of the format.
pub(super) const WINDOW_BITS_MAX: u8 = 15;

/// Scratch that is kept between messages; more than this is given back.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The first guess at how far a message inflates, in bytes.
const INFLATE_START_BYTES: usize = 1024;

/// Compresses messages: one for a reactor, whatever windows its connections
/// agreed to.
#[derive(Debug, Default)]
pub struct Deflater {
    /// By window, made when first asked for: about 300 KiB each.
    compressors: [Option<Box<Compress>>; (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1) as usize],
    scratch: Vec<u8>,
}

impl Deflater {
    /// Allocates nothing until something is compressed.
    pub fn new() -> Deflater {
        Deflater::default()
    }

    /// The compressed payload of one message, without the tail that RFC 7692,
    /// section 7.2.1, takes off. It can be longer than `payload`, which may as
    /// well be sent uncompressed then.
    ///
    /// `window_bits` is what was agreed; sizes outside 9 to 15 are taken as the
    /// nearest.
    pub fn deflate(&mut self, window_bits: u8, payload: &[u8]) -> &[u8] {
        let window_bits = window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        let compressor =
            self.compressors[usize::from(window_bits - WINDOW_BITS_MIN)].get_or_insert_with(|| {
                Box::new(Compress::new_with_window_bits(Compression::fast(), false, window_bits))
            });
        compressor.reset();
        give_back(&mut self.scratch);
        // Enough in one go for what does not compress, so that the flush is
        // not interrupted and repeated.
        self.scratch.reserve(payload.len() + payload.len() / 8 + 64);
        loop {
            let rest = &payload[compressor.total_in() as usize..];
            let status = compressor.compress_vec(rest, &mut self.scratch, FlushCompress::Sync);
            debug_assert!(status.is_ok(), "{status:?}");
            if self.scratch.len() < self.scratch.capacity() || status.is_err() {
                break;
            }
            self.scratch.reserve(self.scratch.len());
        }
        self.scratch.strip_suffix(&TAIL).unwrap_or(&self.scratch)
    }

    /// Gives back the memory that a large message took; for quiet moments.
    pub fn shrink(&mut self) {
        give_back(&mut self.scratch);
    }
}

/// Why a message did not inflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It is longer than allowed.
    TooBig,
    /// It is not what deflate produces.
    Corrupt,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooBig => "inflates beyond the size allowed",
            Self::Corrupt => "not a deflated message",
        })
    }
}

impl std::error::Error for InflateError {}

/// Inflates messages: one for a reactor. It has the largest window, and with
/// that reads what any smaller one wrote.
#[derive(Debug, Default)]
pub struct Inflater {
    /// Made when first asked for: about 40 KiB.
    decompressor: Option<Box<Decompress>>,
    scratch: Vec<u8>,
}

impl Inflater {
    /// Allocates nothing until something is inflated.
    pub fn new() -> Inflater {
        Inflater::default()
    }

    /// The payload of a message from what was sent: at most `max` bytes, and
    /// never more than about `max` bytes are allocated to find out.
    ///
    /// # Errors
    /// [`InflateError::TooBig`] as soon as more than `max` bytes came out,
    /// [`InflateError::Corrupt`] for what deflate never writes.
    pub fn inflate(&mut self, compressed: &[u8], max: usize) -> Result<&[u8], InflateError> {
        give_back(&mut self.scratch);
        let decompressor = self.decompressor.get_or_insert_with(|| Box::new(Decompress::new(false)));
        decompressor.reset(false);
        inflate_into(&mut self.scratch, decompressor, compressed, max)?;
        inflate_into(&mut self.scratch, decompressor, &TAIL, max)?;
        if self.scratch.len() > max { Err(InflateError::TooBig) } else { Ok(&self.scratch) }
    }

    /// Gives back the memory that a large message took; for quiet moments.
    pub fn shrink(&mut self) {
        give_back(&mut self.scratch);
    }
}

/// Feeds all of `input`, and takes out all that comes of it.
fn inflate_into(
    out: &mut Vec<u8>,
    decompressor: &mut Decompress,
    mut input: &[u8],
    max: usize,
) -> Result<(), InflateError> {
    loop {
        make_room(out, max)?;
        let before = decompressor.total_in();
        let status = decompressor
            .decompress_vec(input, out, FlushDecompress::Sync)
            .map_err(|_| InflateError::Corrupt)?;
        input = &input[(decompressor.total_in() - before) as usize..];
        if status == Status::StreamEnd {
            // A final block does not end the message: the next one begins at
            // the next byte (RFC 7692, section 7.2.3.4).
            decompressor.reset(false);
            if input.is_empty() {
                return Ok(());
            }
        } else if out.len() < out.capacity() {
            return if input.is_empty() { Ok(()) } else { Err(InflateError::Corrupt) };
        }
    }
}

/// Makes room for at least one more byte. The buffer doubles, up to the one
/// byte beyond `max` that tells a message that fits from one that does not.
fn make_room(out: &mut Vec<u8>, max: usize) -> Result<(), InflateError> {
    if out.len() > max {
        return Err(InflateError::TooBig);
    }
    if out.len() == out.capacity() {
        let wanted = out.len().max(INFLATE_START_BYTES);
        out.reserve_exact(wanted.min(max.saturating_add(1) - out.len()));
    }
    Ok(())
}

/// Empties a scratch buffer, and frees it if it grew large.
fn give_back(scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.shrink_to(SCRATCH_BYTES);
}

#[cfg(test)]
mod tests;
