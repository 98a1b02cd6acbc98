use super::*;
use std::collections::HashMap;

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

/// Reads deflate's bits for itself, to see how far back they refer: the
/// inflater at hand keeps the largest window whatever it is told.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    written: usize,
    farthest: usize,
}

/// The codes of one Huffman table, by length and value (RFC 1951, 3.2.2).
fn table(lengths: &[u8]) -> HashMap<(u8, u32), usize> {
    let (mut code, mut codes) = (0, HashMap::new());
    for length in 1..=15 {
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, own)| **own == length) {
            codes.insert((length, code), symbol);
            code += 1;
        }
        code <<= 1;
    }
    codes
}

impl Reader<'_> {
    fn bits(&mut self, count: u8) -> usize {
        (0..count).fold(0, |value, place| {
            let bit = self.bytes[self.at / 8] >> (self.at % 8) & 1;
            self.at += 1;
            value | usize::from(bit) << place
        })
    }

    fn symbol(&mut self, codes: &HashMap<(u8, u32), usize>) -> usize {
        let mut code = 0;
        for length in 1..=15 {
            code = code << 1 | self.bits(1) as u32;
            if let Some(&symbol) = codes.get(&(length, code)) {
                return symbol;
            }
        }
        panic!("no such code at bit {}", self.at);
    }

    fn stored(&mut self) {
        self.at = self.at.next_multiple_of(8);
        let len = self.bits(16);
        assert_eq!(self.bits(16), len ^ 0xffff);
        self.at += len * 8;
        self.written += len;
    }

    /// The code lengths of a dynamic block (RFC 1951, 3.2.7).
    fn dynamic(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (literals, distances, count) = (self.bits(5) + 257, self.bits(5) + 1, self.bits(4) + 4);
        let mut lengths = [0; 19];
        for place in
            [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15].into_iter().take(count)
        {
            lengths[place] = self.bits(3) as u8;
        }
        let (codes, mut lengths) = (table(&lengths), Vec::new());
        while lengths.len() < literals + distances {
            let (value, times) = match self.symbol(&codes) {
                16 => (lengths[lengths.len() - 1], self.bits(2) + 3),
                17 => (0, self.bits(3) + 3),
                18 => (0, self.bits(7) + 11),
                length => (length as u8, 1),
            };
            lengths.extend(std::iter::repeat_n(value, times));
        }
        let distances = lengths.split_off(literals);
        (lengths, distances)
    }

    fn block(&mut self, literals: &[u8], distances: &[u8]) {
        let (literals, distances) = (table(literals), table(distances));
        loop {
            match self.symbol(&literals) {
                0..=255 => self.written += 1,
                256 => return,
                symbol => {
                    self.written += self.length(symbol - 257);
                    let distance = self.symbol(&distances);
                    self.farthest = self.farthest.max(self.distance(distance));
                }
            }
        }
    }

    /// The length that a symbol and its extra bits stand for (RFC 1951, 3.2.5).
    fn length(&mut self, symbol: usize) -> usize {
        match symbol {
            0..=7 => symbol + 3,
            28 => 258,
            _ => {
                let extra = symbol / 4 - 1;
                ((4 + symbol % 4) << extra) + 3 + self.bits(extra as u8)
            }
        }
    }

    /// The same for a distance.
    fn distance(&mut self, symbol: usize) -> usize {
        match symbol {
            0..=3 => symbol + 1,
            _ => {
                let extra = symbol / 2 - 1;
                ((2 + symbol % 2) << extra) + 1 + self.bits(extra as u8)
            }
        }
    }
}

/// How far back a message refers at most, and how long it is.
fn farthest(deflated: &[u8]) -> (usize, usize) {
    let bytes = [deflated, &TAIL].concat();
    let mut reader = Reader { bytes: &bytes, at: 0, written: 0, farthest: 0 };
    while reader.at < bytes.len() * 8 {
        assert_eq!(reader.bits(1), 0, "a final block");
        match reader.bits(2) {
            0 => reader.stored(),
            1 => {
                let literals = [[8].repeat(144), [9].repeat(112), [7].repeat(24), [8].repeat(8)].concat();
                reader.block(&literals, &[5; 30]);
            }
            2 => {
                let (literals, distances) = reader.dynamic();
                reader.block(&literals, &distances);
            }
            _ => panic!("no such block"),
        }
    }
    (reader.farthest, reader.written)
}

#[test]
fn every_window_is_kept_to_and_comes_back() {
    let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
    for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
        for len in [0, 1, 127, 600, 5_000, 50_000] {
            let plain = text(len);
            let deflated = deflater.deflate(window_bits, &plain);
            let (farthest, written) = farthest(deflated);
            assert_eq!(written, len, "{window_bits} bits");
            assert!(farthest <= 1 << window_bits, "{window_bits} bits, {len} bytes: {farthest}");
            // The text has something to refer to at every distance.
            assert!(len < 50_000 || farthest > 1 << (window_bits - 2), "{window_bits} bits: {farthest}");
            assert_eq!(inflater.inflate(deflated, MAX).unwrap(), plain, "{window_bits} bits, {len} bytes");
        }
    }
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
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
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
