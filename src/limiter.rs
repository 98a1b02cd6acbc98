//! How often one client address may connect.
//!
//! Owns: the counts per address and window, bounded in memory. Never: clocks
//! (`now_ms` is given), addresses behind proxies (resolved by the caller).
//!
//! The window slides in two halves: what was admitted in the window before
//! counts in proportion to how much of it the sliding window still covers. Both
//! halves are replaced as a whole, so nothing has to be swept.

mod handshakes;

pub use handshakes::HandshakeLimiter;

use crate::limits;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Locks the addresses are spread over; handshakes of one address meet at one.
const SHARDS: usize = 16;

/// Addresses in one half of one shard.
const ADDRESSES_PER_HALF: usize = limits::TRACKED_ADDRESSES / SHARDS / 2;

/// Counts admitted connections per client address; shared by all reactors.
#[derive(Debug)]
pub struct AddressLimiter {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

impl Default for AddressLimiter {
    fn default() -> Self {
        Self::new()
    }
}

impl AddressLimiter {
    /// A limiter that has seen nobody.
    pub fn new() -> Self {
        let hasher = RandomState::default();
        AddressLimiter { shards: std::array::from_fn(|_| Mutex::new(Shard::new(hasher.clone()))), hasher }
    }

    /// Counts one connection of `address` if that makes at most `max` within
    /// `window`. IPv6 addresses count by their /64, which is what one client
    /// has. What is refused is not counted. `max` and `window` may change from
    /// call to call; `now_ms` must not run backwards.
    ///
    /// # Errors
    /// Over the limit: the seconds, at least 1, after which a connection will be
    /// admitted unless others of the address come first.
    pub fn admit(&self, address: IpAddr, max: u32, window: Duration, now_ms: u64) -> Result<(), u32> {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).clamp(1, WINDOW_MS_MAX);
        let key = key(address);
        let shard = self.hasher.hash_one(key) >> 32;
        let shard = &self.shards[shard as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.advance(window_ms, now_ms);
        shard
            .admit(key, max, window_ms, now_ms)
            .map_err(|wait_ms| u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1))
    }
}

/// 49 days: keeps the products of counts and times below 2⁶⁴.
const WINDOW_MS_MAX: u64 = u32::MAX as u64;

/// An IPv4 address, or the upper half of an IPv6 one. The two do not meet: IPv6
/// assigns nothing below ::/32 but the loopback, which stands beside 0.0.0.0.
fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[derive(Debug)]
struct Shard {
    started_ms: u64,
    current: HashMap<u64, u32, RandomState>,
    previous: HashMap<u64, u32, RandomState>,
}

impl Shard {
    fn new(hasher: RandomState) -> Self {
        Shard {
            started_ms: 0,
            current: HashMap::with_hasher(hasher.clone()),
            previous: HashMap::with_hasher(hasher),
        }
    }

    /// Begins a new half when the current one is as long as the window, and
    /// earlier when it is full: then the oldest counts are forgotten early,
    /// which is better than refusing strangers or growing.
    fn advance(&mut self, window_ms: u64, now_ms: u64) {
        let age = now_ms.saturating_sub(self.started_ms);
        if age >= 2 * window_ms {
            self.turn(now_ms);
            self.previous = HashMap::with_hasher(self.current.hasher().clone());
        } else if age >= window_ms {
            self.turn(self.started_ms + window_ms);
        } else if self.current.len() >= ADDRESSES_PER_HALF {
            self.turn(now_ms);
        }
    }

    fn turn(&mut self, started_ms: u64) {
        let empty = HashMap::with_hasher(self.current.hasher().clone());
        self.previous = std::mem::replace(&mut self.current, empty);
        self.started_ms = started_ms;
    }

    /// Refuses with the milliseconds to wait.
    fn admit(&mut self, key: u64, max: u32, window_ms: u64, now_ms: u64) -> Result<(), u64> {
        let current = self.current.get(&key).copied().unwrap_or(0);
        let previous = self.previous.get(&key).copied().unwrap_or(0);
        let age = now_ms.saturating_sub(self.started_ms);
        let left_ms = window_ms.saturating_sub(age);
        let room = u64::from(max).saturating_sub(1 + u64::from(current));
        if current < max && u64::from(previous) * left_ms <= room * window_ms {
            self.current.insert(key, current + 1);
            return Ok(());
        }
        Err(match current < max {
            true => left_ms - time_left(previous, room, window_ms),
            false if max == 0 => window_ms,
            false => left_ms + window_ms - time_left(current, u64::from(max) - 1, window_ms),
        })
    }
}

