//! Until when connections may stay whose tokens have an `exp`.
//!
//! Owns: [`Expiries`]. Four bytes for each slot while any of them has an
//! expiry, nothing otherwise; no timer. It is looked through when the soonest
//! is due, and at least each second as long as there is one, so that it follows
//! a wall clock that is set anew. Never: reads a clock, or knows which slot is
//! whose; who ends a connection has it forgotten here.

use std::time::Duration;

use crate::clock::Tick;
use crate::limits::EXPIRIES_PER_TURN;

/// The longest between two looks at the wall clock.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Expiries by slot.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    /// Seconds since 1970; 0 for none. What does not fit counts as the most that does: the year 2106.
    seconds: Vec<u32>,
    /// Slots that have one.
    waiting: usize,
    /// When to look again; means nothing while none waits.
    look_at: Tick,
}

impl Expiries {
    /// The connection in `slot` may stay until `expires_at`, in seconds since 1970, and `leeway`.
    pub(super) fn add(
        &mut self,
        slot: u32,
        expires_at: u64,
        (wall, leeway): (Duration, Duration),
        now: Tick,
    ) {
        self.forget(slot);
        let index = slot as usize;
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, 0);
        }
        self.seconds[index] = u32::try_from(expires_at).unwrap_or(u32::MAX).max(1);
        let look_at = later(now, left(self.seconds[index], wall, leeway));
        if self.waiting == 0 || self.ticks_to_look(now) > look_at.since(now) {
            self.look_at = look_at;
        }
        self.waiting += 1;
    }

    /// The connection in `slot` has ended.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(seconds) = self.seconds.get_mut(slot as usize)
            && std::mem::take(seconds) > 0
        {
            self.waiting -= 1;
            if self.waiting == 0 {
                self.seconds = Vec::new();
            }
        }
    }

    /// Ticks until it wants to be looked at; `None` while there is nothing to look at.
    pub(super) fn ticks_left(&self, now: Tick) -> Option<u32> {
        (self.waiting > 0).then(|| self.ticks_to_look(now))
    }

    fn ticks_to_look(&self, now: Tick) -> u32 {
        self.look_at.since(now)
    }

    /// Slots whose time has come, which are forgotten by this; at most so many, the rest at the next tick.
    pub(super) fn take_due(&mut self, wall: Duration, leeway: Duration, now: Tick) -> Vec<u32> {
        let mut due = Vec::new();
        let mut soonest = LOOK_AGAIN;
        for (slot, seconds) in self.seconds.iter_mut().enumerate().filter(|(_, seconds)| **seconds > 0) {
            let left = left(*seconds, wall, leeway);
            if !left.is_zero() {
                soonest = soonest.min(left);
            } else if due.len() < EXPIRIES_PER_TURN {
                due.push(slot as u32);
            } else {
                soonest = Duration::ZERO;
                break;
            }
        }
        for slot in &due {
            self.forget(*slot);
        }
        self.look_at = later(now, soonest);
        due
    }
}

/// How long a connection may still stay.
fn left(seconds: u32, wall: Duration, leeway: Duration) -> Duration {
    (Duration::from_secs(u64::from(seconds)) + leeway).saturating_sub(wall)
}

/// The tick to look at next: at least one from now, at most a second.
fn later(now: Tick, span: Duration) -> Tick {
    Tick(now.0.wrapping_add(Tick::count(span.min(LOOK_AGAIN)).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u32 = 1000 / Tick::MS;
    const LEEWAY: Duration = Duration::from_secs(30);
    const NONE: [u32; 0] = [];

    fn wall(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn add(expiries: &mut Expiries, slot: u32, expires_at: u64, at: (u64, u32)) {
        expiries.add(slot, expires_at, (wall(at.0), LEEWAY), Tick(at.1));
    }

    #[test]
    fn connections_are_due_at_their_expiry_and_leeway() {
        let mut expiries = Expiries::default();
        add(&mut expiries, 3, 1000, (1029, 50));
        add(&mut expiries, 9, 1001, (1029, 50));
        assert_eq!(expiries.ticks_left(Tick(50)), Some(SECOND));
        assert_eq!(expiries.take_due(Duration::from_millis(1_029_999), LEEWAY, Tick(149)), NONE);
        assert_eq!(expiries.ticks_left(Tick(149)), Some(1), "to the tick");
        assert_eq!(expiries.take_due(wall(1030), LEEWAY, Tick(150)), [3]);
        assert_eq!(expiries.ticks_left(Tick(150)), Some(SECOND));
        assert_eq!(expiries.take_due(wall(1031), LEEWAY, Tick(250)), [9]);
        assert_eq!((expiries.ticks_left(Tick(250)), expiries.seconds.capacity()), (None, 0), "given back");
    }

    #[test]
    fn it_is_looked_at_when_the_soonest_is_due() {
        let mut expiries = Expiries::default();
        add(&mut expiries, 0, u64::MAX, (1000, 0));
        assert_eq!(expiries.ticks_left(Tick(0)), Some(SECOND), "as the clock may be set");
        expiries.add(1, 970, (Duration::from_millis(999_750), LEEWAY), Tick(10));
        assert_eq!(expiries.ticks_left(Tick(10)), Some(25));
        add(&mut expiries, 2, 1200, (1000, 20));
        assert_eq!(expiries.ticks_left(Tick(20)), Some(15));
        assert_eq!(expiries.ticks_left(Tick(400)), Some(0), "overdue");
        add(&mut expiries, 4, 500, (1000, 400));
        assert_eq!(expiries.ticks_left(Tick(400)), Some(0), "what was overdue stays so");
    }

    #[test]
    fn a_clock_that_is_set_is_followed() {
        let mut expiries = Expiries::default();
        add(&mut expiries, 0, 5000, (1000, 0));
        assert_eq!(expiries.take_due(wall(6000), LEEWAY, Tick(SECOND)), [0], "forward");
        add(&mut expiries, 0, 5000, (4000, 0));
        assert_eq!(expiries.take_due(wall(1000), LEEWAY, Tick(SECOND)), NONE, "back");
        assert_eq!(expiries.take_due(wall(5000), Duration::ZERO, Tick(2 * SECOND)), [0], "leeway changed");
    }

    #[test]
    fn what_ended_is_forgotten() {
        let mut expiries = Expiries::default();
        for slot in 0..10 {
            add(&mut expiries, slot, 1000, (900, 0));
        }
        add(&mut expiries, 7, 2000, (900, 0));
        (0..5).for_each(|slot| expiries.forget(slot));
        expiries.forget(4);
        expiries.forget(77);
        assert_eq!(expiries.waiting, 5);
        assert_eq!(expiries.take_due(wall(1030), LEEWAY, Tick(0)), [5, 6, 8, 9]);
        expiries.forget(7);
        assert_eq!((expiries.waiting, expiries.seconds.capacity()), (0, 0));
    }

    #[test]
    fn a_crowd_is_taken_in_parts() {
        let mut expiries = Expiries::default();
        let crowd = EXPIRIES_PER_TURN as u32 + 3;
        for slot in 0..crowd {
            add(&mut expiries, slot, 1000, (900, 0));
        }
        assert_eq!(expiries.take_due(wall(2000), LEEWAY, Tick(0)).len(), EXPIRIES_PER_TURN);
        assert_eq!(expiries.ticks_left(Tick(0)), Some(1));
        assert_eq!(expiries.take_due(wall(2000), LEEWAY, Tick(1)), [crowd - 3, crowd - 2, crowd - 1]);
        assert_eq!(expiries.ticks_left(Tick(1)), None);
    }
}
