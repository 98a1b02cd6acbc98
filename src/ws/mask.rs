//! Taking the mask off a client's payload (RFC 6455, section 5.3).
//!
//! `tungstenite` has the same few lines but keeps them to itself.

/// Bytes that are unmasked at a stride: the compiler turns them into two
/// 16-byte vector operations on every x86-64 and AArch64.
const BLOCK: usize = 32;

/// Unmasks `payload` in place (or masks it: the operation is its own
/// inverse). `offset` is how many bytes of the same frame's payload came
/// before these.
#[inline]
pub fn unmask(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    let key = |at: usize| mask[(offset % 4 + at) % 4];
    let turned = u32::from_ne_bytes([key(0), key(1), key(2), key(3)]);
    let (blocks, rest) = payload.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for word in block.as_chunks_mut::<4>().0 {
            *word = (u32::from_ne_bytes(*word) ^ turned).to_ne_bytes();
        }
    }
    let (words, tail) = rest.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ turned).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(turned.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_matches_the_definition() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..200 {
            for offset in 0..9 {
                let masked: Vec<u8> = (0..length).map(|i: usize| (i * 7) as u8).collect();
                let expected: Vec<u8> =
                    masked.iter().enumerate().map(|(i, byte)| byte ^ mask[(i + offset) % 4]).collect();
                let mut payload = masked.clone();
                unmask(&mut payload, mask, offset);
                assert_eq!(payload, expected, "{length} bytes at offset {offset}");
            }
        }
    }

    #[test]
    fn offsets_near_the_end_of_the_address_space_do_not_overflow() {
        let mut payload = *b"abc";
        unmask(&mut payload, [0; 4], usize::MAX);
        assert_eq!(&payload, b"abc");
    }

    #[test]
    fn the_example_of_the_rfc() {
        // Section 5.7: a single-frame masked text message.
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello");
    }
}
