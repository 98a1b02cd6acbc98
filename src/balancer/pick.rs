//! Which backend a connection goes to.
//!
//! Owns: the strategies. A [`Picker`] belongs to one reactor; what must be even
//! over all reactors is the rotor they share. Never: whether a backend is well
//! (its weight says so), and taking the place ([`Backend::try_take`]).
//!
//! # The strategies
//!
//! * `round_robin`: smooth and weighted, as nginx has it. Reactors draw the next
//!   number from the shared rotor; the number is a place in a timetable that
//!   each makes from the weights. A backend that cannot be had costs another
//!   draw, so what it does not take is shared by all others.
//! * `least_connections`: the least load per weight after the connection was
//!   added; one of equals by chance.
//! * `random_two`: the less loaded of two found by chance, in proportion to weight.
//! * `ip_hash`, `user_hash`: weighted rendezvous hashing of the client against
//!   the backends' names. All balancers agree, and when a backend goes only its
//!   own clients move.

mod hashing;
mod strategy;
mod timetable;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use self::hashing::{hash_address, hash_user, mix};
use self::timetable::Timetable;
use super::roster::{Backend, BackendId, Directory};

pub(in crate::balancer) use self::hashing::hash;
pub use self::strategy::{Strategy, UnknownStrategy};

/// What is known of the client that is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Its address. IPv6 addresses hash by their /64, which is what one client has.
    pub address: IpAddr,
    /// Its user id, if it says one.
    pub user: Option<&'a str>,
}

/// What a pick came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// The index in [`Directory::backends`].
    Backend(usize),
    /// Some take connections, and all of those have as many as they may.
    Full,
    /// Nobody is left.
    Nobody,
}

/// Picks backends for one reactor.
#[derive(Debug)]
pub struct Picker {
    strategy: Strategy,
    rng: Rng,
    rotor: Arc<AtomicU64>,
    timetable: Timetable,
}

impl Picker {
    /// `seed` differs between reactors; `rotor` is one for all of them.
    pub fn new(strategy: Strategy, seed: u64, rotor: Arc<AtomicU64>) -> Self {
        Picker { strategy, rng: Rng::with_seed(seed), rotor, timetable: Timetable::default() }
    }

    /// How it picks.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Picks another way from now on.
    pub fn set_strategy(&mut self, strategy: Strategy) {
        self.strategy = strategy;
    }

    /// Finds a backend by weight: none that was `tried`, that takes nothing or
    /// is at its maximum. When nobody takes anything, one that is leaving is
    /// better than none: while nodes are rolled quickly, the next may begin to
    /// leave before the last is back. Another thread may take its last place meanwhile, which
    /// [`Backend::try_take`] tells. Allocates only when weights have changed.
    pub fn pick(&mut self, directory: &Directory, key: &Key<'_>, tried: &[BackendId]) -> Picked {
        let candidates = Candidates { directory, tried };
        let picked = match self.strategy {
            Strategy::RoundRobin => self.next_in_turn(&candidates),
            Strategy::LeastConnections => self.least_loaded(&candidates),
            Strategy::RandomTwo => self.best_of_two(&candidates),
            Strategy::IpHash => candidates.home(hash_address(key.address)),
            Strategy::UserHash => candidates.home(hash_user(key)),
        };
        match picked {
            Some(index) => Picked::Backend(index),
            None if candidates.any_available() => Picked::Full,
            None => candidates.last_resort().map_or(Picked::Nobody, Picked::Backend),
        }
    }

    fn next_in_turn(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        candidates.iter().next()?;
        self.timetable.follow(candidates.directory);
        let draws = 2 * candidates.directory.backends.len();
        (0..draws)
            .filter_map(|_| self.timetable.at(self.rotor.fetch_add(1, Ordering::Relaxed)))
            .find(|index| candidates.has(*index))
            // Heavy ones are full, so that a light one's turn is far away.
            .or_else(|| self.least_loaded(candidates))
    }

