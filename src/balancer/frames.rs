//! Where one frame of a pumped stream ends and the next begins.
//!
//! Owns: following the frame headers (RFC 6455, section 5.2) of bytes that are
//! passed on. Never: payloads, which are skipped by their length, messages, and
//! faults: a stream that breaks the rules is for its reader to refuse.
//!
//! Between two frames the balancer may say something of its own, a close frame,
//! even in the middle of a fragmented message (section 5.4).

const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x08;

/// Bytes of the masking key, which are skipped with the payload.
const MASK_BYTES: u64 = 4;

/// The part of a frame the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The byte of FIN and opcode.
    First,
    /// The byte of MASK and length.
    Second,
    /// So many more bytes of the extended length.
    Length(u8),
    /// The masking key, if any, and the payload.
    Payload,
}

/// Follows one direction of a stream of frames.
///
/// Begins at a boundary: the first byte after the head of the handshake.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// In `Length`: the bits of it read so far. In `Payload`: bytes to skip, never 0.
    count: u64,
    part: Part,
    /// The frame at hand is a close frame.
    is_close: bool,
    /// The frame at hand has a masking key.
    is_masked: bool,
    close_seen: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// At the boundary before the first frame.
    pub const fn new() -> Self {
        Frames { count: 0, part: Part::First, is_close: false, is_masked: false, close_seen: false }
    }

    /// Takes note of bytes that are passed on, however they are cut.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match self.part {
                Part::First => self.frames(bytes),
                Part::Payload => self.skip(bytes.len()),
                Part::Second | Part::Length(_) => self.header_byte(bytes[0]),
            };
            bytes = &bytes[taken..];
        }
    }

    /// Whether all frames begun have ended, so that another may begin here.
    pub fn at_boundary(&self) -> bool {
        self.part == Part::First
    }

    /// Whether a whole close frame has passed. What follows it is not a part of
    /// the conversation (RFC 6455, section 5.5.1).
    pub fn close_seen(&self) -> bool {
        self.close_seen
    }

    /// At a boundary: passes over the short frames that are there in full, then
    /// begins the one that is not. Returns the bytes taken, at least one.
    fn frames(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&[first, second]) = bytes[at..].first_chunk::<2>() {
            let is_special = second >= 126 || first & OPCODE == CLOSE;
            let end = at + 2 + usize::from(second & LENGTH);
            if is_special || end > bytes.len() {
                break;
            }
            at = end;
        }
        let Some(&first) = bytes.get(at) else { return at };
        self.is_close = first & OPCODE == CLOSE;
        self.part = Part::Second;
        at + 1
    }

    fn header_byte(&mut self, byte: u8) -> usize {
        match self.part {
            Part::Length(left) => {
                self.count = self.count << 8 | u64::from(byte);
                self.part = Part::Length(left - 1);
            }
            _ => self.second(byte),
        }
        if self.part == Part::Length(0) {
            self.begin_payload();
        }
        1
    }

    fn second(&mut self, byte: u8) {
        self.is_masked = byte & MASKED != 0;
        let (count, left) = match byte & LENGTH {
            126 => (0, 2),
            127 => (0, 8),
            length => (u64::from(length), 0),
        };
        self.count = count;
        self.part = Part::Length(left);
    }

    /// A length beyond 2⁶³ is a fault; it stays a payload that does not end.
    fn begin_payload(&mut self) {
        if self.is_masked {
            self.count = self.count.saturating_add(MASK_BYTES);
        }
        self.part = Part::Payload;
        self.end_if_done();
    }

    fn skip(&mut self, available: usize) -> usize {
        let taken = usize::try_from(self.count).map_or(available, |count| count.min(available));
        self.count -= taken as u64;
        self.end_if_done();
        taken
    }

    fn end_if_done(&mut self) {
        if self.count == 0 {
            self.part = Part::First;
            self.close_seen |= self.is_close;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::frame::{CloseCode, Control, Data, OpCode, write_close, write_frame};
    use proptest::prelude::*;
    use tungstenite::protocol::frame::FrameHeader;

    const _: () = assert!(size_of::<Frames>() <= 24);

    fn text(len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, OpCode::Data(Data::Text), &vec![0xff; len]);
        out
    }

    fn close(reason: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_close(&mut out, Some(CloseCode::Restart), reason);
        out
    }

    /// Feeds byte by byte and in one piece; the boundaries are where frames
    /// end, and the close is seen with its last byte.
    fn check(frames: &[Vec<u8>]) {
        let stream = frames.concat();
        let mut ends = vec![0];
        frames.iter().for_each(|frame| ends.push(ends[ends.len() - 1] + frame.len()));
        let closes = frames.iter().position(|frame| frame[0] & OPCODE == CLOSE);
        let closed_at = closes.map(|index| ends[index + 1]);
        let mut slow = Frames::new();
        for (at, byte) in stream.iter().enumerate() {
            assert_eq!(slow.at_boundary(), ends.contains(&at), "before byte {at}");
            slow.feed(std::slice::from_ref(byte));
            assert_eq!(slow.close_seen(), closed_at.is_some_and(|end| at + 1 >= end), "after byte {at}");
            let mut quick = Frames::new();
            quick.feed(&stream[..=at]);
            assert_eq!((quick.at_boundary(), quick.close_seen()), (slow.at_boundary(), slow.close_seen()));
        }
        assert!(slow.at_boundary());
    }

    #[test]
    fn frames_of_every_kind_of_length() {
        check(&[]);
        check(&[vec![0x89, 0], text(0), text(1), text(125), text(126), text(127), vec![0x8a, 0]]);
        check(&[text(65_535)]);
        check(&[text(65_536), text(3)]);
    }

    #[test]
    fn a_close_counts_once_it_is_whole() {
        check(&[text(5), close("")]);
        check(&[text(300), close("backend is going"), text(2)]);
        check(&[vec![0x88, 0]]);
    }

    #[test]
    fn control_frames_within_a_fragmented_message_are_frames() {
        check(&[vec![0x01, 1, b'a'], vec![0x89, 2, 1, 2], vec![0x80, 1, b'b'], close("")]);
    }

    #[test]
    fn a_clients_frames_have_a_mask_before_the_payload() {
        check(&[
            vec![0x81, 0x80, 1, 2, 3, 4],
            vec![0x82, 0x82, 1, 2, 3, 4, 5, 6],
            vec![0x88, 0x80, 1, 2, 3, 4],
        ]);
        check(&[[&[0x82, 0xfe, 0, 126, 1, 2, 3, 4][..], &[7; 126]].concat()]);
    }

    #[test]
    fn a_length_that_cannot_be_ends_nowhere() {
        let mut frames = Frames::new();
        frames.feed(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]);
        for _ in 0..3 {
            frames.feed(&[0; 1 << 16]);
            assert!(!frames.at_boundary() && !frames.close_seen());
        }
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let len = prop_oneof![0..4usize, 120..130usize, 65_530..65_540usize];
        let opcode = prop_oneof![
            8 => Just(OpCode::Data(Data::Text)),
            2 => Just(OpCode::Data(Data::Continue)),
            2 => Just(OpCode::Control(Control::Ping)),
            1 => Just(OpCode::Control(Control::Close)),
        ];
        (opcode, any::<bool>(), prop::option::of(any::<[u8; 4]>()), len).prop_map(
            |(opcode, fin, mask, len)| {
                let header = FrameHeader { is_final: fin, opcode, mask, ..FrameHeader::default() };
                let mut out = Vec::new();
                header.format(len as u64, &mut out).unwrap();
                out.resize(out.len() + len, 0x88);
                out
            },
        )
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut(
            frames in prop::collection::vec(any_frame(), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = frames.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut tracker = Frames::new();
            for pair in cuts.windows(2) {
                tracker.feed(&stream[pair[0]..pair[1]]);
                let (mut end, mut closed) = (0, false);
                for frame in frames.iter().take_while(|frame| { end += frame.len(); end <= pair[1] }) {
                    closed |= frame[0] & OPCODE == CLOSE;
                }
                let ends = frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) });
                let boundary = pair[1] == 0 || ends.into_iter().any(|end| end == pair[1]);
                prop_assert_eq!((tracker.at_boundary(), tracker.close_seen()), (boundary, closed));
            }
        }

        #[test]
        fn nonsense_is_survived(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let (mut cut, mut whole) = (Frames::new(), Frames::new());
            chunks.iter().for_each(|chunk| cut.feed(chunk));
            whole.feed(&chunks.concat());
            prop_assert_eq!((cut.at_boundary(), cut.close_seen()), (whole.at_boundary(), whole.close_seen()));
        }
    }
}
