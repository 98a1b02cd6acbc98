//! Valid inputs, changed at random: whatever comes in, no parser panics, and
//! what must hold does (see [`entries`]), in bounded memory.
//!
//! Every run takes new chances. A failure names its seed:
//! `THRONG_SEED=… cargo test --test fuzz` begins with the input that failed.
//! `tools/fuzz` looks at the same entries with libFuzzer, for as long as one likes.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod entries;
mod memory;
mod mutate;

use entries::{ENTRIES, Entry};
use fastrand::Rng;
use std::panic::{UnwindSafe, catch_unwind};

fn first_seed() -> u64 {
    match std::env::var("THRONG_SEED") {
        Ok(seed) => seed.parse().expect("THRONG_SEED is a number"),
        Err(_) => u64::from(fastrand::u32(..)),
    }
}

fn entry(name: &str) -> &'static Entry {
    ENTRIES.iter().find(|entry| entry.name == name).unwrap()
}

/// Does `work`; when it panics, says for which input.
fn naming<T>(seed: u64, entry: &str, input: &[u8], work: impl FnOnce() -> T + UnwindSafe) -> T {
    catch_unwind(work).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let why = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
        let shown = &input[..input.len().min(4096)];
        panic!(
            "{why}\nreplay with: THRONG_SEED={seed} cargo test --test fuzz {entry}\n{} bytes: b\"{}\"",
            input.len(),
            shown.escape_ascii()
        );
    })
}

/// Tries so many inputs.
fn fuzz(name: &str, rounds: u64) {
    let entry = entry(name);
    let (samples, first) = ((entry.samples)(), first_seed());
    let mut accepted = 0;
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        let input = mutate::mutate(&mut Rng::with_seed(seed), &samples, entry.words);
        let memory_max = entry.memory.0 + entry.memory.1 * input.len();
        accepted += naming(seed, name, &input, || {
            let (is_accepted, peak) = memory::peak_bytes(|| (entry.check)(&input));
            assert!(peak <= memory_max, "{peak} bytes of memory");
            u64::from(is_accepted)
        });
    }
    // Chance must neither break everything at the first look nor nothing.
    let few = rounds / 50;
    assert!((few..rounds - few).contains(&accepted), "{accepted} of {rounds} were valid");
}

#[test]
fn http_head() {
    fuzz("http_head", 20_000);
}

#[test]
fn handshake() {
    fuzz("handshake", 15_000);
}

#[test]
fn frames() {
    fuzz("frames", 4_000);
}

#[test]
fn client_message() {
    fuzz("client_message", 8_000);
}

#[test]
fn config_file() {
    fuzz("config_file", 1_000);
}

#[test]
fn token() {
    fuzz("token", 8_000);
}

#[test]
fn samples_are_valid() {
    for entry in ENTRIES {
        for sample in (entry.samples)() {
            assert!((entry.check)(&sample), "{}: b\"{}\"", entry.name, sample.escape_ascii());
        }
    }
}

#[test]
fn a_seed_stands_for_an_input() {
    for entry in ENTRIES {
        let samples = (entry.samples)();
        let input = |seed| mutate::mutate(&mut Rng::with_seed(seed), &samples, entry.words);
        assert_eq!(input(7), input(7));
        assert!((0..10).any(|seed| input(seed) != input(seed + 1)), "{}", entry.name);
    }
}

#[test]
fn a_failure_names_its_seed_and_its_input() {
    let failure = catch_unwind(|| naming(42, "frames", b"\xffab", || panic!("because"))).unwrap_err();
    let text = failure.downcast_ref::<String>().unwrap();
    for part in ["because", "THRONG_SEED=42", r#"b"\xffab""#] {
        assert!(text.contains(part), "{text}");
    }
}