    fn least_loaded(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        let mut least: Option<(usize, Load)> = None;
        let mut equals = 1;
        for (index, load) in candidates.iter() {
            match least.map_or(std::cmp::Ordering::Less, |(_, least)| load.cmp(least)) {
                std::cmp::Ordering::Less => (least, equals) = (Some((index, load)), 1),
                std::cmp::Ordering::Greater => {}
                std::cmp::Ordering::Equal => {
                    // Each of n equals is kept with a chance of 1 in n.
                    equals += 1;
                    if self.rng.u32(0..equals) == 0 {
                        least = Some((index, load));
                    }
                }
            }
        }
        least.map(|(index, _)| index)
    }

    fn best_of_two(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        let first = self.by_chance(candidates, None)?;
        let Some(second) = self.by_chance(candidates, Some(first.0)) else { return Some(first.0) };
        Some(if second.1.cmp(first.1).is_lt() { second.0 } else { first.0 })
    }

    /// One by chance, in proportion to weight.
    fn by_chance(&mut self, candidates: &Candidates<'_>, but: Option<usize>) -> Option<(usize, Load)> {
        let others = || candidates.iter().filter(|(index, _)| Some(*index) != but);
        let sum: u64 = others().map(|(_, load)| u64::from(load.weight)).sum();
        let mut at = if sum > 0 { self.rng.u64(0..sum) } else { return None };
        let mut last = None;
        for (index, load) in others() {
            last = Some((index, load));
            match at.checked_sub(u64::from(load.weight)) {
                Some(rest) => at = rest,
                None => break,
            }
        }
        last
    }
}

/// The load of a backend, were it picked.
#[derive(Clone, Copy)]
struct Load {
    connections: u64,
    weight: u32,
}

impl Load {
    /// Compares connections per weight.
    fn cmp(self, other: Load) -> std::cmp::Ordering {
        (self.connections * u64::from(other.weight)).cmp(&(other.connections * u64::from(self.weight)))
    }
}

/// The backends that may be picked.
struct Candidates<'a> {
    directory: &'a Directory,
    tried: &'a [BackendId],
}

impl Candidates<'_> {
    fn is_open(&self, backend: &Backend) -> bool {
        backend.is_available() && !self.tried.contains(&backend.id)
    }

    fn has(&self, index: usize) -> bool {
        self.directory.backends.get(index).is_some_and(|found| self.is_open(found) && !found.is_full())
    }

    fn any_available(&self) -> bool {
        self.directory.backends.iter().any(|backend| self.is_open(backend))
    }

    /// The least loaded of those that are leaving.
    fn last_resort(&self) -> Option<usize> {
        let is_leaving = |backend: &Backend| {
            let leaves = backend.last_resort.load(Ordering::Relaxed);
            leaves && !backend.is_full() && !self.tried.contains(&backend.id)
        };
        let leaving = self.directory.backends.iter().enumerate().filter(|(_, backend)| is_leaving(backend));
        let least = leaving.min_by_key(|(_, backend)| backend.active.load(Ordering::Relaxed));
        least.map(|(index, _)| index)
    }

    fn iter(&self) -> impl Iterator<Item = (usize, Load)> {
        let backends = self.directory.backends.iter().enumerate();
        backends.filter(|(_, backend)| self.is_open(backend) && !backend.is_full()).filter_map(
            |(index, backend)| {
                let weight = backend.weight_milli.load(Ordering::Relaxed);
                let connections = u64::from(backend.active.load(Ordering::Relaxed)) + 1;
                // Another thread may have taken the weight away just now.
                (weight > 0).then_some((index, Load { connections, weight }))
            },
        )
    }

    /// Weighted rendezvous hashing: each backend's hash with the key, made an
    /// exponentially distributed time with its weight as the rate; the first is
    /// it. The chance to be the first is in proportion to weight.
    fn home(&self, key: u64) -> Option<usize> {
        let time = |index: usize, load: Load| {
            let hash = mix(self.directory.backends[index].name_hash() ^ key);
            // In (0, 1): 53 bits, and never 0, of which there is no logarithm.
            let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -uniform.ln() / f64::from(load.weight)
        };
        let times = self.iter().map(|(index, load)| (index, time(index, load)));
        times.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests;
