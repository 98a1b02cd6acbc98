//! Clients' messages that went to several nodes at once, and of which some
//! copies came back.
//!
//! Owns [`Copies`] and [`Attempt`]. A copy that comes back says little while
//! another may have been delivered. Only when every one has come back did the
//! message reach nobody. What is delivered costs nothing here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cluster::message::Stray;
use crate::cluster::wire::TRIES_MAX;
use crate::limits::{CLUSTER_UNHEARD, STRAY_BYTES, STRAYS};

/// Nodes that can be written to at once so that it is known when none of them
/// had the user.
const COPIES_MAX: usize = 16;

const TRIES_BITS: u32 = 2;

const _: () = assert!((COPIES_MAX - 1) << TRIES_BITS <= TRIES_MAX as usize);

/// How long the other copies are waited for: longer than it takes to find out
/// that a node does not hear.
const PATIENCE: Duration = Duration::from_secs(2).saturating_add(CLUSTER_UNHEARD);

/// Between two looks for what was waited for in vain.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What a message takes along in [`Stray::tries`] and brings back. Nobody but
/// the node that sent it reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// How often it came back before.
    pub(super) tries: usize,
    /// To how many nodes it was sent.
    pub(super) copies: usize,
}

impl Attempt {
    /// As it travels; `None` for what is not to come back: so many copies
    /// cannot be counted.
    pub(super) fn pack(self) -> Option<u8> {
        let fits = (1..=COPIES_MAX).contains(&self.copies) && self.tries < 1 << TRIES_BITS;
        fits.then(|| ((self.copies - 1) << TRIES_BITS | self.tries) as u8)
    }

    /// What [`Attempt::pack`] gave.
    pub(super) fn unpack(byte: u8) -> Attempt {
        let byte = usize::from(byte.min(TRIES_MAX));
        Attempt { tries: byte & ((1 << TRIES_BITS) - 1), copies: (byte >> TRIES_BITS) + 1 }
    }
}

/// By what the copies of one message are known to be that. Two messages that
/// are alike in all of it are not told apart, and need not be.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    sender: u64,
    attempt: u8,
    user: Box<str>,
    payload: Box<[u8]>,
}

/// From which nodes how many copies have come back.
#[derive(Debug)]
struct Waiting {
    back: Vec<(Box<str>, u32)>,
    until: Instant,
}

/// See the module. Bounded in number and in bytes.
#[derive(Debug, Default)]
pub(super) struct Copies {
    waiting: HashMap<Key, Waiting>,
    bytes: usize,
    sweep_at: Option<Instant>,
}

impl Copies {
    /// A copy came back from a node, if it is known which: one of several has to
    /// be somebody's. Whether that was the last one.
    pub(super) fn came_back(&mut self, node: Option<&str>, stray: &Stray, now: Instant) -> bool {
        let copies = Attempt::unpack(stray.tries).copies;
        if copies == 1 {
            return true;
        }
        let Some(node) = node else { return false };
        let key = Key {
            sender: stray.sender.as_u64(),
            attempt: stray.tries,
            user: stray.user.clone(),
            payload: stray.frame.payload().into(),
        };
        let bytes = key.payload.len();
        if !self.waiting.contains_key(&key) {
            if self.waiting.len() >= STRAYS || self.bytes + bytes > STRAY_BYTES {
                return false;
            }
            self.bytes += bytes;
            self.sweep_at.get_or_insert(now + SWEEP_INTERVAL);
        }
        let waiting = self.waiting.entry(key).or_insert(Waiting { back: Vec::new(), until: now + PATIENCE });
        match waiting.back.iter_mut().find(|(known, _)| **known == *node) {
            Some((_, count)) => *count += 1,
            None => waiting.back.push((node.into(), 1)),
        }
        if waiting.back.len() < copies {
            return false;
        }
        waiting.back.retain_mut(|(_, count)| {
            *count -= 1;
            *count > 0
        });
        self.forget(|waiting| waiting.back.is_empty());
        true
    }

