//! Sending at a steady rate, whatever has arrived. Owns the schedule; never sends.

const NS_PER_SECOND: u64 = 1_000_000_000;

/// When each message of a steady stream is due. One that is late does not make those after it late: what a slow
/// server holds up is sent regardless, and its waiting shows.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: u64,
    began: u64,
    sent: u64,
}

impl Pace {
    /// `per_second` messages a second, at least 1, the first at `now`. Times are in nanoseconds.
    pub(crate) fn new(per_second: u32, now: u64) -> Pace {
        Pace { per_second: u64::from(per_second.max(1)), began: now, sent: 0 }
    }

    /// When the next message is due.
    pub(crate) fn next(&self) -> u64 {
        // Split, so that the product cannot overflow in a lifetime.
        let (seconds, rest) = (self.sent / self.per_second, self.sent % self.per_second);
        self.began + seconds * NS_PER_SECOND + rest * NS_PER_SECOND / self.per_second
    }

    /// Takes the message that is due; which one of the stream it is, from 0.
    pub(crate) fn take(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream() {
        let check = |per_second: u32, taken: u64, due: u64| {
            let mut pace = Pace::new(per_second, 5);
            (0..taken).for_each(|number| assert_eq!(pace.take(), number));
            assert_eq!(pace.next(), 5 + due, "{taken} at {per_second}/s");
        };
        check(10_000, 0, 0);
        check(10_000, 1, 100_000);
        check(3, 1, 333_333_333);
        check(3, 3, NS_PER_SECOND);
        check(3, 7, 2 * NS_PER_SECOND + 333_333_333);
        check(0, 2, 2 * NS_PER_SECOND);
    }
}
