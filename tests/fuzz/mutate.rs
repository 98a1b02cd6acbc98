//! Changing valid inputs until they are not, or until they are so in a new way.

use fastrand::Rng;

/// Inputs grow no longer than this.
const BYTES_MAX: usize = 128 * 1024;

/// Bytes on which parsers turn.
const SPECIAL: &[u8] = b"\0\x01\x7d\x7e\x7f\x80\xff\xfe\xc0 \t\r\n,;:=\"'\\{}[]#%?&/+-09aZ";

/// One of `samples`, changed in one to eight places.
pub(crate) fn mutate(rng: &mut Rng, samples: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = choose(rng, samples).clone();
    for _ in 0..rng.usize(1..=8) {
        change(rng, &mut input, samples, words);
        input.truncate(BYTES_MAX);
    }
    input
}

fn choose<'a, T>(rng: &mut Rng, all: &'a [T]) -> &'a T {
    &all[rng.usize(..all.len())]
}

/// A place to put something, the end included.
fn gap(rng: &mut Rng, input: &[u8]) -> usize {
    rng.usize(..=input.len())
}

/// A range of the input, mostly a short one.
fn range(rng: &mut Rng, input: &[u8]) -> std::ops::Range<usize> {
    let start = gap(rng, input);
    let rest = input.len() - start;
    let longest = if rng.u8(..4) == 0 { rest } else { rest.min(16) };
    start..start + rng.usize(..=longest)
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, samples: &[Vec<u8>], words: &[&str]) {
    let at = gap(rng, input);
    match rng.u8(..10) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 if at < input.len() => input[at] = *choose(rng, SPECIAL),
        3 => input.insert(at, *choose(rng, SPECIAL)),
        4 => drop(input.drain(range(rng, input))),
        5 => input.truncate(at),
        6 => {
            let word = choose(rng, words).bytes();
            input.splice(at..at, word).for_each(drop);
        }
        7 => {
            let copied = input[range(rng, input)].to_vec();
            input.splice(at..at, copied).for_each(drop);
        }
        8 => {
            // What comes often, and what is nested deeply.
            let copied = input[range(rng, input)].repeat(rng.usize(..64));
            input.splice(at..at, copied).for_each(drop);
        }
        _ => {
            let other = choose(rng, samples);
            let (replaced, spliced) = (range(rng, input), range(rng, other));
            input.splice(replaced, other[spliced].iter().copied()).for_each(drop);
        }
    }
}
