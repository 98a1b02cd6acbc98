//! Business made up by the node, so that a drain can be shown to lose nothing:
//! numbered messages at random intervals, and some more when the node leaves.

use super::Reactor;
use super::connection::{Endpoint, Phase};
use crate::clock::Tick;
use crate::protocol;

/// Most messages sent to a client when the node leaves; at least one is.
pub(super) const FINAL_MESSAGES: u32 = 10;

impl Reactor {
    /// Called for each row once per pass: sends so often that the mean
    /// interval is the configured one.
    pub(super) fn simulate(&mut self, slot: u32) {
        let mean = Tick::count(self.config.simulate_interval).max(1);
        let due = fastrand::u32(0..mean) < self.sweep.pass_ticks();
        let hub =
            self.table.get(slot).is_some_and(|row| row.phase == Phase::Open && row.endpoint == Endpoint::Hub);
        if due && hub && self.closing.is_none() {
            self.send_business(slot);
        }
    }

    /// Sends the next numbered message.
    pub(super) fn send_business(&mut self, slot: u32) {
        let Some(row) = self.table.get(slot) else { return };
        row.sequence += 1;
        let sequence = row.sequence;
        let data = business_data();
        self.answer_with(slot, |out, at| protocol::write_business(out, sequence, at, &data));
    }
}

/// A random string or a small random object, as JSON.
fn business_data() -> String {
    let word = |length| std::iter::repeat_with(fastrand::alphanumeric).take(length).collect::<String>();
    match fastrand::bool() {
        true => format!("\"{}\"", word(fastrand::usize(8..64))),
        false => format!(
            r#"{{"order":"{}","quantity":{},"price_cents":{}}}"#,
            word(12),
            fastrand::u32(1..100),
            fastrand::u32(1..100_000)
        ),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn business_is_valid_json() {
        for _ in 0..200 {
            let data = super::business_data();
            assert!(serde_json::from_str::<serde_json::Value>(&data).is_ok(), "{data}");
        }
    }
}
