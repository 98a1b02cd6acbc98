//! The source's end of one stream.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::limits::{STREAM_REPAIR_BYTES, STREAM_RING_AGE, STREAM_TICK_MAX, STREAM_TICK_MIN};

/// A batch that may be asked for again.
#[derive(Debug)]
struct Kept {
    first: u64,
    /// The number after its last.
    end: u64,
    sent: Instant,
    /// Empty once it was taken back.
    batch: Bytes,
}

impl Kept {
    fn was_taken_back(&self) -> bool {
        self.batch.is_empty()
    }

    /// What keeping it costs.
    fn cost(&self) -> usize {
        self.batch.len() + size_of::<Kept>()
    }
}

/// When silence is to be broken.
#[derive(Debug)]
struct Silence {
    until: Instant,
    length: Duration,
}

/// Numbers a stream and keeps its last batches, up to a number of bytes and
/// for [`STREAM_RING_AGE`].
///
/// The batches in the ring follow each other without a gap and the last one
/// ends before `next`.
#[derive(Debug)]
pub struct Outgoing {
    next: u64,
    ring: VecDeque<Kept>,
    ring_bytes: usize,
    ring_bytes_max: usize,
    silence: Option<Silence>,
}

/// The answer to a request to send numbers again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Batches as they were sent, in order.
    pub batches: Vec<Bytes>,
    /// First and last number of what was asked for and is not kept any more.
    pub lost: Option<(u64, u64)>,
}

impl Outgoing {
    /// A new stream that keeps up to `ring_bytes_max` bytes.
    pub fn new(ring_bytes_max: usize) -> Self {
        Outgoing { next: 1, ring: VecDeque::new(), ring_bytes: 0, ring_bytes_max, silence: None }
    }

    /// The number of the next numbered envelope: with it the next batch, also
    /// an empty one, is to be sealed.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Bytes kept.
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// Keeps `batch`, sealed with [`Self::next`], of `count` numbered
    /// envelopes. Call it before the batch is sent, and whatever comes of the
    /// sending: a batch that got lost on this side is asked for like any other.
    pub fn sent(&mut self, batch: &Bytes, count: u32, now: Instant) {
        if count == 0 {
            return;
        }
        let (first, end) = (self.next, self.next + u64::from(count));
        self.next = end;
        let kept = Kept { first, end, sent: now, batch: batch.clone() };
        self.ring_bytes += kept.cost();
        self.ring.push_back(kept);
        while self.ring_bytes > self.ring_bytes_max {
            self.drop_oldest();
        }
        self.silence = Some(Silence { until: now + STREAM_TICK_MIN, length: STREAM_TICK_MIN });
        self.check_invariants();
    }

    /// What can be done about the receiver not having the numbers `from` to
    /// `to`; `to` may lie beyond what was sent. An answer has at most
    /// [`STREAM_REPAIR_BYTES`] of batches, or one batch: the receiver asks
    /// again for the rest. After the answer an empty batch is to be sent.
    pub fn resend(&self, from: u64, to: u64) -> Repair {
        let kept_from = self.ring.front().map_or(self.next, |oldest| oldest.first);
        let skipped = self.ring.partition_point(|kept| kept.end <= from);
        let taken_back = self.ring.range(skipped..).take_while(|kept| kept.was_taken_back());
        let (taken_back, lost_end) = taken_back.fold((0, kept_from), |(n, _), kept| (n + 1, kept.end));
        let lost_to = to.min(lost_end - 1);
        let lost = (from <= lost_to).then_some((from, lost_to));
        let mut bytes = 0;
        let rest = self.ring.range(skipped + taken_back..);
        let asked = rest.take_while(|kept| kept.first <= to && !kept.was_taken_back());
        let within = asked.take_while(|kept| {
            let is_first = bytes == 0;
            bytes += kept.batch.len();
            is_first || bytes <= STREAM_REPAIR_BYTES
        });
        Repair { batches: within.map(|kept| kept.batch.clone()).collect(), lost }
    }