    /// Forgets whose other copies do not come back.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.forget(|waiting| waiting.until <= now);
            self.sweep_at = (!self.waiting.is_empty()).then_some(now + SWEEP_INTERVAL);
        }
    }

    /// When [`Copies::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sweep_at
    }

    fn forget(&mut self, is_over: impl Fn(&Waiting) -> bool) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|key, waiting| {
            let stays = !is_over(waiting);
            *bytes -= if stays { 0 } else { key.payload.len() };
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConnId, ReactorId};
    use crate::ws::frame::Frame;

    fn stray(text: &str, copies: usize) -> Stray {
        let tries = Attempt { tries: 0, copies }.pack().expect("few copies");
        let (frame, sender) = (Frame::text(text.as_bytes()), ConnId::new(ReactorId(0), 1, 1));
        Stray { user: "bob".into(), frame, sender, tries }
    }

    #[test]
    fn attempts_travel_in_a_byte() {
        for tries in 0..4 {
            for copies in 1..=COPIES_MAX {
                let attempt = Attempt { tries, copies };
                assert_eq!(attempt.pack().map(Attempt::unpack), Some(attempt));
            }
        }
        assert_eq!(Attempt { tries: 2, copies: 1 }.pack(), Some(2), "one alone is only counted");
        assert_eq!(Attempt { tries: 0, copies: COPIES_MAX + 1 }.pack(), None);
        assert_eq!(Attempt { tries: 4, copies: 1 }.pack(), None);
        assert_eq!(Attempt::unpack(u8::MAX), Attempt { tries: 3, copies: COPIES_MAX });
    }

    #[test]
    fn a_message_is_back_when_every_copy_is() {
        let now = Instant::now();
        let mut copies = Copies::default();
        assert!(
            copies.came_back(Some("b"), &stray("x", 1), now) && copies.came_back(None, &stray("x", 1), now)
        );
        assert!(!copies.came_back(None, &stray("x", 3), now));
        assert!(!copies.came_back(Some("b"), &stray("x", 3), now));
        assert!(!copies.came_back(Some("c"), &stray("y", 3), now), "another message");
        assert!(!copies.came_back(Some("c"), &stray("x", 3), now));
        assert!(copies.came_back(Some("d"), &stray("x", 3), now));
        assert!(!copies.came_back(Some("d"), &stray("x", 3), now), "that one is done");
    }

    #[test]
    fn messages_that_are_alike_are_counted_by_node() {
        let now = Instant::now();
        let mut copies = Copies::default();
        for _ in 0..3 {
            assert!(
                !copies.came_back(Some("b"), &stray("x", 2), now),
                "the other node may have delivered each"
            );
        }
        assert!(copies.came_back(Some("c"), &stray("x", 2), now));
        assert!(copies.came_back(Some("c"), &stray("x", 2), now));
        assert_eq!(copies.waiting.len(), 1);
        assert!(copies.came_back(Some("c"), &stray("x", 2), now));
        assert_eq!((copies.waiting.len(), copies.bytes), (0, 0));
        assert!(!copies.came_back(Some("c"), &stray("x", 2), now));
    }

    #[test]
    fn what_waits_for_others_is_bounded_in_number_in_bytes_and_in_time() {
        let now = Instant::now();
        let mut copies = Copies::default();
        for n in 0..STRAYS + 5 {
            copies.came_back(Some("b"), &stray(&n.to_string(), 2), now);
        }
        assert_eq!(copies.waiting.len(), STRAYS);
        assert!(
            !copies.came_back(Some("c"), &stray(&(STRAYS + 1).to_string(), 2), now),
            "it is not remembered"
        );
        copies.handle_timeout(now + SWEEP_INTERVAL);
        assert_eq!(copies.waiting.len(), STRAYS);
        copies.handle_timeout(now + SWEEP_INTERVAL + PATIENCE);
        assert_eq!((copies.waiting.len(), copies.bytes, copies.deadline()), (0, 0, None));
        let large = "x".repeat(STRAY_BYTES / 2 + 1);
        assert!(!copies.came_back(Some("b"), &stray(&large, 2), now));
        assert!(!copies.came_back(Some("b"), &stray(&large, 3), now));
        assert_eq!(copies.waiting.len(), 1);
    }
}
