//! Types of a balancer's configuration values.

use std::fmt;
use std::str::FromStr;

use crate::config::words;

pub use crate::balancer::pick::Strategy;

/// Whether connections begin with a PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// They begin with HTTP.
    Off,
    /// They begin with a header of version 2, which is binary.
    V2,
}

words!(ProxyProtocol { Off = "off", V2 = "v2" });
