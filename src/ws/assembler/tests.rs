use super::*;
use crate::ws::deflate::Deflater;
use crate::ws::frame::write_header;
use std::iter;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const RULES: Rules = Rules { message_bytes_max: 1 << 20, deflate: false };
const DEFLATE: Rules = Rules { message_bytes_max: 1 << 20, deflate: true };

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// A last frame of a fragmented message.
const LAST: u8 = 0x80;
const RSV1: u8 = 0x40;
/// Added to the first byte: this frame is not the last.
const MORE: u8 = 0x80;

/// A client's frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_header(&mut bytes, OpCode::Data(Data::Binary), false, payload.len());
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&MASK);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    unmask(&mut bytes[start..], MASK, 0);
    bytes
}

fn first(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first & !MORE, payload)
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

impl From<Event<'_>> for Said {
    fn from(event: Event<'_>) -> Said {
        match event {
            Event::Text(text) => Said::Text(text.to_owned()),
            Event::Binary(payload) => Said::Binary(payload.to_vec()),
            Event::Ping(payload) => Said::Ping(payload.to_vec()),
            Event::Pong(payload) => Said::Pong(payload.to_vec()),
            Event::Close(None) => Said::Close(None),
            Event::Close(Some((code, reason))) => Said::Close(Some((code.into(), reason.to_owned()))),
        }
    }
}

/// A connection's engine, fed piece by piece.
struct Peer {
    rules: Rules,
    unfinished: Option<Box<Unfinished>>,
    inflater: Inflater,
    said: Vec<Said>,
    compressed: usize,
}

impl Peer {
    fn new(rules: Rules) -> Peer {
        Peer { rules, unfinished: None, inflater: Inflater::new(), said: Vec::new(), compressed: 0 }
    }

    fn feed(&mut self, piece: &[u8]) -> Result<(), ProtocolError> {
        let mut piece = piece.to_vec();
        let mut rest = piece.as_mut_slice();
        loop {
            let step = step(&mut self.unfinished, rest, self.rules, &mut self.inflater)?;
            let (consumed, event) = (step.consumed, step.event.map(Said::from));
            self.compressed += usize::from(step.compressed);
            rest = &mut rest[consumed..];
            let Some(event) = event else {
                assert!(rest.is_empty(), "no event and yet input is left");
                return Ok(());
            };
            self.said.push(event);
        }
    }

    fn feed_all<'a>(
        mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Said>, Result<bool, ProtocolError>) {
        for piece in pieces {
            if let Err(error) = self.feed(piece) {
                return (self.said, Err(error));
            }
        }
        (self.said, Ok(self.unfinished.is_none()))
    }
}

/// Whatever the splits, the stream says `said`, then ends as `end`: with an
/// error, or with nothing (`Ok(true)`) or something unfinished.
fn check_with(rules: Rules, frames: &[Vec<u8>], said: &[Said], end: Result<bool, ProtocolError>) {
    let bytes = frames.concat();
    let expected = (said.to_vec(), end);
    let check = |pieces: &mut dyn Iterator<Item = &[u8]>, how: &str| {
        assert_eq!(Peer::new(rules).feed_all(pieces), expected, "{how}: {frames:x?}");
    };
    check(&mut iter::once(bytes.as_slice()), "whole");
    check(&mut bytes.chunks(1), "by the byte");
    for size in [2, 3, 5, 7, 13, 64, 1000] {
        check(&mut bytes.chunks(size), "in pieces");
    }
    for at in 0..=bytes.len().min(2_000) {
        let (head, tail) = bytes.split_at(at);
        check(&mut [head, tail].into_iter(), "split in two");
        if bytes.len() <= 64 {
            for next in 0..=tail.len() {
                let (middle, tail) = tail.split_at(next);
                check(&mut [head, middle, tail].into_iter(), "split in three");
            }
        }
    }
}

fn check(frames: &[Vec<u8>], said: &[Said]) {
    check_with(RULES, frames, said, Ok(true));
}