/// With how much of its window left `count` weighs no more than `room`.
fn time_left(count: u32, room: u64, window_ms: u64) -> u64 {
    (room * window_ms / u64::from(count.max(1))).min(window_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Each step: seconds, and what `admit` is to say then with 4 a minute.
    fn check(steps: &[(u64, Result<(), u32>)]) {
        let limiter = AddressLimiter::new();
        for (step, (seconds, expected)) in steps.iter().enumerate() {
            let answer = limiter.admit(v4(1), 4, MINUTE, 1_000_000 + seconds * 1000);
            assert_eq!(answer, *expected, "step {step} at {seconds} s");
        }
    }

    #[test]
    fn a_burst_is_admitted_up_to_the_limit() {
        // All four weigh in full for a window and then fade: 45 s later one has gone.
        check(&[(0, Ok(())), (1, Ok(())), (2, Ok(())), (3, Ok(())), (3, Err(72)), (59, Err(16))]);
    }

    #[test]
    fn what_was_admitted_before_fades() {
        let burst = [(0, Ok(())); 4];
        check(
            &[&burst[..], &[(60, Err(15)), (74, Err(1)), (75, Ok(())), (75, Err(15)), (90, Ok(()))]].concat(),
        );
        check(
            &[&burst[..], &[(120, Ok(())), (120, Ok(())), (120, Ok(())), (120, Ok(())), (120, Err(75))]]
                .concat(),
        );
    }

    #[test]
    fn the_wait_it_names_is_enough_and_not_too_long() {
        for attempts in 0..40u64 {
            let limiter = AddressLimiter::new();
            let mut now = 5_000;
            for attempt in 0..attempts {
                now += attempt * 791 % 4_000;
                let _ = limiter.admit(v4(1), 7, MINUTE, now);
            }
            let mut waits = 0;
            while let Err(seconds) = limiter.admit(v4(1), 7, MINUTE, now) {
                waits += 1;
                assert!(waits < 2, "still refused after the wait, {attempts} attempts");
                let early = now + (u64::from(seconds) - 1) * 1000;
                assert!(limiter.admit(v4(1), 7, MINUTE, early).is_err(), "{seconds} s is too long");
                now += u64::from(seconds) * 1000;
            }
        }
    }

    #[test]
    fn no_window_admits_much_more_than_the_limit() {
        let limiter = AddressLimiter::new();
        let mut admitted = Vec::new();
        for now in (0..600_000).step_by(250) {
            if limiter.admit(v4(1), 100, MINUTE, now).is_ok() {
                admitted.push(now);
            }
        }
        for start in (0..540_000).step_by(1_000) {
            let within = admitted.iter().filter(|at| (start..start + 60_000).contains(*at)).count();
            assert!(within <= 125, "{within} from {start}");
        }
        let total = admitted.len();
        assert!((950..=1050).contains(&total), "{total} in ten windows");
    }

    #[test]
    fn addresses_count_apart_and_ipv6_by_its_64() {
        let limiter = AddressLimiter::new();
        let admit = |address: &str| limiter.admit(address.parse().expect("an address"), 1, MINUTE, 0).is_ok();
        assert!(admit("10.0.0.1") && admit("10.0.0.2"));
        assert!(!admit("::ffff:10.0.0.1"), "the same address, mapped");
        assert!(admit("2001:db8:0:1::1") && !admit("2001:db8:0:1:ffff::2") && admit("2001:db8:0:2::1"));
        assert!(admit("::1"));
    }

    #[test]
    fn extreme_limits_neither_panic_nor_admit_wrongly() {
        let limiter = AddressLimiter::new();
        assert_eq!(limiter.admit(v4(1), 0, MINUTE, 0), Err(60));
        assert_eq!(limiter.admit(v4(1), u32::MAX, Duration::MAX, 0), Ok(()));
        assert_eq!(limiter.admit(v4(1), 1, Duration::MAX, u64::MAX / 4), Ok(()));
        assert_eq!(limiter.admit(v4(2), 1, Duration::ZERO, 1), Ok(()));
        assert_eq!(limiter.admit(v4(2), 1, Duration::ZERO, 0), Err(1), "a clock that ran backwards");
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = AddressLimiter::new();
        for address in 0..2 * limits::TRACKED_ADDRESSES as u32 {
            assert_eq!(limiter.admit(IpAddr::V4(address.into()), 1, MINUTE, 0), Ok(()));
        }
        let tracked = |shard: &Mutex<Shard>| {
            let shard = shard.lock().expect("no panic");
            assert!(shard.current.len().max(shard.previous.len()) <= ADDRESSES_PER_HALF);
            shard.current.len() + shard.previous.len()
        };
        let total: usize = limiter.shards.iter().map(tracked).sum();
        assert!((limits::TRACKED_ADDRESSES / 2..=limits::TRACKED_ADDRESSES).contains(&total), "{total}");
        let last = IpAddr::V4((2 * limits::TRACKED_ADDRESSES as u32 - 1).into());
        assert!(limiter.admit(last, 1, MINUTE, 0).is_err(), "the latest is still known");
    }
}
