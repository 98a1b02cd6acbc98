//! The PROXY protocol, version 2: who is at the other end of a connection that
//! came through a proxy (specification of haproxy, section 2.2).
//!
//! Owns: reading such a header from the first bytes of a connection, and
//! writing one. Never: whether a peer may be believed, which is configured, and
//! the optional vectors (TLVs) after the addresses, which are passed over.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with; no request does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family and length.
const FIXED_BYTES: usize = 16;

/// The longest header that is read, vectors included.
pub const HEADER_BYTES_MAX: usize = 4096;

/// The longest header that is written.
pub const WRITTEN_BYTES_MAX: usize = FIXED_BYTES + IPV6_BYTES as usize;

const VERSION: u8 = 0x20;
const LOCAL: u8 = 0x00;
const PROXY: u8 = 0x01;

const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Two addresses and two ports.
const IPV4_BYTES: u16 = 12;
/// Two addresses and two ports.
const IPV6_BYTES: u16 = 36;
/// Two paths of 108 bytes.
const UNIX_BYTES: u16 = 216;

/// What a header says.
///
/// Both are `None` for a connection of the proxy itself (LOCAL: a health
/// check), and for transports that have no address of use here (UNSPEC, UNIX,
/// datagrams): then the connection's own addresses count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client.
    pub source: Option<SocketAddr>,
    /// Where it connected to.
    pub destination: Option<SocketAddr>,
}

/// Why the first bytes are no such header. The connection has to end: what it
/// carries cannot be told from a header of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It begins otherwise.
    Signature,
    /// Another version, or a command that is neither LOCAL nor PROXY.
    VersionOrCommand,
    /// A family or transport that does not exist.
    Family,
    /// Too short for its addresses.
    TooShort,
    /// Longer than [`HEADER_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Signature => "no PROXY protocol v2 header",
            Error::VersionOrCommand => "PROXY protocol: unknown version or command",
            Error::Family => "PROXY protocol: unknown address family",
            Error::TooShort => "PROXY protocol: header too short for its addresses",
            Error::TooLong => "PROXY protocol: header too long",
        })
    }
}

impl std::error::Error for Error {}

/// Reads the header at the beginning of `bytes`: what it says and its length,
/// or `None` while it is incomplete.
///
/// A wrong byte is an error as soon as it is there.
///
/// # Errors
/// See [`Error`].
pub fn read_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(Error::Signature);
    }
    if bytes.get(12).is_some_and(|&byte| !matches!(byte ^ VERSION, LOCAL | PROXY)) {
        return Err(Error::VersionOrCommand);
    }
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let (is_local, family) = (fixed[12] == VERSION | LOCAL, fixed[13]);
    let length = u16::from_be_bytes([fixed[14], fixed[15]]);
    let header_bytes = FIXED_BYTES + usize::from(length);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(Error::TooLong);
    }
    if !is_local && length < address_bytes(family)? {
        return Err(Error::TooShort);
    }
    let Some(block) = bytes.get(FIXED_BYTES..header_bytes) else { return Ok(None) };
    // What a LOCAL header says of addresses is to be ignored.
    let header = addresses(if is_local { UNSPEC } else { family }, block);
    Ok(Some((header, header_bytes)))
}

/// How long the addresses are: family in the high half, transport in the low.
fn address_bytes(family: u8) -> Result<u16, Error> {
    match (family >> 4, family & 0x0f) {
        (_, 3..) => Err(Error::Family),
        (0, _) => Ok(0),
        (1, _) => Ok(IPV4_BYTES),
        (2, _) => Ok(IPV6_BYTES),
        (3, _) => Ok(UNIX_BYTES),
        _ => Err(Error::Family),
    }
}

fn addresses(family: u8, block: &[u8]) -> Header {
    let found = match family {
        TCP4 => read_pair(block, |octets: [u8; 4]| IpAddr::from(octets)),
        TCP6 => read_pair(block, |octets: [u8; 16]| IpAddr::from(octets)),
        _ => None,
    };
    Header { source: found.map(|(source, _)| source), destination: found.map(|(_, destination)| destination) }
}

/// Source and destination address, source and destination port.
fn read_pair<const N: usize>(
    block: &[u8],
    address: impl Fn([u8; N]) -> IpAddr,
) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = rest.first_chunk::<4>()?;
    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some((SocketAddr::new(address(*source), from), SocketAddr::new(address(*destination), to)))
}