fn check_error(frames: &[Vec<u8>], said: &[Said], error: ProtocolError) {
    check_with(RULES, frames, said, Err(error));
}

#[test]
fn whole_messages() {
    check(&[], &[]);
    check(&[frame(TEXT, b"Hello")], &[text("Hello")]);
    check(&[frame(TEXT, b""), frame(BINARY, b"")], &[text(""), Said::Binary(vec![])]);
    check(
        &[frame(BINARY, b"\xff\x00"), frame(TEXT, "grüße 🦀".as_bytes()), frame(BINARY, &[7; 300])],
        &[Said::Binary(vec![0xff, 0]), text("grüße 🦀"), Said::Binary(vec![7; 300])],
    );
    let long = "κόσμε".repeat(7_000);
    check(&[frame(TEXT, long.as_bytes()), frame(TEXT, b"next")], &[text(&long), text("next")]);
}

#[test]
fn fragments_and_what_comes_between_them() {
    check(&[first(TEXT, b"Hel"), frame(LAST, b"lo")], &[text("Hello")]);
    check(&[first(TEXT, b""), first(LAST, b""), frame(LAST, b"")], &[text("")]);
    check(
        &[first(BINARY, b"1"), first(LAST, b"2"), first(LAST, b"3"), frame(LAST, b"4"), frame(TEXT, b"!")],
        &[Said::Binary(b"1234".to_vec()), text("!")],
    );
    check(
        &[first(TEXT, b"a"), frame(PING, b"p"), first(LAST, b"b"), frame(PONG, b""), frame(LAST, b"c")],
        &[Said::Ping(b"p".to_vec()), Said::Pong(vec![]), text("abc")],
    );
    // A character may be cut by a fragment's end.
    check(
        &[first(TEXT, b"\xf0\x9f"), frame(PING, &[9; 125]), frame(LAST, b"\xa6\x80")],
        &[Said::Ping(vec![9; 125]), text("🦀")],
    );
    // Control frames that the network splits, too.
    let pings = [first(TEXT, b"a"), frame(PING, &[1; 100]), frame(PONG, b"pong"), frame(PING, &[2; 100])];
    let said = [Said::Ping(vec![1; 100]), Said::Pong(b"pong".to_vec()), Said::Ping(vec![2; 100])];
    check_with(RULES, &pings, &said, Ok(false));
    check_with(RULES, &[first(TEXT, b"Hel"), first(LAST, b"lo")], &[], Ok(false));
}

