//! A client's frames. The first byte picks the rules, the rest is the stream.

use super::{Entry, chances, hash};
use throng::ws::assembler::{Event, Rules, Unfinished, step};
use throng::ws::close::CloseReason;
use throng::ws::deflate::{Deflater, Inflater};
use throng::ws::error::ProtocolError;

pub(super) const ENTRY: Entry = Entry {
    name: "frames",
    samples,
    // Headers, of whole and fragmented messages, with masks that change nothing.
    words: &[
        "\u{1}\0\0\0\0",
        "\0\0\0\0\0",
        "hello",
        "κόσμε 🦀",
        "\u{3}\u{e8}",
        "\0\0\u{ff}\u{ff}",
        "~\u{1}\0",
        "\u{7f}\0\0\0\0\0\u{1}\0\0",
    ],
    check,
    memory: (192 * 1024, 8),
};

/// A frame whose mask is zero, so that a changed byte is a changed byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        0..126 => bytes.push(0x80 | payload.len() as u8),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn samples() -> Vec<Vec<u8>> {
    let mut deflater = Deflater::new();
    let text = "the same again, the same again, κόσμε ".repeat(8);
    let deflated = deflater.deflate(15, text.as_bytes()).to_vec();
    let bomb = deflater.deflate(15, &[b'0'; 50_000]).to_vec();
    let (left, right) = deflated.split_at(deflated.len() / 2);
    let mut masked = vec![0x81, 0x85, 1, 2, 3, 4];
    masked.extend(b"Hello".iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key));
    let stream = |rules: u8, frames: &[Vec<u8>]| [&[rules], frames.concat().as_slice()].concat();
    vec![
        stream(0, &[frame(0x81, b"Hello"), frame(0x82, b"\xff\0"), frame(0x89, b"ping"), frame(0x8a, b"")]),
        stream(0, &[frame(0x01, "grü".as_bytes()), frame(0x89, b"p"), frame(0x00, b""), frame(0x80, b"n")]),
        stream(2, &[frame(0x81, "κόσμε".repeat(30).as_bytes()), frame(0x88, b"\x03\xe8bye")]),
        stream(4, &[frame(0x82, &[7; 70_000]), frame(0x88, b"")]),
        stream(5, &[frame(0xc1, &deflated), frame(0x41, left), frame(0x80, right), frame(0x81, b"plain")]),
        stream(5, &[frame(0xc2, &bomb), masked]),
    ]
}

/// What came of a stream, in little memory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Kind, length and hash of each event.
    events: Vec<(u8, usize, u64)>,
    wrong: Option<ProtocolError>,
}

fn check(input: &[u8]) -> bool {
    let Some((&choice, stream)) = input.split_first() else { return false };
    let sizes = [100, 1000, 128 * 1024, 10];
    let rules =
        Rules { message_bytes_max: sizes[usize::from(choice >> 1) % sizes.len()], deflate: choice & 1 == 1 };
    let whole = hear(stream, rules, || stream.len());
    let mut chances = chances(input);
    let longest = if stream.len() < 4096 { 16 } else { 4096 };
    for _ in 0..2 {
        let cut = hear(stream, rules, || chances.usize(1..=longest));
        assert_eq!(cut, whole, "the cuts make a difference");
    }
    if stream.len() < 1024 {
        assert_eq!(hear(stream, rules, || 1), whole, "byte by byte");
    }
    whole.wrong.is_none()
}

/// Feeds a stream in pieces of the sizes that `size` names.
fn hear(stream: &[u8], rules: Rules, mut size: impl FnMut() -> usize) -> Heard {
    let mut stream = stream.to_vec();
    let (mut unfinished, mut inflater) = (None, Inflater::new());
    let (mut heard, mut fed) = (Heard::default(), 0);
    let mut rest = stream.as_mut_slice();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at_mut(size().clamp(1, rest.len()));
        (rest, fed) = (later, fed + piece.len());
        if !take(&mut heard, piece, &mut unfinished, rules, &mut inflater) {
            break;
        }
        check_memory(unfinished.as_deref(), fed, rules);
    }
    heard
}

/// Takes in one piece; whether the connection goes on.
fn take(
    heard: &mut Heard,
    mut piece: &mut [u8],
    unfinished: &mut Option<Box<Unfinished>>,
    rules: Rules,
    inflater: &mut Inflater,
) -> bool {
    loop {
        let available = piece.len();
        let step = match step(unfinished, piece, rules, inflater) {
            Ok(step) => step,
            Err(error) => {
                let reasons =
                    [CloseReason::ProtocolError, CloseReason::InvalidUtf8, CloseReason::MessageTooBig];
                assert!(reasons.contains(&error.reason()), "{error:?}");
                heard.wrong = Some(error);
                return false;
            }
        };
        assert!(step.consumed <= available);
        let Some(event) = step.event else {
            assert_eq!(step.consumed, available, "no event, and yet something is left");
            return true;
        };
        let consumed = step.consumed;
        let (kind, bytes): (u8, &[u8]) = match &event {
            Event::Text(text) => (1, text.as_bytes()),
            Event::Binary(bytes) => (2, bytes),
            Event::Ping(bytes) => (3, bytes),
            Event::Pong(bytes) => (4, bytes),
            Event::Close(None) => (5, b""),
            Event::Close(Some((code, reason))) => (u8::from(code.is_allowed()) + 6, reason.as_bytes()),
        };
        let longest = if kind < 3 { rules.message_bytes_max } else { 125 };
        assert!(bytes.len() <= longest, "{} bytes", bytes.len());
        heard.events.push((kind, bytes.len(), hash(bytes)));
        if kind >= 5 {
            return false;
        }
        piece = &mut piece[consumed..];
    }
}

/// What a connection keeps follows from what it was sent, and is bounded by the rules.
fn check_memory(unfinished: Option<&Unfinished>, fed: usize, rules: Rules) {
    let Some(unfinished) = unfinished else { return };
    let heap = unfinished.heap_bytes() - size_of::<Unfinished>();
    assert!(unfinished.buffered_bytes() <= fed);
    assert!(heap <= 4 * fed, "{heap} bytes for {fed}");
    // A compressed message may be a little longer than what it inflates to.
    let longest = rules.message_bytes_max + rules.message_bytes_max / 8 + 64;
    assert!(heap <= 2 * longest, "{heap} bytes, of messages of {longest}");
}
