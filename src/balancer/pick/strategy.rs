//! The names of the strategies.

use std::fmt;
use std::str::FromStr;

/// How backends are picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// One after the other, by weight.
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// The less loaded of two found by chance.
    RandomTwo,
    /// By the client's address.
    IpHash,
    /// By the user's id; by the address of a client without one.
    UserHash,
}

impl Strategy {
    /// All there are.
    pub const ALL: [Strategy; 5] = [
        Strategy::RoundRobin,
        Strategy::LeastConnections,
        Strategy::RandomTwo,
        Strategy::IpHash,
        Strategy::UserHash,
    ];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::RoundRobin => "round_robin",
            Strategy::LeastConnections => "least_connections",
            Strategy::RandomTwo => "random_two",
            Strategy::IpHash => "ip_hash",
            Strategy::UserHash => "user_hash",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no strategy of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownStrategy;

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a strategy is one of ")?;
        let names = Strategy::ALL.map(Strategy::name);
        f.write_str(&names.join(", "))
    }
}

impl std::error::Error for UnknownStrategy {}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Strategy, UnknownStrategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.name() == text).ok_or(UnknownStrategy)
    }
}