    /// Takes back the batches from number `from` on: they are not sent again.
    pub fn take_back(&mut self, from: u64) -> impl Iterator<Item = Bytes> + '_ {
        let skipped = self.ring.partition_point(|kept| kept.first < from);
        let ring_bytes = &mut self.ring_bytes;
        let batches = self.ring.range_mut(skipped..).map(move |kept| {
            *ring_bytes -= kept.batch.len();
            std::mem::take(&mut kept.batch)
        });
        batches.filter(|batch| !batch.is_empty())
    }

    /// Lets go of what is too old to be asked for and says whether an empty
    /// batch is to be sent now, so that the receiver learns of a last batch
    /// that got lost.
    pub fn poll(&mut self, now: Instant) -> bool {
        while self.ring.front().is_some_and(|kept| now >= kept.sent + STREAM_RING_AGE) {
            self.drop_oldest();
        }
        let Some(silence) = self.silence.as_mut().filter(|silence| now >= silence.until) else {
            return false;
        };
        silence.length = (silence.length * 2).min(STREAM_TICK_MAX);
        silence.until = now + silence.length;
        true
    }

    /// When [`Self::poll`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let tick = self.silence.as_ref().map(|silence| silence.until);
        let age = self.ring.front().map(|kept| kept.sent + STREAM_RING_AGE);
        tick.into_iter().chain(age).min()
    }

    fn drop_oldest(&mut self) {
        if let Some(kept) = self.ring.pop_front() {
            self.ring_bytes -= kept.cost();
        }
        if self.ring.is_empty() {
            // A burst's space is not kept for ever.
            self.ring.shrink_to(16);
        }
    }

    fn check_invariants(&self) {
        debug_assert!(self.ring_bytes <= self.ring_bytes_max);
        debug_assert!(self.ring.back().is_none_or(|newest| newest.end == self.next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream whose batches have `counts` envelopes and `bytes` bytes.
    fn stream(ring_bytes_max: usize, bytes: usize, counts: &[u32], now: Instant) -> Outgoing {
        let mut outgoing = Outgoing::new(ring_bytes_max);
        for (n, count) in counts.iter().enumerate() {
            outgoing.sent(&Bytes::from(vec![n as u8; bytes]), *count, now);
        }
        outgoing
    }

    /// What the answer to `from..=to` begins its batches with, and its loss.
    fn answer(outgoing: &Outgoing, from: u64, to: u64) -> (Vec<u8>, Option<(u64, u64)>) {
        let repair = outgoing.resend(from, to);
        (repair.batches.iter().map(|batch| batch[0]).collect(), repair.lost)
    }

    #[test]
    fn what_is_kept_is_sent_again_and_the_rest_named() {
        // Numbers 1-2, 3, 4-6, 7 in batches 0 to 3, of which two fit.
        let now = Instant::now();
        let all = stream(4096, 100, &[2, 1, 3, 1], now);
        let few = stream(400, 100, &[2, 1, 3, 1], now);
        let check = |outgoing: &Outgoing, (from, to), batches: &[u8], lost| {
            assert_eq!(answer(outgoing, from, to), (batches.to_vec(), lost), "{from} to {to}");
        };
        check(&all, (1, u64::MAX), &[0, 1, 2, 3], None);
        check(&all, (2, 3), &[0, 1], None);
        check(&all, (5, 5), &[2], None);
        check(&all, (8, u64::MAX), &[], None);
        check(&few, (1, u64::MAX), &[2, 3], Some((1, 3)));
        check(&few, (2, 2), &[], Some((2, 2)));
        check(&few, (3, 4), &[2], Some((3, 3)));
        check(&few, (7, 7), &[3], None);
        check(&Outgoing::new(10), (1, u64::MAX), &[], None);
        // A batch too large for the ring is not kept at all.
        let none = stream(50, 100, &[2, 1], now);
        check(&none, (1, u64::MAX), &[], Some((1, 3)));
        assert_eq!((none.ring_bytes(), none.next()), (0, 4));
    }

    #[test]
    fn an_answer_is_bounded_and_never_empty_for_what_is_kept() {
        let now = Instant::now();
        let mib = 1 << 20;
        let small = stream(64 * mib, mib, &[1; 16], now);
        assert_eq!(small.resend(1, u64::MAX).batches.len(), STREAM_REPAIR_BYTES / mib);
        let large = stream(64 * mib, STREAM_REPAIR_BYTES + 1, &[1; 2], now);
        assert_eq!(answer(&large, 1, u64::MAX), (vec![0], None));
    }

    #[test]
    fn silence_is_broken_at_growing_intervals() {
        let start = Instant::now();
        let mut outgoing = Outgoing::new(4096);
        assert_eq!(outgoing.deadline(), None);
        assert!(!outgoing.poll(start), "nothing was sent, so nothing can be lost");
        outgoing.sent(&Bytes::from_static(b"x"), 1, start);
        let mut now = start;
        let mut expected = STREAM_TICK_MIN;
        for _ in 0..20 {
            assert!(!outgoing.poll(now));
            assert!(!outgoing.poll(now + expected - Duration::from_millis(1)));
            now += expected;
            assert!(outgoing.poll(now));
            expected = (expected * 2).min(STREAM_TICK_MAX);
        }
        // An empty batch is no news; a numbered one is.
        outgoing.sent(&Bytes::from_static(b"x"), 0, now);
        assert_eq!(outgoing.deadline(), Some(now + STREAM_TICK_MAX));
        outgoing.sent(&Bytes::from_static(b"x"), 1, now);
        assert_eq!(outgoing.deadline(), Some(now + STREAM_TICK_MIN));
    }

    #[test]
    fn what_nobody_asks_for_is_let_go() {
        let now = Instant::now();
        let mut outgoing = stream(4096, 100, &[2, 1], now);
        outgoing.poll(now + STREAM_RING_AGE);
        assert_eq!(outgoing.ring_bytes(), 0);
        assert_eq!(answer(&outgoing, 2, 9), (vec![], Some((2, 3))));
    }
}
