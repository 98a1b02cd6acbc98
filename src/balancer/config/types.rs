//! Types of a balancer's configuration values.

use std::fmt;
use std::str::FromStr;

use crate::config::words;

/// How a new client's backend is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// The less loaded of two taken at random.
    RandomTwo,
    /// Always the same one for a client's address.
    IpHash,
    /// Always the same one for a user.
    UserHash,
}

/// Whether connections begin with a PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// They begin with HTTP.
    Off,
    /// They begin with a header of version 2, which is binary.
    V2,
}

words!(Strategy {
    RoundRobin = "round_robin",
    LeastConnections = "least_connections",
    RandomTwo = "random_two",
    IpHash = "ip_hash",
    UserHash = "user_hash"
});
words!(ProxyProtocol { Off = "off", V2 = "v2" });
