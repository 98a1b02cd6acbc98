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
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    /// Text that repeats itself at every distance a window can reach.
    fn text(len: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut out = Vec::with_capacity(len + 64);
        while out.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let back = (state >> 8) as usize % 40_000 + 8;
            match out.len().checked_sub(back) {
                Some(start) if state >> 30 != 0 => out.extend_from_within(start..(start + 24).min(out.len())),
                _ => out.extend_from_slice(&state.to_le_bytes()),
            }
        }
        out.truncate(len);
        out
    }

    /// Inflates with a window of that size and no memory besides: the output
    /// buffer is smaller than any window, so a reference that reaches too far
    /// back is found out.
    fn inflate_strictly(window_bits: u8, deflated: &[u8]) -> Result<Vec<u8>, flate2::DecompressError> {
        let mut decompressor = Decompress::new_with_window_bits(false, window_bits);
        let (mut out, mut piece) = (Vec::new(), [0; 64]);
        let input = [deflated, &TAIL].concat();
        loop {
            let rest = &input[decompressor.total_in() as usize..];
            decompressor.decompress(rest, &mut piece, FlushDecompress::Sync)?;
            let fresh = decompressor.total_out() as usize - out.len();
            out.extend_from_slice(&piece[..fresh]);
            if fresh < piece.len() && decompressor.total_in() as usize == input.len() {
                return Ok(out);
            }
        }
    }

    #[test]
    fn every_window_is_kept_to_and_comes_back() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
            for len in [0, 1, 127, 600, 5_000, 100_000] {
                let plain = text(len);
                let deflated = deflater.deflate(window_bits, &plain).to_vec();
                assert!(!deflated.ends_with(&TAIL), "{window_bits} bits, {len} bytes");
                assert_eq!(
                    inflater.inflate(&deflated, MAX).unwrap(),
                    plain,
                    "{window_bits} bits, {len} bytes"
                );
                assert_eq!(
                    inflate_strictly(window_bits, &deflated).unwrap(),
                    plain,
                    "{window_bits} bits, {len} bytes"
                );
            }
        }
    }

    #[test]
    fn the_strict_check_finds_a_window_that_is_too_large() {
        let deflated = Deflater::new().deflate(15, &text(100_000)).to_vec();
        assert!(inflate_strictly(9, &deflated).is_err());
    }

    #[test]
    fn messages_do_not_depend_on_one_another() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        let (a, b) = (text(3_000), b"something else".repeat(20));
        let alone = deflater.deflate(15, &b).to_vec();
        deflater.deflate(15, &a);
        assert_eq!(deflater.deflate(15, &b), alone);
        assert_eq!(inflater.inflate(&alone, MAX).unwrap(), b);
        assert_eq!(inflater.inflate(b"\xff", MAX), Err(InflateError::Corrupt));
        assert_eq!(inflater.inflate(&alone, MAX).unwrap(), b);
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let mut inflater = Inflater::new();
        let mut check = |wire: &[u8], plain: &[u8]| assert_eq!(inflater.inflate(wire, MAX).unwrap(), plain);
        // RFC 7692, section 7.2.3: one block, none compressed, a final block
        // with and without the octet that follows it, two blocks; 7.2.3.6: empty.
        check(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello");
        check(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], b"Hello");
        check(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], b"Hello");
        check(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello");
        check(&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], b"Hello");
        check(&[0x00], b"");
        check(&[], b"");
        // A block after a final one.
        let finals = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00].repeat(2);
        check(&finals, b"HelloHello");
    }

    #[test]
    fn what_reaches_back_before_the_message_is_corrupt() {
        // RFC 7692, section 7.2.3.2: the second "Hello" refers to the first.
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], MAX).unwrap(), b"Hello");
        assert_eq!(inflater.inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], MAX), Err(InflateError::Corrupt));
    }

    #[test]
    fn a_bomb_is_found_out_within_the_memory_that_is_allowed() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        let bomb = deflater.deflate(15, &vec![0; 64 << 20]).to_vec();
        assert!(bomb.len() < 512 << 10, "{}", bomb.len());
        for max in [0, 1, 1_000, 70_000, MAX] {
            assert_eq!(inflater.inflate(&bomb, max), Err(InflateError::TooBig));
            assert!(inflater.scratch.capacity() <= (max + 1).max(SCRATCH_BYTES), "{max}");
        }
        inflater.shrink();
        deflater.shrink();
        assert!(inflater.scratch.capacity() <= SCRATCH_BYTES);
        assert!(deflater.scratch.capacity() <= SCRATCH_BYTES);
    }

    #[test]
    fn the_bound_is_exact() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        for len in [0, 1, 1_023, 1_024, 1_025, 70_000] {
            let plain = vec![b'a'; len];
            let deflated = deflater.deflate(12, &plain);
            assert_eq!(inflater.inflate(deflated, len).unwrap(), plain);
            if len > 0 {
                assert_eq!(inflater.inflate(deflated, len - 1), Err(InflateError::TooBig), "{len}");
            }
        }
    }
}
