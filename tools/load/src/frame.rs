//! Frames as a client writes them and as it reads them (RFC 6455, section 5). Never does I/O.

/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 1;
/// Opcode of a binary frame.
pub(crate) const BINARY: u8 = 2;
/// Opcode of a close frame.
pub(crate) const CLOSE: u8 = 8;
/// Opcode of a ping.
pub(crate) const PING: u8 = 9;
/// Opcode of a pong.
pub(crate) const PONG: u8 = 10;

/// The masking key of every frame: one that a server cannot skip, cheap to apply to prepared payloads.
pub(crate) const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];

/// Appends a whole masked frame.
pub(crate) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// A frame of the server at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// More bytes are needed: this many in all, as far as is known.
    Partial(usize),
    /// A whole frame that took `len` bytes.
    Frame { fin: bool, opcode: u8, payload: &'a [u8], len: usize },
}

/// Reads one frame. A server's frame is not masked and, as nothing was negotiated, has no reserved bits.
pub(crate) fn parse(input: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let [first, second, rest @ ..] = input else { return Ok(Parsed::Partial(2)) };
    if first & 0x70 != 0 {
        return Err("a frame has reserved bits set");
    }
    if second & 0x80 != 0 {
        return Err("a frame of the server is masked");
    }
    let (header, length) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (4, u64::from(u16::from_be_bytes(*bytes))),
            None => return Ok(Parsed::Partial(4)),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (10, u64::from_be_bytes(*bytes)),
            None => return Ok(Parsed::Partial(10)),
        },
        length => (2, u64::from(length)),
    };
    if length > u64::from(u32::MAX) {
        return Err("a frame claims more than 4 GiB");
    }
    let len = header + length as usize;
    match input.get(header..len) {
        Some(payload) => Ok(Parsed::Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload, len }),
        None => Ok(Parsed::Partial(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server would send for the same frame: the mask bit, the key and the masking taken away.
    fn as_server(frame: &[u8], header: usize) -> Vec<u8> {
        let mut out = frame[..header].to_vec();
        out[1] &= 0x7f;
        out.extend(frame[header + 4..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    #[test]
    fn every_length_form_is_read_back_and_every_prefix_is_partial() {
        for (len, header) in [(0, 2), (1, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let payload: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            let mut frame = Vec::new();
            write(&mut frame, BINARY, &payload);
            assert_eq!(frame.len(), header + 4 + len);
            let wire = as_server(&frame, header);
            let whole = Parsed::Frame { fin: true, opcode: BINARY, payload: &payload, len: wire.len() };
            assert_eq!(parse(&wire), Ok(whole));
            for cut in (0..wire.len()).step_by(1 + wire.len() / 100) {
                assert!(matches!(parse(&wire[..cut]), Ok(Parsed::Partial(need)) if need > cut));
            }
        }
    }

    #[test]
    fn what_no_server_may_send_is_an_error() {
        assert!(parse(&[0xc1, 0]).is_err());
        assert!(parse(&[0x81, 0x80]).is_err());
        assert!(parse(&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
