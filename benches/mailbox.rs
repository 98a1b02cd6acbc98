//! Handing messages to a reactor: its mailbox, and the same by `std::sync::mpsc`.
//!
//! `cargo bench --bench mailbox`

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{self, TrySendError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use throng::limits::{MAILBOX_BYTES, MAILBOX_MESSAGES};
use throng::reactor::mailbox::{Full, Wake, Weigh, mailbox};

/// As large as what reactors send each other, and as heavy as a short frame.
#[derive(Debug)]
struct Message([u64; 8]);

impl Weigh for Message {
    fn weight(&self) -> usize {
        self.0.len()
    }
}

/// Wakes nobody: the bench looks for itself.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

/// Wakes a thread that has parked.
struct Bell(Thread);

impl Wake for Bell {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// Posting and taking on one thread, `batch` at a time: no contention.
fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox/one thread");
    for batch in [1, 64, 1024] {
        group.throughput(Throughput::Elements(batch));
        let (sender, receiver) = mailbox::<Message>(MAILBOX_MESSAGES, MAILBOX_BYTES, Arc::new(Awake));
        group.bench_function(format!("throng/{batch}"), |b| {
            b.iter(|| {
                (0..batch).for_each(|n| sender.post(black_box(Message([n; 8]))).unwrap());
                receiver.begin();
                let taken = std::iter::from_fn(|| receiver.pop()).map(black_box).count();
                assert_eq!(taken as u64, batch);
            });
        });
        let (sender, receiver) = mpsc::sync_channel::<Message>(MAILBOX_MESSAGES);
        group.bench_function(format!("std mpsc/{batch}"), |b| {
            b.iter(|| {
                (0..batch).for_each(|n| sender.try_send(black_box(Message([n; 8]))).unwrap());
                assert_eq!(receiver.try_iter().map(black_box).count() as u64, batch);
            });
        });
    }
    group.finish();
}

/// `count` messages from another thread to one that sleeps while there is nothing to do.
fn between_threads(count: u64) -> Duration {
    let (sender, receiver) =
        mailbox::<Message>(MAILBOX_MESSAGES, MAILBOX_BYTES, Arc::new(Bell(thread::current())));
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..count {
                let mut message = Message([n; 8]);
                while let Err(Full(refused)) = sender.post(message) {
                    message = refused;
                    thread::yield_now();
                }
            }
        });
        let mut taken = 0;
        while taken < count {
            receiver.begin();
            let before = taken;
            taken += std::iter::from_fn(|| receiver.pop()).map(black_box).count() as u64;
            if taken == before {
                thread::park();
            }
        }
    });
    start.elapsed()
}

fn between_threads_by_std(count: u64) -> Duration {
    let (sender, receiver) = mpsc::sync_channel::<Message>(MAILBOX_MESSAGES);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..count {
                let mut message = Message([n; 8]);
                while let Err(TrySendError::Full(refused)) = sender.try_send(message) {
                    message = refused;
                    thread::yield_now();
                }
            }
        });
        let taken = receiver.iter().map(black_box).count();
        assert_eq!(taken as u64, count);
    });
    start.elapsed()
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox/two threads");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(3));
    group.bench_function("throng", |b| b.iter_custom(between_threads));
    group.bench_function("std mpsc", |b| b.iter_custom(between_threads_by_std));
    group.finish();
}

criterion_group!(benches, one_thread, two_threads);
criterion_main!(benches);