/// Appends the header of a connection passed on for `source`, which connected
/// to `destination`. IPv4 in IPv6 is written as IPv4 if both are; of an IPv4
/// and an IPv6 address both are written as IPv6.
pub fn write_v2(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            write_fixed(out, PROXY, TCP4, IPV4_BYTES);
            write_octets(out, from, to);
        }
        (from, to) => {
            write_fixed(out, PROXY, TCP6, IPV6_BYTES);
            out.extend_from_slice(&in_v6(from).octets());
            out.extend_from_slice(&in_v6(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Appends the header of a connection that is the balancer's own, such as a
/// health check.
pub fn write_local_v2(out: &mut Vec<u8>) {
    write_fixed(out, LOCAL, UNSPEC, 0);
}

fn write_fixed(out: &mut Vec<u8>, command: u8, family: u8, length: u16) {
    out.extend_from_slice(&SIGNATURE);
    out.extend_from_slice(&[VERSION | command, family]);
    out.extend_from_slice(&length.to_be_bytes());
}

fn write_octets(out: &mut Vec<u8>, from: Ipv4Addr, to: Ipv4Addr) {
    out.extend_from_slice(&from.octets());
    out.extend_from_slice(&to.octets());
}

fn in_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: &[u8] = &[192, 0, 2, 1, 10, 0, 0, 9, 0x30, 0x39, 0x1f, 0x90];

    /// Signature, the two bytes, the length of what follows, what follows.
    fn header(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A"[..], &[command, family], &length, block]
            .concat()
    }

    /// Read whole, with bytes after it, and from no prefix.
    fn check(bytes: &[u8], expected: Option<(&str, &str)>) {
        for end in 0..bytes.len() {
            assert_eq!(read_v2(&bytes[..end]), Ok(None), "cut at {end}");
        }
        let address = |text: &str| text.parse().expect("an address");
        let expected = Header {
            source: expected.map(|(source, _)| address(source)),
            destination: expected.map(|(_, destination)| address(destination)),
        };
        assert_eq!(read_v2(bytes), Ok(Some((expected, bytes.len()))));
        let more = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(read_v2(&more), Ok(Some((expected, bytes.len()))));
    }

    #[test]
    fn addresses_are_read() {
        check(&header(0x21, 0x11, V4), Some(("192.0.2.1:12345", "10.0.0.9:8080")));
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[31], v6[33], v6[35]) = (0x20, 0x01, 7, 1, 80, 90);
        check(&header(0x21, 0x21, &v6), Some(("[2001::7]:80", "[::1]:90")));
        let with_vectors = [V4, &[0x03, 0, 4, 1, 2, 3, 4, 0xee, 0xff, 0xff]].concat();
        check(&header(0x21, 0x11, &with_vectors), Some(("192.0.2.1:12345", "10.0.0.9:8080")));
    }

    #[test]
    fn what_has_no_address_of_use_is_passed_over() {
        check(&header(0x20, 0, b""), None);
        check(&header(0x20, 0x11, V4), None);
        check(&header(0x20, 0xff, b"any"), None);
        check(&header(0x21, 0, b""), None);
        check(&header(0x21, 0, b"any"), None);
        check(&header(0x21, 0x12, V4), None);
        check(&header(0x21, 0x22, &[1; 36]), None);
        check(&header(0x21, 0x31, &[b'/'; 216]), None);
        check(&header(0x21, 0x32, &[b'/'; 220]), None);
        check(&header(0x21, 0x00, &[0; HEADER_BYTES_MAX - 16]), None);
    }

    #[track_caller]
    fn check_error(bytes: &[u8], expected: Error) {
        assert_eq!(read_v2(bytes), Err(expected), "{bytes:x?}");
    }

    #[test]
    fn a_wrong_byte_is_refused_at_once() {
        check_error(b"G", Error::Signature);
        check_error(b"PROXY TCP4 192.0.2.1", Error::Signature);
        check_error(b"\r\n\r\nG", Error::Signature);
        for command in [0x11, 0x22, 0x2f, 0x00, 0x31] {
            check_error(&header(command, 0x11, V4)[..13], Error::VersionOrCommand);
        }
        for family in [0x13, 0x41, 0x03, 0xf0, 0x2f] {
            check_error(&header(0x21, family, &[0; 216])[..16], Error::Family);
        }
        check_error(&header(0x21, 0x11, &V4[1..])[..16], Error::TooShort);
        check_error(&header(0x21, 0x21, V4)[..16], Error::TooShort);
        check_error(&header(0x21, 0x31, &[0; 215])[..16], Error::TooShort);
        check_error(&header(0x21, 0x11, &[0; HEADER_BYTES_MAX])[..16], Error::TooLong);
    }

    fn check_written(source: &str, destination: &str, expected: &[u8]) {
        let mut out = Vec::new();
        write_v2(&mut out, source.parse().unwrap(), destination.parse().unwrap());
        assert_eq!(out, expected, "{source} {destination}");
        assert!(out.len() <= WRITTEN_BYTES_MAX);
    }

    #[test]
    fn headers_are_written() {
        check_written("192.0.2.1:12345", "10.0.0.9:8080", &header(0x21, 0x11, V4));
        check_written("[::ffff:192.0.2.1]:12345", "10.0.0.9:8080", &header(0x21, 0x11, V4));
        let mut block = [0; 36];
        (block[15], block[26], block[27], block[28], block[31]) = (1, 0xff, 0xff, 10, 9);
        (block[33], block[34], block[35]) = (5, 1, 0);
        check_written("[::1]:5", "10.0.0.9:256", &header(0x21, 0x21, &block));
        let mut out = Vec::new();
        write_local_v2(&mut out);
        assert_eq!(out, header(0x20, 0, b""));
        assert_eq!(read_v2(&out), Ok(Some((Header { source: None, destination: None }, 16))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(source: SocketAddr, destination: SocketAddr, rest: Vec<u8>, cut: prop::sample::Index) {
            let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let mut out = Vec::new();
            write_v2(&mut out, source, destination);
            let length = out.len();
            prop_assert_eq!(read_v2(&out[..cut.index(length)]), Ok(None));
            out.extend(rest);
            let (header, read) = read_v2(&out).unwrap().unwrap();
            prop_assert_eq!((header.source.map(plain), header.destination.map(plain), read),
                (Some(plain(source)), Some(plain(destination)), length));
        }

        #[test]
        fn nonsense_is_survived(command: u8, family: u8, block in prop::collection::vec(any::<u8>(), 0..300), length: u16) {
            let mut bytes = header(command, family, &block);
            bytes[14..16].copy_from_slice(&length.to_be_bytes());
            if let Ok(Some((_, read))) = read_v2(&bytes) {
                prop_assert_eq!(read, 16 + usize::from(length));
                prop_assert!(read <= bytes.len());
            }
        }
    }
}
