//! libFuzzer on the entries that `tests/fuzz` tries with random inputs.
//!
//! Here inputs are guided by the code they reach, for as long as one likes:
//!
//! ```text
//! cargo install cargo-fuzz --locked
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tools/fuzz frames -- -max_total_time=60
//! ```
//!
//! The targets are `http_head`, `handshake`, `frames`, `client_message`,
//! `config_file` and `token`. The address sanitizer needs a nightly compiler, or
//! `RUSTC_BOOTSTRAP=1` with a stable one. What fails is kept in `artifacts/`
//! and tried again by naming the file behind the target.

#[allow(dead_code, reason = "libFuzzer bounds memory by itself")]
#[path = "../../../tests/fuzz/entries/mod.rs"]
mod entries;

use entries::{ENTRIES, Entry};
use std::sync::OnceLock;

/// An entry, and the valid inputs to start from.
pub struct Target {
    entry: &'static Entry,
    samples: Vec<Vec<u8>>,
}

impl Target {
    /// The entry called `name`, made once.
    pub fn named(name: &str) -> &'static Target {
        static TARGET: OnceLock<Target> = OnceLock::new();
        TARGET.get_or_init(|| {
            let entry = ENTRIES.iter().find(|entry| entry.name == name).expect("an entry of that name");
            Target { entry, samples: (entry.samples)() }
        })
    }

    /// Takes one input.
    pub fn check(&self, input: &[u8]) {
        (self.entry.check)(input);
    }

    /// Changes an input of `len` bytes, which lies at the beginning of
    /// `data`; its new length, at most `len_max`. Now and then it becomes a
    /// sample first, or is given a word of the language; the rest is libFuzzer's.
    pub fn mutate(&self, data: &mut [u8], len: usize, len_max: usize, seed: u32) -> usize {
        let choice = seed as usize / 16;
        let len = match seed % 16 {
            _ if len <= 1 => plant(data, &self.samples[choice % self.samples.len()], len_max),
            0 if choice % 16 == 0 => plant(data, &self.samples[choice / 16 % self.samples.len()], len_max),
            1..3 => {
                let word = self.entry.words[choice % self.entry.words.len()].as_bytes();
                insert(data, len, choice % (len + 1), word, len_max)
            }
            _ => len,
        };
        libfuzzer_sys::fuzzer_mutate(data, len, len_max)
    }
}

fn plant(data: &mut [u8], sample: &[u8], len_max: usize) -> usize {
    let len = sample.len().min(len_max);
    data[..len].copy_from_slice(&sample[..len]);
    len
}

fn insert(data: &mut [u8], len: usize, at: usize, word: &[u8], len_max: usize) -> usize {
    if len + word.len() > len_max {
        return len;
    }
    data.copy_within(at..len, at + word.len());
    data[at..at + word.len()].copy_from_slice(word);
    len + word.len()
}

/// The `main` of a target.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::Target::named($name).check(input));
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], len: usize, len_max: usize, seed: u32| {
            $crate::Target::named($name).mutate(data, len, len_max, seed)
        });
    };
}
