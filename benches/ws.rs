//! The WebSocket engine, and the same work done by tungstenite.
//!
//! `cargo bench --bench ws`

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::io::{self, Cursor, Read, Write};
use throng::ws::assembler::{Event, Rules, Unfinished, step};
use throng::ws::deflate::{Deflater, Inflater};
use throng::ws::frame::{Data, OpCode, write_frame, write_header};
use throng::ws::header;
use throng::ws::mask::unmask;
use throng::ws::utf8::ValidPrefix;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const RULES: Rules = Rules { message_bytes_max: 1 << 24, deflate: true };

/// What both engines are given at a time: a full read buffer.
const READ_BYTES: usize = 64 * 1024;

/// A client's frame.
fn client_frame(is_final: bool, opcode: Data, payload: &[u8]) -> Vec<u8> {
    let opcode = OpCode::Data(opcode);
    let header = FrameHeader { is_final, opcode, mask: Some(MASK), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).unwrap();
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    unmask(&mut bytes[start..], MASK, 0);
    bytes
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("header");
    for (name, len) in [("64 B", 64), ("1 KiB", 1024), ("1 MiB", 1 << 20)] {
        let mut bytes = client_frame(true, Data::Text, &vec![b'x'; len]);
        bytes.truncate(header::HEADER_BYTES_MAX);
        group.bench_function(format!("parse/throng/{name}"), |b| {
            b.iter(|| header::parse(black_box(&bytes)).unwrap());
        });
        group.bench_function(format!("parse/tungstenite/{name}"), |b| {
            b.iter(|| FrameHeader::parse(&mut Cursor::new(black_box(&bytes))).unwrap());
        });
        let mut out = Vec::with_capacity(64);
        group.bench_function(format!("encode/throng/{name}"), |b| {
            b.iter(|| {
                out.clear();
                write_header(&mut out, OpCode::Data(Data::Text), false, black_box(len));
                black_box(out.as_ptr());
            });
        });
        group.bench_function(format!("encode/tungstenite/{name}"), |b| {
            let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
            b.iter(|| {
                out.clear();
                header.format(black_box(len as u64), &mut out).unwrap();
                black_box(out.as_ptr());
            });
        });
    }
    group.finish();
}

fn masks(c: &mut Criterion) {
    let mut group = c.benchmark_group("unmask");
    for len in [16, 64, 1024, 64 * 1024] {
        let mut payload = vec![b'x'; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} B"), |b| b.iter(|| unmask(black_box(&mut payload), MASK, 1)));
    }
    group.finish();
}

fn utf8(c: &mut Criterion) {
    let mut group = c.benchmark_group("utf8");
    for (name, text) in [("ascii", "plain text, "), ("mixed", "Größe 25 µm, "), ("greek", "κόσμε")] {
        for len in [64, READ_BYTES] {
            let text = text.repeat(len / text.len() + 1);
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(format!("{name}/{} B", text.len()), |b| {
                b.iter(|| ValidPrefix::default().check(black_box(text.as_bytes())).unwrap());
            });
        }
    }
    group.finish();
}

/// Feeds `input` and counts the bytes of its messages.
fn assemble(
    unfinished: &mut Option<Box<Unfinished>>,
    inflater: &mut Inflater,
    mut input: &mut [u8],
) -> usize {
    let mut bytes = 0;
    loop {
        let step = step(unfinished, input, RULES, inflater).unwrap();
        match step.event {
            Some(Event::Text(text)) => bytes += text.len(),
            Some(Event::Binary(payload)) => bytes += payload.len(),
            Some(_) => {}
            None => return bytes,
        }
        let consumed = step.consumed;
        input = &mut input[consumed..];
    }
}

/// A socket from which one read can be had.
struct Inbox<'a>(&'a [u8]);

