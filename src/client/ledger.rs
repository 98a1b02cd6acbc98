//! What one connection's user saw: what was announced and received, gaps,
//! duplicates, reconnects, time away.
//!
//! Never touches a socket or a clock: it is told what happened and when.
//! Sums over many connections are [`Summary`]'s.

use std::time::{Duration, Instant};

use super::summary::Summary;

/// Instances told apart by name in one ledger; further ones are counted only.
const INSTANCES_MAX: usize = 64;

/// What a server that leaves says will still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Messages that follow the notice.
    pub messages: u32,
    /// Number of the last of them.
    pub last_seq: u32,
}

/// A numbered message beside those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The one that was due.
    Next,
    /// So many are missing before it.
    Gap(u64),
    /// It, or a later one, was there already.
    Duplicate,
}

/// The books of one connection, over all its lives.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    sums: Summary,
    /// The last number received in this life of the connection; each life
    /// counts from 1.
    last_seq: u32,
    announced: Option<Announced>,
    open: bool,
    away_since: Option<Instant>,
}

impl Ledger {
    /// Nothing has happened.
    pub fn new() -> Self {
        Ledger { sums: Summary { connections: 1, ..Summary::default() }, ..Ledger::default() }
    }

    /// A connection is being opened.
    pub fn attempt(&mut self) {
        self.sums.attempts += 1;
    }

    /// An attempt came to nothing.
    pub fn failed(&mut self) {
        self.sums.failures += 1;
    }

    /// The server will never take this connection.
    pub fn refused(&mut self) {
        self.sums.refused += 1;
    }

    /// The connection is open; how long it had been away, if it was open before.
    pub fn opened(&mut self, now: Instant) -> Option<Duration> {
        self.open = true;
        self.last_seq = 0;
        self.announced = None;
        self.sums.opened += 1;
        self.sums.ever_open = 1;
        let away = now.saturating_duration_since(self.away_since.take()?);
        self.sums.reconnects += 1;
        self.sums.add_away(away);
        Some(away)
    }

    /// Whether it was ever open.
    pub fn was_open(&self) -> bool {
        self.sums.ever_open > 0
    }

    /// A server said which instance it is.
    pub fn welcomed(&mut self, instance: &str) {
        let instances = &mut self.sums.instances;
        if let Some(times) = instances.get_mut(instance) {
            *times += 1;
        } else if instances.len() < INSTANCES_MAX {
            instances.insert(instance.to_owned(), 1);
        }
    }

    /// A message came.
    pub fn message(&mut self, bytes: usize) {
        self.sums.messages += 1;
        self.sums.bytes += bytes as u64;
    }

    /// The server said that it leaves, and what it will still send.
    pub fn notice(&mut self, announced: Option<Announced>) {
        self.sums.notices += 1;
        if let (None, Some(announced)) = (self.announced, announced) {
            self.sums.announced += u64::from(announced.messages);
            self.announced = Some(announced);
        }
    }

    /// A numbered message came.
    pub fn numbered(&mut self, seq: u32) -> Place {
        self.sums.numbered += 1;
        if seq <= self.last_seq {
            self.sums.duplicates += 1;
            return Place::Duplicate;
        }
        let missing = u64::from(seq - self.last_seq - 1);
        self.last_seq = seq;
        if self.announced.is_some_and(|announced| announced.covers(seq)) {
            self.sums.announced_received += 1;
        }
        if missing == 0 {
            return Place::Next;
        }
        self.sums.gaps += 1;
        self.sums.lost += missing;
        Place::Gap(missing)
    }

    /// The connection is gone; of what was announced, what did not come after
    /// the last that did. `ours`: it was this side's wish, so there is no time
    /// away.
    pub fn closed(&mut self, ours: bool, now: Instant) -> u64 {
        if !std::mem::take(&mut self.open) {
            return 0;
        }
        self.away_since = (!ours).then_some(now);
        let last = self.announced.take().map_or(0, |announced| announced.last_seq);
        let missing = u64::from(last.saturating_sub(self.last_seq));
        self.sums.lost += missing;
        missing
    }

    /// A message of this side was sent, for the first time or again.
    pub fn sent(&mut self, again: bool) {
        self.sums.sent += u64::from(!again);
        self.sums.repeated += u64::from(again);
    }

    /// The server confirmed a message of this side: for the first time, or once more.
    pub fn confirmed(&mut self, once_more: bool) {
        self.sums.confirmed += u64::from(!once_more);
        self.sums.duplicates += u64::from(once_more);
    }

    /// Messages that were accepted for sending went with the connection.
    pub fn unsent(&mut self, messages: u64) {
        self.sums.unsent += messages;
    }

