//! The words in which health is spoken of: what is told to it and what it says.

use std::time::{Duration, Instant};

/// How patient health is; from the configuration. No time is longer than [`TIME_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Good checks in a row that bring a backend up.
    pub rise: u32,
    /// Failed checks in a row that take it down.
    pub fall: u32,
    /// From a tenth of the weight to all of it; 0: at once.
    pub slow_start: Duration,
    /// The first ejection.
    pub ejection_min: Duration,
    /// The longest ejection.
    pub ejection_max: Duration,
}

/// The longest time in [`Timings`], so that arithmetic with it cannot overflow.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Whether a backend takes new connections, and if not why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known of it yet.
    Checking,
    /// It takes its share.
    Up,
    /// It takes less than its share, and more by and by.
    SlowStart,
    /// It is leaving: it keeps what it has.
    Draining,
    /// Connections to it failed; it is tried again later.
    Ejected,
    /// Checks say that it does not work.
    Down,
}

impl State {
    /// The name shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            State::Checking => "checking",
            State::Up => "up",
            State::SlowStart => "slow_start",
            State::Draining => "draining",
            State::Ejected => "ejected",
            State::Down => "down",
        }
    }

    /// Whether it takes new connections.
    pub fn takes(self) -> bool {
        matches!(self, State::Up | State::SlowStart)
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It answered with this status.
    Status(u16),
    /// Nobody listens there.
    Refused,
    /// It did not answer, or not so that it could be understood: why.
    Failed(String),
    /// The balancer could not ask, for want of descriptors or memory, which
    /// says nothing of the backend: why.
    NotMade(String),
}

impl Checked {
    /// Whether the backend is ready.
    pub fn is_good(&self) -> bool {
        matches!(self, Checked::Status(200..=299))
    }
}

/// What became of connections to the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// One could not be opened.
    ConnectFailed(String),
    /// One was opened and the handshake failed.
    HandshakeFailed(String),
    /// A handshake succeeded.
    Connected,
    /// These many broke, none of them older than this.
    Lost(u32, Duration),
}

/// What is around the backend when something happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The time.
    pub now: Instant,
    /// The configuration.
    pub timings: &'a Timings,
    /// Whether another backend takes connections.
    pub another_takes: bool,
    /// Whether another has taken its full share for as long as a slow start.
    pub another_is_warm: bool,
}
