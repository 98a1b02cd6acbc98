//! A backend as an operator writes it: `HOST:PORT[,weight=N][,max=N]`.
//!
//! Owns: [`Spec`], its reading and its writing. Never: what a host name stands for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The weights a backend can have.
pub const WEIGHTS: RangeInclusive<u32> = 1..=1000;

/// A host name, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// What an operator says of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// A host name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
    /// Its share of the connections, one of [`WEIGHTS`].
    pub weight: u32,
    /// Connections it takes at most, at least 1; `None`: unlimited.
    pub max_connections: Option<u32>,
}

/// What is wrong with a written backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError(String);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

fn wrong(what: impl Into<String>) -> SpecError {
    SpecError(what.into())
}

impl Spec {
    /// `HOST:PORT`, an IPv6 address in brackets: how the backend is called.
    pub fn name(&self) -> String {
        name(&self.host, self.port)
    }

    /// The address, unless the host is a name that has to be resolved.
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(super) fn name(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if self.weight != 1 {
            write!(f, ",weight={}", self.weight)?;
        }
        match self.max_connections {
            Some(max) => write!(f, ",max={max}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Spec {
    type Err = SpecError;

    /// # Errors
    /// Says what is wrong and what would be right.
    fn from_str(text: &str) -> Result<Spec, SpecError> {
        let mut parts = text.trim().split(',');
        let (host, port) = split_host(parts.next().unwrap_or_default())?;
        let mut spec = Spec { host, port, weight: 1, max_connections: None };
        let (mut weight_seen, mut max_seen) = (false, false);
        for option in parts {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let (key, value) = (key.trim(), value.trim());
            let seen = match key {
                "weight" => &mut weight_seen,
                "max" => &mut max_seen,
                _ => return Err(wrong(format!("{key:?} is not known, only weight=N and max=N are"))),
            };
            if std::mem::replace(seen, true) {
                return Err(wrong(format!("{key} is given twice")));
            }
            match key {
                "weight" => spec.weight = number(key, value, WEIGHTS)?,
                _ => spec.max_connections = Some(number(key, value, 1..=u32::MAX - 1)?),
            }
        }
        Ok(spec)
    }
}

fn number(key: &str, value: &str, range: RangeInclusive<u32>) -> Result<u32, SpecError> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| wrong(format!("{key} is from {} to {}, not {value:?}", range.start(), range.end())))
}

/// Splits `HOST:PORT` or `[ADDRESS]:PORT`.
fn split_host(text: &str) -> Result<(String, u16), SpecError> {
    let text = text.trim();
    if text.contains("://") {
        return Err(wrong(format!("{text:?} has a scheme, HOST:PORT is wanted")));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(format!("{text:?} has no port")))?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| wrong(format!("{text:?} does not end in a port from 1 to 65535")))?;
    Ok((check_host(host)?, port))
}

/// An address or a host name; an IPv6 address loses its brackets.
fn check_host(host: &str) -> Result<String, SpecError> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return match address {
            Some(address) => Ok(address.to_string()),
            None => Err(wrong(format!("{host:?} is not an IPv6 address in brackets"))),
        };
    }
    if host.contains(':') {
        return Err(wrong(format!("{host:?} looks like an IPv6 address, which is written in brackets")));
    }
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    match !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(named) {
        true => Ok(host.to_owned()),
        false => Err(wrong(format!("{host:?} is not a host name or address"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, u32, Option<u32>), &str>) {
        let spec = text.parse::<Spec>();
        match (spec, expected) {
            (Ok(spec), Ok((name, weight, max))) => {
                assert_eq!((&*spec.name(), spec.weight, spec.max_connections), (name, weight, max), "{text}");
                assert_eq!(spec.to_string().parse(), Ok(spec), "{text} is read as it is written");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (spec, expected) => panic!("{text}: {spec:?}, not {expected:?}"),
        }
    }

    #[test]
    fn what_operators_write() {
        check("node-1:8080", Ok(("node-1:8080", 1, None)));
        check(" 10.0.0.1:1,weight=1000,max=5 ", Ok(("10.0.0.1:1", 1000, Some(5))));
        check("[2001:DB8::1]:65535, max = 7", Ok(("[2001:db8::1]:65535", 1, Some(7))));
        check("a.b_c.svc:80,max=1,weight=2", Ok(("a.b_c.svc:80", 2, Some(1))));
    }

    #[test]
    fn what_is_wrong_is_said() {
        check("", Err("no port"));
        check("node", Err("no port"));
        check("node:", Err("port from 1"));
        check("node:0", Err("port from 1"));
        check("node:65536", Err("port from 1"));
        check(":80", Err("not a host name"));
        check("no de:80", Err("not a host name"));
        check("http://node:80", Err("scheme"));
        check("::1:80", Err("brackets"));
        check("[::1:80", Err("brackets"));
        check("[node]:80", Err("brackets"));
        check("n:1,weight=0", Err("weight is from 1 to 1000"));
        check("n:1,weight=1001", Err("weight is from 1 to 1000"));
        check("n:1,weight", Err("weight is from 1 to 1000"));
        check("n:1,max=0", Err("max is from 1"));
        check("n:1,max=4294967295", Err("max is from 1"));
        check("n:1,weight=2,weight=2", Err("twice"));
        check("n:1,colour=red", Err("colour"));
        check("n:1,", Err("not known"));
        check(&format!("{}:1", "n".repeat(254)), Err("not a host name"));
    }
}