#[test]
fn control_frames() {
    check(&[frame(PING, b""), frame(PONG, b"x")], &[Said::Ping(vec![]), Said::Pong(b"x".to_vec())]);
    check(&[frame(CLOSE, b"")], &[Said::Close(None)]);
    let close = |code: u16, reason: &[u8]| frame(CLOSE, &[&code.to_be_bytes(), reason].concat());
    check(&[close(1000, b"bye")], &[Said::Close(Some((1000, "bye".to_owned())))]);
    let reason = "r".repeat(123);
    check(&[close(4999, reason.as_bytes())], &[Said::Close(Some((4999, reason)))]);
    for code in [1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000] {
        check(&[close(code, b"")], &[Said::Close(Some((code, String::new())))]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        check_error(&[close(code, b"")], &[], ProtocolError::CloseCode(code));
    }
    check_error(&[frame(CLOSE, b"\x03")], &[], ProtocolError::CloseTooShort);
    check_error(&[close(1000, b"\xce")], &[], ProtocolError::InvalidUtf8);
    check_error(&[frame(PING, &[0; 126])], &[], ProtocolError::ControlTooLong);
    check_error(&[first(PING, b"")], &[], ProtocolError::FragmentedControl);
}

#[test]
fn frames_out_of_order_and_reserved_bits() {
    let ok = frame(TEXT, b"ok");
    let said = [text("ok")];
    check_error(&[ok.clone(), frame(LAST, b"x")], &said, ProtocolError::UnexpectedContinuation);
    check_error(&[ok.clone(), first(LAST, b"x")], &said, ProtocolError::UnexpectedContinuation);
    for second in [TEXT, BINARY, TEXT & !MORE] {
        check_error(
            &[ok.clone(), first(TEXT, b"x"), frame(second, b"y")],
            &said,
            ProtocolError::InterruptedMessage,
        );
    }
    for bad in [TEXT | RSV1, BINARY | 0x20, PING | 0x10, PING | RSV1] {
        check_error(&[ok.clone(), frame(bad, b"x")], &said, ProtocolError::ReservedBits);
    }
    let ping = frame(PING | RSV1, b"x");
    check_with(DEFLATE, &[ok.clone(), ping], &said, Err(ProtocolError::ReservedBits));
    let continued = [first(TEXT, b"x"), frame(LAST | RSV1, b"y")];
    check_with(DEFLATE, &continued, &[], Err(ProtocolError::ReservedBits));
    check_error(&[ok, b"\x81\x01x".to_vec()], &said, ProtocolError::Unmasked);
}

#[test]
fn text_that_is_not_utf8_fails_with_its_first_bad_byte() {
    let bytes = frame(TEXT, b"good\xce\xba\xed\xa0more and more");
    let bad = bytes.len() - b"more and more".len();
    for start in 0..bad {
        let mut peer = Peer::new(RULES);
        peer.feed(&bytes[..start]).unwrap();
        peer.feed(&bytes[start..bad - 1]).unwrap();
        assert_eq!(peer.feed(&bytes[bad - 1..bad]), Err(ProtocolError::InvalidUtf8), "{start}");
    }
    check_error(&[first(TEXT, b"\xce"), first(LAST, b"\xce")], &[], ProtocolError::InvalidUtf8);
    check_error(&[first(TEXT, b"ab"), frame(LAST, b"\xe2\x82")], &[], ProtocolError::InvalidUtf8);
    check_error(&[frame(TEXT, b"\xf0\x9f\xa6")], &[], ProtocolError::InvalidUtf8);
    check(
        &[frame(BINARY, b"\xff"), frame(PING, b"\xff")],
        &[Said::Binary(vec![0xff]), Said::Ping(vec![0xff])],
    );
}

#[test]
fn sizes_are_bounded_by_what_headers_declare() {
    let rules = Rules { message_bytes_max: 200, deflate: false };
    let max = vec![1; 200];
    check_with(rules, &[frame(BINARY, &max)], &[Said::Binary(max.clone())], Ok(true));
    check_with(rules, &[frame(BINARY, &[1; 201])], &[], Err(ProtocolError::TooBig));
    let (half, said) = (first(BINARY, &max[..100]), [Said::Binary(max.clone())]);
    check_with(rules, &[half.clone(), frame(LAST, &max[100..]), half.clone()], &said, Ok(false));
    check_with(rules, &[half.clone(), frame(LAST, &max[99..])], &[], Err(ProtocolError::TooBig));
    // The header is enough.
    let mut huge = vec![BINARY, 0xff];
    huge.extend_from_slice(&(u64::MAX >> 1).to_be_bytes());
    huge.extend_from_slice(&MASK);
    check_with(rules, &[half, huge.clone()], &[], Err(ProtocolError::InterruptedMessage));
    check_with(Rules { message_bytes_max: usize::MAX, deflate: false }, &[huge.clone()], &[], Ok(false));
    check_with(rules, &[huge], &[], Err(ProtocolError::TooBig));
}

#[test]
fn a_promise_costs_nothing() {
    let mut peer = Peer::new(Rules { message_bytes_max: usize::MAX, deflate: false });
    let mut bytes = frame(BINARY, &[0; 70_000]);
    bytes[2..10].copy_from_slice(&(1_u64 << 40).to_be_bytes());
    peer.feed(&bytes[..100]).unwrap();
    let unfinished = peer.unfinished.as_ref().unwrap();
    assert!(unfinished.heap_bytes() < 4 * 86 + 512, "{}", unfinished.heap_bytes());
    assert_eq!(unfinished.buffered_bytes(), 86);
    peer.feed(&bytes[100..]).unwrap();
    assert!(peer.unfinished.unwrap().heap_bytes() < 4 * 70_000 + 512);
}

#[test]
fn the_last_call_frees_what_was_unfinished() {
    let bytes = frame(TEXT, b"Hello");
    let mut inflater = Inflater::new();
    let mut unfinished = None;
    let (mut head, mut tail) = (bytes[..7].to_vec(), bytes[7..].to_vec());
    assert_eq!(step(&mut unfinished, &mut head, RULES, &mut inflater).unwrap().event, None);
    assert!(unfinished.is_some());
    let said = step(&mut unfinished, &mut tail, RULES, &mut inflater).unwrap();
    assert_eq!((said.consumed, said.event), (4, Some(Event::Text("Hello"))));
    assert_eq!(step(&mut unfinished, &mut [], RULES, &mut inflater).unwrap().event, None);
    assert!(unfinished.is_none());
}

#[test]
fn buffers_grow_in_linear_steps() {
    // 4 MiB in 64-byte fragments; the capacity may change once per doubling.
    let (mut peer, fragment) = (Peer::new(Rules { message_bytes_max: 4 << 20, deflate: false }), [b'*'; 64]);
    peer.feed(&first(TEXT, &fragment)).unwrap();
    let (mut growths, mut heap) = (0, 0);
    for _ in 1..65_535 {
        peer.feed(&first(LAST, &fragment)).unwrap();
        let now = peer.unfinished.as_ref().unwrap().heap_bytes();
        growths += usize::from(now != heap);
        heap = now;
    }
    assert!(growths <= 20, "{growths}");
    peer.feed(&frame(LAST, &fragment)).unwrap();
    assert_eq!(peer.said, [text(&"*".repeat(4 << 20))]);
}

#[test]
fn compressed_messages() {
    let mut deflater = Deflater::new();
    let plain = "{\"type\":\"broadcast\",\"content\":\"κόσμε\"}".repeat(9);
    let deflated = deflater.deflate(15, plain.as_bytes()).to_vec();
    let empty = deflater.deflate(15, b"").to_vec();
    assert_eq!(empty, [0]);
    let (head, tail) = deflated.split_at(deflated.len() / 2);
    let said = [text(&plain)];
    check_with(DEFLATE, &[frame(TEXT | RSV1, &deflated)], &said, Ok(true));
    check_with(DEFLATE, &[frame(BINARY | RSV1, &empty)], &[Said::Binary(vec![])], Ok(true));
    check_with(
        DEFLATE,
        &[first(TEXT | RSV1, head), frame(PING, b"p"), frame(LAST, tail), frame(TEXT, b"plain")],
        &[Said::Ping(b"p".to_vec()), text(&plain), text("plain")],
        Ok(true),
    );
    let bad = deflater.deflate(15, b"\xff\xfe").to_vec();
    check_with(DEFLATE, &[frame(TEXT | RSV1, &bad)], &[], Err(ProtocolError::InvalidUtf8));
    check_with(DEFLATE, &[frame(TEXT | RSV1, b"\xff\xff\xff")], &[], Err(ProtocolError::Inflate));
    let small = Rules { message_bytes_max: plain.len() - 1, deflate: true };
    check_with(small, &[frame(TEXT | RSV1, &deflated)], &[], Err(ProtocolError::TooBig));
    let mut peer = Peer::new(DEFLATE);
    peer.feed(&[frame(TEXT | RSV1, &deflated), frame(TEXT, b"x")].concat()).unwrap();
    assert_eq!(peer.compressed, 1);
}

#[test]
fn what_does_not_compress_still_fits_the_bound() {
    let noise = noise(5_000);
    let deflated = Deflater::new().deflate(9, &noise).to_vec();
    let rules = Rules { message_bytes_max: noise.len(), deflate: true };
    assert!(deflated.len() > noise.len());
    check_with(rules, &[frame(BINARY | RSV1, &deflated)], &[Said::Binary(noise)], Ok(true));
}
