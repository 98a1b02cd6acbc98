//! The order of a weighted round robin.
//!
//! Owns: [`Timetable`], made by smooth weighted round robin: in each step every
//! backend gains its weight, the one that has most is next and pays the sum of
//! all weights. Within one round each comes as often as its weight says, and as
//! far apart from itself as can be.

use std::sync::atomic::Ordering;

use crate::balancer::roster::Directory;

/// Places in one round. Weights whose round would be longer are scaled down,
/// each to at least one place.
const PLACES_MAX: u64 = 4096;

/// Backends in the order of their turns. The same weights give the same order.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    weights: Vec<u32>,
    places: Vec<u32>,
}

impl Timetable {
    /// Whose turn the number is, as an index of the directory that was followed.
    pub(super) fn at(&self, number: u64) -> Option<usize> {
        let place = number.checked_rem(self.places.len() as u64)?;
        Some(self.places[place as usize] as usize)
    }

    /// Makes the order anew if weights have changed.
    pub(super) fn follow(&mut self, directory: &Directory) {
        let weights =
            || directory.backends.iter().map(|backend| backend.weight_milli.load(Ordering::Relaxed));
        if !weights().eq(self.weights.iter().copied()) {
            self.weights.clear();
            self.weights.extend(weights());
            self.places = smooth(&scaled(&self.weights));
        }
    }
}

/// The weights in smallest whole numbers, or nearly so if their sum is too large.
fn scaled(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, *weight)).max(1);
    let smallest = weights.iter().map(|weight| u64::from(weight / divisor));
    let sum: u64 = smallest.clone().sum();
    if sum <= PLACES_MAX {
        return smallest.collect();
    }
    smallest.map(|weight| (weight * PLACES_MAX / sum).max(weight.min(1))).collect()
}

fn gcd(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { gcd(other, one % other) }
}

fn smooth(weights: &[u64]) -> Vec<u32> {
    let round = weights.iter().sum::<u64>();
    let mut credits = vec![0_i64; weights.len()];
    let mut places = Vec::with_capacity(round as usize);
    for _ in 0..round {
        let mut next = 0;
        for (index, weight) in weights.iter().enumerate() {
            credits[index] += *weight as i64;
            if credits[index] > credits[next] {
                next = index;
            }
        }
        credits[next] -= round as i64;
        places.push(next as u32);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weights: &[u32], expected: &[u32]) {
        assert_eq!(smooth(&scaled(weights)), expected, "{weights:?}");
    }

    #[test]
    fn turns_are_as_weights_say_and_far_apart() {
        check(&[], &[]);
        check(&[0, 0], &[]);
        check(&[1000, 1000, 1000], &[0, 1, 2]);
        check(&[5000, 1000, 1000], &[0, 0, 1, 0, 2, 0, 0]);
        check(&[1000, 0, 2000], &[2, 0, 2]);
    }

    #[test]
    fn a_round_is_bounded_and_leaves_nobody_out() {
        let mut weights = vec![1_000_000; 900];
        weights.extend([1, 0]);
        let places = smooth(&scaled(&weights));
        assert!(places.len() <= PLACES_MAX as usize + weights.len(), "{}", places.len());
        assert!(places.contains(&900), "the lightest has a place");
        assert!(!places.contains(&901), "one without weight has none");
    }
}
