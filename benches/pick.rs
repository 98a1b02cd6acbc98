//! What a pick costs, and what the strategies do with 10 000 connections.
//!
//! `cargo bench --bench pick`

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use throng::balancer::pick::{Key, Picked, Picker, Strategy};
use throng::balancer::roster::{Backend, BackendId, Directory};

const CONNECTIONS: usize = 10_000;

/// Backends of these weights that take any number of connections.
fn directory(weights: &[u32]) -> Directory {
    let backend = |(n, weight): (usize, &u32)| {
        let address = SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8], 8080));
        let backend = Backend::new(BackendId(n as u32 + 1), format!("node-{n}:8080"), address, None);
        backend.weight_milli.store(weight * 1000, Ordering::Relaxed);
        Arc::new(backend)
    };
    Directory { version: 1, backends: weights.iter().enumerate().map(backend).collect() }
}

fn address(n: usize) -> IpAddr {
    IpAddr::from((0x0a00_0000 + n as u32).to_be_bytes())
}

fn users() -> Vec<String> {
    (0..CONNECTIONS).map(|n| format!("user-{n:06}")).collect()
}

fn home(picker: &mut Picker, directory: &Directory, n: usize, user: &str) -> usize {
    match picker.pick(directory, &Key { address: address(n), user: Some(user) }, &[]) {
        Picked::Backend(index) => index,
        other => panic!("{other:?}"),
    }
}

/// Places connections that stay, over four reactors, and counts them.
fn spread(strategy: Strategy, weights: &[u32]) -> Vec<usize> {
    let (directory, rotor) = (directory(weights), Arc::<AtomicU64>::default());
    let mut reactors: Vec<_> = (0..4).map(|seed| Picker::new(strategy, seed, Arc::clone(&rotor))).collect();
    let mut counts = vec![0; weights.len()];
    for (n, user) in users().iter().enumerate() {
        let index = home(&mut reactors[n % 4], &directory, n, user);
        assert!(directory.backends[index].try_take());
        counts[index] += 1;
    }
    counts
}

/// How many clients of 10 000 are elsewhere when one of five backends has left.
fn moved(strategy: Strategy) -> usize {
    let directory = directory(&[1; 5]);
    let mut picker = Picker::new(strategy, 1, Arc::default());
    let users = users();
    let mut homes = || -> Vec<_> {
        users.iter().enumerate().map(|(n, user)| home(&mut picker, &directory, n, user)).collect()
    };
    let before = homes();
    directory.backends[2].weight_milli.store(0, Ordering::Relaxed);
    before.iter().zip(homes()).filter(|(one, other)| **one != *other).count()
}

fn table() {
    println!("{CONNECTIONS} connections over 5 backends, from 4 reactors");
    println!(
        "{:<18} {:<31} {:<31} moved when one leaves",
        "strategy", "weights 1 1 1 1 1", "weights 1 2 3 4 5"
    );
    for strategy in Strategy::ALL {
        let shown = |weights: &[u32]| {
            let counts = spread(strategy, weights);
            counts.iter().map(|count| format!("{count:>5} ")).collect::<String>()
        };
        let moved = match strategy {
            Strategy::IpHash | Strategy::UserHash => {
                format!("{:.1} %", moved(strategy) as f64 * 100.0 / CONNECTIONS as f64)
            }
            _ => "-".to_owned(),
        };
        println!("{:<18} {:<31} {:<31} {moved}", strategy.name(), shown(&[1; 5]), shown(&[1, 2, 3, 4, 5]));
    }
}

fn pick(c: &mut Criterion) {
    table();
    let users = users();
    for backends in [5, 100] {
        let directory = directory(&vec![1; backends]);
        let mut group = c.benchmark_group(format!("pick/one of {backends}"));
        for strategy in Strategy::ALL {
            let mut picker = Picker::new(strategy, 1, Arc::default());
            let mut n = 0;
            group.bench_function(strategy.name(), |b| {
                b.iter(|| {
                    n = (n + 1) % CONNECTIONS;
                    home(&mut picker, black_box(&directory), n, &users[n])
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, pick);
criterion_main!(benches);
