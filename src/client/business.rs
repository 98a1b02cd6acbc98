//! The business a client makes up: numbered messages that the server echoes.
//! What is not confirmed when a connection is lost is sent again on the next.
//!
//! Never reads a clock or draws random numbers: both are passed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// `type` of the messages.
pub(super) const KIND: &str = "client_business";

/// Messages that may be without an answer; no more are made until there is room.
pub const UNCONFIRMED_MAX: usize = 32;

/// What messages to make up, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Between two messages; their mean distance if `random`.
    pub interval: Duration,
    /// At random times, of random strings and JSON objects.
    pub random: bool,
    /// How many; `None`: without end.
    pub messages: Option<u64>,
}

/// What an answer of the server confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// A message that waited for it.
    First,
    /// One that was confirmed already.
    Again,
    /// None of this client's.
    Unknown,
}

/// One connection's business.
#[derive(Clone, Debug)]
pub(super) struct Business {
    plan: Plan,
    name: String,
    due: Option<Instant>,
    sent: u64,
    /// Number and text, oldest first.
    unconfirmed: VecDeque<(u64, String)>,
}

impl Business {
    pub(super) fn new(plan: Plan, name: String) -> Self {
        Business { plan, name, due: None, sent: 0, unconfirmed: VecDeque::new() }
    }

    /// A connection is open: what has to be sent again. The next new message
    /// is due an interval from now.
    pub(super) fn opened(&mut self, now: Instant, random: f64) -> impl Iterator<Item = &str> {
        self.due = Some(now + self.pause(random));
        self.unconfirmed.iter().map(|(_, text)| text.as_str())
    }

    /// The connection is gone: nothing is due.
    pub(super) fn closed(&mut self) {
        self.due = None;
    }

    /// When [`Business::poll`] wants to be called; `None` while there is
    /// nothing to send or no room.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let room = self.unconfirmed.len() < UNCONFIRMED_MAX && !self.all_sent();
        self.due.filter(|_| room)
    }

    /// The next message, if it is due.
    pub(super) fn poll(&mut self, now: Instant, random: f64, data: impl FnOnce() -> Value) -> Option<String> {
        self.deadline().filter(|due| *due <= now)?;
        self.due = Some(now + self.pause(random));
        self.sent += 1;
        let data = if self.plan.random { data() } else { json!(format!("message {}", self.sent)) };
        let text = json!({"type": KIND, "client": self.name, "seq": self.sent, "data": data}).to_string();
        self.unconfirmed.push_back((self.sent, text.clone()));
        Some(text)
    }

    /// The server answered a message.
    pub(super) fn confirmed(&mut self, seq: u64) -> Confirmed {
        if let Some(at) = self.unconfirmed.iter().position(|(number, _)| *number == seq) {
            self.unconfirmed.remove(at);
            return Confirmed::First;
        }
        if (1..=self.sent).contains(&seq) { Confirmed::Again } else { Confirmed::Unknown }
    }

    /// Every message sent was confirmed.
    pub(super) fn is_settled(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    /// All the messages of the plan were sent and confirmed.
    pub(super) fn is_done(&self) -> bool {
        self.all_sent() && self.is_settled()
    }

    fn all_sent(&self) -> bool {
        self.plan.messages.is_some_and(|messages| self.sent >= messages)
    }

    fn pause(&self, random: f64) -> Duration {
        if self.plan.random { self.plan.interval.mul_f64(2.0 * random) } else { self.plan.interval }
    }
}

/// A random string or a small random object.
pub(super) fn random_data() -> Value {
    let word = |length| std::iter::repeat_with(fastrand::alphanumeric).take(length).collect::<String>();
    if fastrand::bool() {
        return json!(word(fastrand::usize(8..64)));
    }
    json!({"request": word(12), "priority": fastrand::u32(1..10), "amount": fastrand::u32(1..100_000)})
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn business(messages: Option<u64>) -> (Business, Instant) {
        let now = Instant::now();
        let plan = Plan { interval: SECOND, random: false, messages };
        (Business::new(plan, "alice".to_owned()), now)
    }

    fn send(business: &mut Business, now: Instant) -> Option<String> {
        business.poll(now, 0.5, || json!("unused"))
    }

    #[test]
    fn a_message_is_made_each_interval_while_open() {
        let (mut business, now) = business(None);
        assert_eq!(business.deadline(), None, "not open");
        assert_eq!(business.opened(now, 0.5).count(), 0);
        assert_eq!(send(&mut business, now), None, "not due");
        let first = send(&mut business, now + SECOND).expect("due");
        let expected = json!({"type": KIND, "client": "alice", "seq": 1, "data": "message 1"});
        assert_eq!(serde_json::from_str::<Value>(&first).unwrap(), expected);
        assert_eq!(business.deadline(), Some(now + 2 * SECOND));
        business.closed();
        assert_eq!(business.deadline(), None);
    }

    #[test]
    fn what_is_not_confirmed_is_sent_again() {
        let (mut business, now) = business(None);
        business.opened(now, 0.5).count();
        let texts: Vec<String> = (1..4).map(|n| send(&mut business, now + n * SECOND).unwrap()).collect();
        assert_eq!(business.confirmed(2), Confirmed::First);
        assert_eq!(business.confirmed(2), Confirmed::Again);
        assert_eq!(business.confirmed(4), Confirmed::Unknown);
        assert_eq!(business.confirmed(0), Confirmed::Unknown);
        business.closed();
        let again: Vec<&str> = business.opened(now, 0.5).collect();
        assert_eq!(again, [&texts[0], &texts[2]]);
    }

    #[test]
    fn without_answers_no_more_are_made() {
        let (mut business, mut now) = business(None);
        business.opened(now, 0.5).count();
        let mut made = 0;
        for _ in 0..100 {
            now += SECOND;
            made += usize::from(send(&mut business, now).is_some());
        }
        assert_eq!((made, business.deadline()), (UNCONFIRMED_MAX, None));
        business.confirmed(1);
        assert!(send(&mut business, now).is_some());
    }

    #[test]
    fn a_plan_ends_when_all_is_confirmed() {
        let (mut business, now) = business(Some(2));
        business.opened(now, 0.5).count();
        send(&mut business, now + SECOND);
        send(&mut business, now + 2 * SECOND);
        assert_eq!((business.deadline(), business.is_done()), (None, false));
        business.confirmed(1);
        business.confirmed(2);
        assert!(business.is_done() && business.is_settled());
    }

    #[test]
    fn random_times_have_the_interval_as_their_mean() {
        let plan = Plan { interval: SECOND, random: true, messages: None };
        let business = Business::new(plan, String::new());
        assert_eq!((business.pause(0.0), business.pause(0.5)), (Duration::ZERO, SECOND));
    }
}
