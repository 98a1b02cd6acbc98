//! Following the frames of a stream that is passed on, as the balancer does.
//!
//! `cargo bench --bench frames`

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use throng::balancer::frames::Frames;
use throng::ws::frame::{Data, OpCode, write_frame};

/// What a balancer reads at a time.
const READ_BYTES: usize = 64 * 1024;

/// At least 1 MiB of whole frames.
fn stream(payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < 1 << 20 {
        write_frame(&mut out, OpCode::Data(Data::Text), &vec![b'x'; payload_bytes]);
    }
    out
}

fn feeding(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames");
    for (name, payload_bytes) in [("64 B", 64), ("4 KiB", 4096)] {
        let stream = stream(payload_bytes);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        for (reads, read_bytes) in [("in full reads", READ_BYTES), ("in reads of 500 B", 500)] {
            group.bench_function(format!("feed/{name}/{reads}"), |b| {
                b.iter(|| {
                    let mut frames = Frames::new();
                    for read in black_box(&stream).chunks(read_bytes) {
                        frames.feed(read);
                    }
                    assert!(frames.at_boundary());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, feeding);
criterion_main!(benches);
