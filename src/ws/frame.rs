//! Frames of the server: unmasked, never fragmented, encoded once.

use crate::limits::CONTROL_PAYLOAD_BYTES;
use crate::stamp::Stamp;
use bytes::Bytes;
pub use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// An empty ping as it stands on the wire.
pub const PING: [u8; 2] = [0x89, 0x00];

/// The longest header of a server: two bytes and a 64-bit length.
pub const HEADER_BYTES_MAX: usize = 10;

/// A close reason in bytes: a control payload less the code.
const CLOSE_REASON_BYTES: usize = CONTROL_PAYLOAD_BYTES - 2;

/// A whole frame as it goes onto the wire. Cloning shares the bytes, so a
/// broadcast is encoded once.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    header_bytes: u8,
    /// Stands where the compiler would leave a gap.
    stamp: Option<Stamp>,
}

impl Frame {
    /// A text message. `payload` has to be UTF-8.
    pub fn text(payload: &[u8]) -> Frame {
        debug_assert!(std::str::from_utf8(payload).is_ok(), "text frames carry UTF-8");
        Self::encode(OpCode::Data(Data::Text), false, payload)
    }

    /// A binary message.
    pub fn binary(payload: &[u8]) -> Frame {
        Self::encode(OpCode::Data(Data::Binary), false, payload)
    }

    /// A message that [`crate::ws::deflate::Deflater`] compressed: RSV1 is set
    /// (RFC 7692, section 6).
    pub fn compressed(opcode: Data, deflated: &[u8]) -> Frame {
        Self::encode(OpCode::Data(opcode), true, deflated)
    }

    /// A close frame; the reason is cut at a character boundary to the 123
    /// bytes that fit.
    pub fn close(code: CloseCode, reason: &str) -> Frame {
        let mut bytes = Vec::with_capacity(2 + CONTROL_PAYLOAD_BYTES);
        write_close(&mut bytes, Some(code), reason);
        Frame { bytes: bytes.into(), header_bytes: 2, stamp: None }
    }

    fn encode(opcode: OpCode, rsv1: bool, payload: &[u8]) -> Frame {
        let header_bytes = header_bytes(payload.len());
        let mut bytes = Vec::with_capacity(header_bytes + payload.len());
        write_header(&mut bytes, opcode, rsv1, payload.len());
        bytes.extend_from_slice(payload);
        Frame { bytes: bytes.into(), header_bytes: header_bytes as u8, stamp: None }
    }

    /// The same frame, whose way is timed if there is a stamp.
    #[must_use]
    pub fn stamped(self, stamp: Option<Stamp>) -> Frame {
        Frame { stamp, ..self }
    }

    /// What is known of its way, if that is timed.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Header and payload.
    pub fn wire(&self) -> &[u8] {
        &self.bytes
    }

    /// Header and payload, to be shared.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.header_bytes)..]
    }

    /// Bytes on the wire, header included: never zero.
    #[allow(clippy::len_without_is_empty, reason = "a frame has a header, it is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Appends the header of a server's frame (FIN set; RSV1 for a compressed
/// message) for a payload of `len` bytes: at most ten bytes (RFC 6455,
/// section 5.2).
#[inline]
pub fn write_header(out: &mut Vec<u8>, opcode: OpCode, rsv1: bool, len: usize) {
    let first = 0x80 | u8::from(rsv1) << 6 | u8::from(opcode);
    // Arrays of a known length are stored, not copied by a call.
    match len {
        0..=125 => out.extend_from_slice(&[first, len as u8]),
        126..=0xffff => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, 126, high, low]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = (len as u64).to_be_bytes();
            out.extend_from_slice(&[first, 127, a, b, c, d, e, f, g, h]);
        }
    }
}

/// Appends a frame: header and payload.
#[inline]
pub fn write_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    write_header(out, opcode, false, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a close frame (RFC 6455, section 5.5.1); without a code there is
/// no reason either. The reason is cut at a character boundary to the 123
/// bytes that fit.
pub fn write_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let close = OpCode::Control(Control::Close);
    let Some(code) = code else { return write_header(out, close, false, 0) };
    let reason = fitting(reason);
    write_header(out, close, false, 2 + reason.len());
    out.extend_from_slice(&u16::from(code).to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// The length of the header for a payload of `len` bytes.
fn header_bytes(len: usize) -> usize {
    match len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => HEADER_BYTES_MAX,
    }
}

/// As much of a close reason as fits.
fn fitting(reason: &str) -> &str {
    let mut end = reason.len().min(CLOSE_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tungstenite::protocol::frame::FrameHeader;

    fn check(frame: &Frame, opcode: OpCode, rsv1: bool, payload: &[u8]) {
        let mut cursor = Cursor::new(frame.wire());
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        let expected = FrameHeader { is_final: true, rsv1, opcode, ..FrameHeader::default() };
        assert_eq!(header, expected);
        assert_eq!(length, payload.len() as u64);
        assert_eq!(&frame.wire()[cursor.position() as usize..], payload);
        assert_eq!(frame.payload(), payload);
        assert_eq!(frame.len(), frame.bytes().len());
    }

    #[test]
    fn tungstenite_reads_what_is_written() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            check(&Frame::text(&payload), OpCode::Data(Data::Text), false, &payload);
            check(&Frame::binary(&payload), OpCode::Data(Data::Binary), false, &payload);
            check(&Frame::compressed(Data::Text, &payload), OpCode::Data(Data::Text), true, &payload);
            let mut appended = b"before".to_vec();
            write_frame(&mut appended, OpCode::Data(Data::Binary), &payload);
            assert_eq!(&appended[6..], Frame::binary(&payload).wire());
        }
    }

    #[test]
    fn close_frames_hold_a_code_and_as_much_reason_as_fits() {
        let long = "é".repeat(100);
        for (reason, kept) in [("", ""), ("going away", "going away"), (long.as_str(), &long[..122])] {
            let payload = [&[0x03, 0xe9], kept.as_bytes()].concat();
            check(&Frame::close(CloseCode::Away, reason), OpCode::Control(Control::Close), false, &payload);
        }
        let mut empty = Vec::new();
        write_close(&mut empty, None, "never sent");
        assert_eq!(empty, [0x88, 0]);
    }

    #[test]
    fn the_ping_constant_is_an_empty_ping() {
        let mut ping = Vec::new();
        write_frame(&mut ping, OpCode::Control(Control::Ping), b"");
        assert_eq!(ping, PING);
    }
}