impl Read for Inbox<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Inbox<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn assemble_with_tungstenite(context: &mut WebSocketContext, input: &[u8]) -> usize {
    let (mut inbox, mut bytes) = (Inbox(input), 0);
    loop {
        match context.read(&mut inbox) {
            Ok(Message::Text(text)) => bytes += text.len(),
            Ok(Message::Binary(payload)) => bytes += payload.len(),
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A stream of frames, through both engines.
fn stream(c: &mut Criterion, name: &str, bytes: &[u8], expected: usize) {
    let mut group = c.benchmark_group(format!("assembler/{name}"));
    group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(50);
    // Both get a fresh copy: one unmasks in place, as it does in the reactor's
    // read buffer, the other copies into a buffer of its own.
    let batch = if bytes.len() > 1 << 20 { BatchSize::PerIteration } else { BatchSize::SmallInput };
    let (mut unfinished, mut inflater) = (None, Inflater::new());
    group.bench_function("throng", |b| {
        b.iter_batched_ref(
            || bytes.to_vec(),
            |input| {
                let reads = input.chunks_mut(READ_BYTES);
                let heard: usize = reads.map(|read| assemble(&mut unfinished, &mut inflater, read)).sum();
                assert_eq!(heard, expected);
            },
            batch,
        );
    });
    // It clears the whole buffer before each read.
    let read_bytes = bytes.len().clamp(4096, READ_BYTES);
    let config = WebSocketConfig::default().read_buffer_size(read_bytes);
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    group.bench_function("tungstenite", |b| {
        b.iter_batched_ref(
            || bytes.to_vec(),
            |input| {
                let reads = input.chunks(READ_BYTES);
                let heard: usize = reads.map(|read| assemble_with_tungstenite(&mut context, read)).sum();
                assert_eq!(heard, expected);
            },
            batch,
        );
    });
    group.finish();
}

fn assembler(c: &mut Criterion) {
    let one = client_frame(true, Data::Text, &[b'x'; 64]);
    stream(c, "1 x 64 B", &one, 64);
    stream(c, "16 x 64 B", &one.repeat(16), 16 * 64);
    stream(c, "16 x 1 KiB", &client_frame(true, Data::Binary, &[b'x'; 1024]).repeat(16), 16 * 1024);
    stream(c, "256 KiB", &client_frame(true, Data::Text, &vec![b'x'; 256 << 10]), 256 << 10);
    stream(c, "16 MiB", &client_frame(true, Data::Binary, &vec![b'x'; 16 << 20]), 16 << 20);
    let mut fragments = client_frame(false, Data::Text, &[b'x'; 64]);
    fragments.extend(client_frame(false, Data::Continue, &[b'x'; 64]).repeat(65_534));
    fragments.extend(client_frame(true, Data::Continue, &[b'x'; 64]));
    stream(c, "4 MiB in 64 B fragments", &fragments, 4 << 20);
}

fn frames(c: &mut Criterion) {
    let mut out = Vec::with_capacity(2048);
    for len in [64, 1024] {
        let payload = vec![b'x'; len];
        c.bench_function(&format!("frame/encode/{len} B"), |b| {
            b.iter(|| {
                out.clear();
                write_frame(&mut out, OpCode::Data(Data::Text), black_box(&payload));
                black_box(out.as_ptr());
            });
        });
    }
}

/// Messages like those of a client.
fn json() -> String {
    (0..400_u32)
        .map(|seq| {
            let (user, value) = (seq.wrapping_mul(2_654_435_761) >> 12, seq.wrapping_mul(40_503) % 9973);
            format!("{{\"type\":\"business\",\"seq\":{seq},\"from\":\"user-{user}\",\"value\":{value}}},")
        })
        .collect()
}

fn deflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate");
    let (mut deflater, mut inflater, json) = (Deflater::new(), Inflater::new(), json());
    for len in [128, 1024, 16 * 1024] {
        let plain = &json.as_bytes()[..len];
        group.throughput(Throughput::Bytes(len as u64));
        for window_bits in [9, 15] {
            let deflated = deflater.deflate(window_bits, plain).len();
            println!("{len} B of JSON, window {window_bits}: {deflated} B");
            group.bench_function(format!("deflate/{len} B/window {window_bits}"), |b| {
                b.iter(|| deflater.deflate(window_bits, black_box(plain)).len());
            });
        }
        let deflated = deflater.deflate(15, plain).to_vec();
        group.bench_function(format!("inflate/{len} B"), |b| {
            b.iter(|| inflater.inflate(black_box(&deflated), 1 << 20).unwrap().len());
        });
    }
    group.finish();
}

criterion_group!(benches, headers, masks, utf8, frames, assembler, deflate);
criterion_main!(benches);
