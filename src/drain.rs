//! When a node leaves: the order of events, without the events.
//!
//! Owns: [`Drain`], a state machine `Serving → LameDuck → Closing → Aborting →
//! Drained`. It is told what happens and when, and answers with what is to be
//! done; it never reads a clock, touches a socket or ends a process.
//!
//! * lame duck: readiness fails, everything is still served, so that load
//!   balancers have time to notice;
//! * closing: every client is told, what is owed is sent, close frames go out
//!   spread over the window;
//! * aborting: the deadline passed; who has not answered is cut off.

use std::time::{Duration, Instant};

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Serving; ready for more.
    Serving,
    /// Serving, but no longer ready.
    LameDuck,
    /// Connections are being closed, new ones refused.
    Closing,
    /// What is left is being cut off.
    Aborting,
    /// Nothing is left.
    Drained,
}

impl Phase {
    /// The name shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Serving => "serving",
            Phase::LameDuck => "lame_duck",
            Phase::Closing => "closing",
            Phase::Aborting => "aborting",
            Phase::Drained => "drained",
        }
    }

    /// The phase with this discriminant; `Drained` for any other number.
    pub fn from_u8(number: u8) -> Phase {
        let phases = [Phase::Serving, Phase::LameDuck, Phase::Closing, Phase::Aborting];
        phases.get(usize::from(number)).copied().unwrap_or(Phase::Drained)
    }
}

/// How long each part may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// From the signal to the first notice.
    pub lame_duck: Duration,
    /// Over which the close frames are spread, from the notice on.
    pub window: Duration,
    /// From the notice to the cut.
    pub timeout: Duration,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Readiness is to fail; everything is still served.
    FailReadiness,
    /// Every reactor is to tell its clients and close them over the window.
    CloseConnections,
    /// Every reactor is to cut off what is left.
    Abort,
    /// All reactors are done.
    Finish,
}

/// The coordinator's view of a drain.
#[derive(Debug)]
pub struct Drain {
    phase: Phase,
    plan: Plan,
    deadline: Option<Instant>,
    reactors_left: usize,
    reactors: usize,
}

/// After the cut, how long reactors may take to say that they are done.
const ABORT_GRACE: Duration = Duration::from_secs(2);

impl Drain {
    /// A node of `reactors` reactors that is serving.
    pub fn new(reactors: usize) -> Self {
        let plan = Plan { lame_duck: Duration::ZERO, window: Duration::ZERO, timeout: Duration::ZERO };
        Drain { phase: Phase::Serving, plan, deadline: None, reactors_left: reactors, reactors }
    }

    /// Where the node is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The times of the drain that has begun; none before.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// A request to drain. The first begins it; later ones change nothing.
    pub fn handle_request(&mut self, plan: Plan, now: Instant) -> Option<Action> {
        if self.phase != Phase::Serving {
            return None;
        }
        self.plan = plan;
        self.phase = Phase::LameDuck;
        self.deadline = Some(now + plan.lame_duck);
        Some(Action::FailReadiness)
    }

    /// A reactor holds no WebSocket any more. Counted while closing or aborting only.
    pub fn handle_drained(&mut self) -> Option<Action> {
        if !matches!(self.phase, Phase::Closing | Phase::Aborting) {
            return None;
        }
        self.reactors_left = self.reactors_left.saturating_sub(1);
        (self.reactors_left == 0).then(|| self.finish())
    }

    /// The time returned by [`Drain::poll_deadline`] has come.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return None;
        }
        match self.phase {
            Phase::LameDuck => {
                self.phase = Phase::Closing;
                self.reactors_left = self.reactors;
                self.deadline = Some(now + self.plan.timeout);
                Some(Action::CloseConnections)
            }
            Phase::Closing => {
                self.phase = Phase::Aborting;
                self.deadline = Some(now + ABORT_GRACE);
                Some(Action::Abort)
            }
            Phase::Aborting => Some(self.finish()),
            Phase::Serving | Phase::Drained => None,
        }
    }

    /// When [`Drain::handle_timeout`] wants to be called.
    pub fn poll_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn finish(&mut self) -> Action {
        self.phase = Phase::Drained;
        self.deadline = None;
        Action::Finish
    }
}

/// When a connection's close frame is due, from the notice on: spread evenly
/// over the window, the same for the same connection, unlike its neighbours'.
pub fn close_offset(connection: u64, seed: u64, window: Duration) -> Duration {
    // SplitMix64's finaliser: consecutive ids land far apart.
    let mut hash = connection.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    let window_ms = window.as_millis().min(u128::from(u32::MAX)) as u64;
    Duration::from_millis(((u128::from(hash) * u128::from(window_ms)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        lame_duck: Duration::from_secs(3),
        window: Duration::from_secs(10),
        timeout: Duration::from_secs(25),
    };

    fn begun(reactors: usize) -> (Drain, Instant) {
        let start = Instant::now();
        let mut drain = Drain::new(reactors);
        assert_eq!(drain.handle_request(PLAN, start), Some(Action::FailReadiness));
        (drain, start)
    }

    #[test]
    fn a_drain_runs_through_its_phases() {
        let (mut drain, start) = begun(2);
        let second = Duration::from_secs(1);
        assert_eq!(drain.handle_drained(), None, "nobody was asked yet");
        assert_eq!(drain.handle_timeout(start + 2 * second), None, "still a lame duck");
        assert_eq!(drain.handle_timeout(start + 3 * second), Some(Action::CloseConnections));
        assert_eq!(drain.poll_deadline(), Some(start + 28 * second));
        assert_eq!(drain.handle_drained(), None);
        assert_eq!(drain.handle_drained(), Some(Action::Finish));
        assert_eq!((drain.phase(), drain.poll_deadline()), (Phase::Drained, None));
    }

    #[test]
    fn who_does_not_answer_is_cut_off_at_the_deadline() {
        let (mut drain, start) = begun(1);
        let closing = start + PLAN.lame_duck;
        drain.handle_timeout(closing);
        assert_eq!(drain.handle_timeout(closing + PLAN.timeout), Some(Action::Abort));
        assert_eq!(drain.phase(), Phase::Aborting);
        assert_eq!(drain.handle_timeout(closing + PLAN.timeout), None, "it is given time to report");
        assert_eq!(drain.handle_timeout(closing + PLAN.timeout + ABORT_GRACE), Some(Action::Finish));
    }

    #[test]
    fn a_second_request_changes_nothing() {
        let (mut drain, start) = begun(1);
        let hasty = Plan { lame_duck: Duration::ZERO, ..PLAN };
        assert_eq!(drain.handle_request(hasty, start), None);
        assert_eq!(drain.poll_deadline(), Some(start + PLAN.lame_duck));
    }

    #[test]
    fn closes_are_spread_evenly_over_the_window() {
        let window = Duration::from_secs(10);
        let mut seconds = [0; 10];
        for connection in 0..10_000 {
            let offset = close_offset(connection, 99, window);
            assert_eq!(offset, close_offset(connection, 99, window));
            seconds[offset.as_secs() as usize] += 1;
        }
        assert!(seconds.iter().all(|count| (850..1150).contains(count)), "{seconds:?}");
        assert_eq!(close_offset(7, 7, Duration::ZERO), Duration::ZERO);
    }
}