    /// The sums so far, an absence that lasts included.
    pub fn summary(&self, now: Instant) -> Summary {
        let mut sums = self.sums.clone();
        if let Some(since) = self.away_since {
            sums.add_away(now.saturating_duration_since(since));
        }
        sums
    }
}

impl Announced {
    /// Whether the message of this number is one of those that follow the notice.
    fn covers(self, seq: u32) -> bool {
        seq <= self.last_seq && seq > self.last_seq.saturating_sub(self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn open() -> (Ledger, Instant) {
        let start = Instant::now();
        let mut ledger = Ledger::new();
        ledger.attempt();
        assert_eq!(ledger.opened(start), None, "it was never away");
        (ledger, start)
    }

    /// Numbers in the order they come; what is lost and doubled in the end.
    fn check(numbers: &[u32], announced: Option<(u32, u32)>, lost: u64, gaps: u64, duplicates: u64) {
        let (mut ledger, start) = open();
        ledger.notice(announced.map(|(messages, last_seq)| Announced { messages, last_seq }));
        for seq in numbers {
            ledger.numbered(*seq);
        }
        ledger.closed(false, start);
        let sums = ledger.summary(start);
        assert_eq!((sums.lost, sums.gaps, sums.duplicates), (lost, gaps, duplicates), "{numbers:?}");
        assert_eq!(sums.is_complete(), lost == 0);
    }

    #[test]
    fn what_was_announced_has_to_come() {
        check(&[1, 2, 3], Some((3, 3)), 0, 0, 0);
        check(&[1, 2], Some((3, 3)), 1, 0, 0);
        check(&[], Some((10, 15)), 15, 0, 0);
        check(&[1, 3], Some((3, 3)), 1, 1, 0);
        check(&[1, 4], Some((5, 6)), 4, 1, 0);
        check(&[1, 2, 2, 1, 3], None, 0, 0, 2);
        check(&[3], None, 2, 1, 0);
        check(&[], None, 0, 0, 0);
    }

    #[test]
    fn announced_messages_are_counted_by_number() {
        let (mut ledger, start) = open();
        for seq in 1..=4 {
            assert_eq!(ledger.numbered(seq), Place::Next);
        }
        ledger.notice(Some(Announced { messages: 2, last_seq: 6 }));
        ledger.notice(Some(Announced { messages: 9, last_seq: 99 }));
        ledger.numbered(5);
        assert_eq!(ledger.numbered(7), Place::Gap(1));
        assert_eq!(ledger.numbered(7), Place::Duplicate);
        let sums = ledger.summary(start);
        assert_eq!((sums.notices, sums.announced, sums.announced_received, sums.numbered), (2, 2, 1, 7));
    }

    #[test]
    fn each_life_counts_from_one() {
        let (mut ledger, start) = open();
        ledger.numbered(1);
        ledger.numbered(2);
        ledger.closed(false, start);
        ledger.opened(start);
        assert_eq!(ledger.numbered(1), Place::Next);
        assert_eq!(ledger.summary(start).lost, 0);
    }

    #[test]
    fn time_away_is_from_the_loss_to_the_next_opening() {
        let (mut ledger, start) = open();
        ledger.closed(false, start + SECOND);
        assert_eq!(ledger.closed(false, start + 2 * SECOND), 0, "it was gone already");
        assert_eq!(ledger.opened(start + 4 * SECOND), Some(3 * SECOND));
        ledger.closed(false, start + 10 * SECOND);
        let sums = ledger.summary(start + 11 * SECOND);
        assert_eq!((sums.away, sums.longest_away), (4 * SECOND, 3 * SECOND), "the present absence counts");
        ledger.opened(start + 15 * SECOND);
        ledger.closed(true, start + 16 * SECOND);
        let sums = ledger.summary(start + 99 * SECOND);
        assert_eq!((sums.away, sums.longest_away, sums.reconnects), (8 * SECOND, 5 * SECOND, 2));
    }

    #[test]
    fn instances_are_bounded() {
        let (mut ledger, start) = open();
        for n in 0..1000 {
            ledger.welcomed(&format!("node-{n}"));
            ledger.welcomed("node-0");
        }
        let sums = ledger.summary(start);
        assert_eq!((sums.instances.len(), sums.instances["node-0"]), (64, 1001));
    }

    #[test]
    fn extreme_numbers_do_no_harm() {
        let (mut ledger, start) = open();
        ledger.notice(Some(Announced { messages: u32::MAX, last_seq: u32::MAX }));
        ledger.numbered(u32::MAX);
        ledger.numbered(u32::MAX);
        ledger.numbered(0);
        ledger.closed(false, start);
    }
}
