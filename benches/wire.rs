//! What an envelope between nodes costs: batches written and read. Times are
//! of a whole batch; the throughput is in envelopes.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use throng::cluster::wire::{Answer, Aside, BatchWriter, Envelope, Stream, read};

/// Envelopes in a batch.
const BATCHES: [u64; 3] = [1, 16, 256];

/// A message to a user with 100 bytes of content.
fn send(content: &str) -> Envelope<'_> {
    let answer = Answer::Return { sender: 1 << 40, tries: 0 };
    Envelope::Send { answer, user: "user-0123456789", text: content, aside: Aside::default() }
}

fn writer() -> BatchWriter {
    BatchWriter::new("throng-a", 1_700_000_000_000, Stream::To(1_700_000_000_001)).expect("a valid id")
}

fn fill(writer: &mut BatchWriter, envelope: &Envelope<'_>, count: u64) {
    for _ in 0..count {
        writer.append(envelope).expect("the batches of this bench fit");
    }
}

fn encode(criterion: &mut Criterion) {
    let content = "x".repeat(100);
    let mut group = criterion.benchmark_group("wire/encode");
    for count in BATCHES {
        group.throughput(Throughput::Elements(count));
        let mut writer = writer();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                fill(&mut writer, black_box(&send(&content)), count);
                writer.seal(1)
            });
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let content = "x".repeat(100);
    let mut group = criterion.benchmark_group("wire/decode");
    for count in BATCHES {
        group.throughput(Throughput::Elements(count));
        let mut writer = writer();
        fill(&mut writer, &send(&content), count);
        let batch = writer.seal(1);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let (_, envelopes) = read(black_box(&batch)).expect("a valid batch");
                envelopes.filter(|item| black_box(item).is_ok()).count()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode, decode);
criterion_main!(benches);
