//! The header of a client's frame, read by hand (RFC 6455, section 5.2).
//! Knows what a header alone can break, never what a message can.
//!
//! `tungstenite`'s `FrameHeader::parse` reads the same bytes through a cursor.
//! This takes about a third of its time (`cargo bench --bench ws header`),
//! refuses a wrong byte before the rest is there, and lengths that are not in
//! their shortest form, which `tungstenite` lets pass.

use crate::limits::CONTROL_PAYLOAD_BYTES;
use crate::ws::error::ProtocolError;
use tungstenite::protocol::frame::coding::OpCode;

/// The longest header of a client: two bytes, a 64-bit length and the mask.
pub const HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// A client's frame header. Control frames are final and short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// The bit that permessage-deflate uses; whether it may be set is for the
    /// caller to say.
    pub rsv1: bool,
    /// Never one of the reserved opcodes.
    pub opcode: OpCode,
    /// The key that the payload is masked with.
    pub mask: [u8; 4],
    /// Bytes of payload that follow; below 2^63.
    pub payload_bytes: u64,
}

/// Reads a header from the start of `bytes`: the header and its length, or
/// `None` while it is incomplete.
///
/// A wrong byte is an error as soon as it is there, without waiting for the
/// rest.
///
/// # Errors
/// What [`ProtocolError`] says about reserved bits and opcodes, masks, control
/// frames and lengths.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProtocolError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    check_first(first)?;
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    check_second(first, second)?;
    let (payload_bytes, mask_at) = match second & LENGTH {
        126 => match length_of_16_bits(bytes)? {
            Some(length) => (length, 4),
            None => return Ok(None),
        },
        127 => match length_of_64_bits(bytes)? {
            Some(length) => (length, 10),
            None => return Ok(None),
        },
        length => (u64::from(length), 2),
    };
    let Some(&mask) = bytes.get(mask_at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
    let header = Header {
        fin: first & FIN != 0,
        rsv1: first & RSV1 != 0,
        opcode: OpCode::from(first & OPCODE),
        mask,
        payload_bytes,
    };
    Ok(Some((header, mask_at + 4)))
}

#[inline]
fn check_first(first: u8) -> Result<(), ProtocolError> {
    let opcode = first & OPCODE;
    if first & RSV2_RSV3 != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    if opcode & !CONTROL > 2 {
        return Err(ProtocolError::ReservedOpcode(opcode));
    }
    if opcode & CONTROL != 0 && first & FIN == 0 {
        return Err(ProtocolError::FragmentedControl);
    }
    Ok(())
}

#[inline]
fn check_second(first: u8, second: u8) -> Result<(), ProtocolError> {
    if second & MASKED == 0 {
        return Err(ProtocolError::Unmasked);
    }
    if first & CONTROL != 0 && usize::from(second & LENGTH) > CONTROL_PAYLOAD_BYTES {
        return Err(ProtocolError::ControlTooLong);
    }
    Ok(())
}

fn length_of_16_bits(bytes: &[u8]) -> Result<Option<u64>, ProtocolError> {
    let Some(&length) = bytes[2..].first_chunk::<2>() else { return Ok(None) };
    match u16::from_be_bytes(length) {
        0..=125 => Err(ProtocolError::LengthNotMinimal),
        length => Ok(Some(u64::from(length))),
    }
}

fn length_of_64_bits(bytes: &[u8]) -> Result<Option<u64>, ProtocolError> {
    let Some(&length) = bytes[2..].first_chunk::<8>() else { return Ok(None) };
    match u64::from_be_bytes(length) {
        0..=0xffff => Err(ProtocolError::LengthNotMinimal),
        length if length >> 63 != 0 => Err(ProtocolError::LengthTopBit),
        length => Ok(Some(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::coding::{Control, Data};

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn header(start: &[u8]) -> Vec<u8> {
        [start, &MASK].concat()
    }

    /// The header is read whole, with bytes after it, and from no prefix.
    fn check(start: &[u8], fin: bool, rsv1: bool, opcode: OpCode, payload_bytes: u64) {
        let mut bytes = header(start);
        let expected = (Header { fin, rsv1, opcode, mask: MASK, payload_bytes }, bytes.len());
        assert!(bytes.len() <= HEADER_BYTES_MAX);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{start:x?} cut at {end}");
        }
        assert_eq!(parse(&bytes), Ok(Some(expected)), "{start:x?}");
        bytes.extend_from_slice(&[0xff; 20]);
        assert_eq!(parse(&bytes), Ok(Some(expected)), "{start:x?} with a payload");
    }

    #[test]
    fn headers_of_every_length_are_read() {
        let (text, binary) = (OpCode::Data(Data::Text), OpCode::Data(Data::Binary));
        let next = OpCode::Data(Data::Continue);
        check(&[0x81, 0x80], true, false, text, 0);
        check(&[0x01, 0x80 | 125], false, false, text, 125);
        check(&[0xc2, 0x80 | 126, 0, 126], true, true, binary, 126);
        check(&[0x80, 0x80 | 126, 0xff, 0xff], true, false, next, 65_535);
        check(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], true, false, binary, 65_536);
        check(&[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255], true, false, binary, u64::MAX >> 1);
        check(&[0x88, 0x80], true, false, OpCode::Control(Control::Close), 0);
        check(&[0x89, 0x80 | 125], true, false, OpCode::Control(Control::Ping), 125);
        check(&[0x8a, 0x81], true, false, OpCode::Control(Control::Pong), 1);
    }

    /// The error comes with the last byte given, not earlier and not later.
    fn check_error(bytes: &[u8], expected: ProtocolError) {
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{bytes:x?} cut at {end}");
        }
        assert_eq!(parse(bytes), Err(expected), "{bytes:x?}");
        assert_eq!(parse(&header(bytes)), Err(expected), "{bytes:x?} and more");
    }

    #[test]
    fn a_wrong_byte_fails_at_once() {
        check_error(&[0x91], ProtocolError::ReservedBits);
        check_error(&[0xa1], ProtocolError::ReservedBits);
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            check_error(&[0x80 | opcode], ProtocolError::ReservedOpcode(opcode));
        }
        for opcode in [8, 9, 10] {
            check_error(&[opcode], ProtocolError::FragmentedControl);
            check_error(&[0x80 | opcode, 0xfe], ProtocolError::ControlTooLong);
            check_error(&[0x80 | opcode, 0xff], ProtocolError::ControlTooLong);
        }
        check_error(&[0x81, 0x05], ProtocolError::Unmasked);
        check_error(&[0x81, 0xfe, 0, 125], ProtocolError::LengthNotMinimal);
        check_error(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ProtocolError::LengthNotMinimal);
        check_error(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], ProtocolError::LengthTopBit);
    }
}
