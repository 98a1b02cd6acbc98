//! What values are made of: text to numbers, sizes and networks, and back to TOML.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use log::LevelFilter;

use crate::limits::REACTORS_MAX;

/// One reactor per core this process may use (affinity and cgroup quota count).
pub(crate) fn reactors_default() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(REACTORS_MAX))
}

/// The largest value of an unsigned integer type.
pub(super) fn largest<T>() -> u64 {
    u64::MAX >> (64 - 8 * size_of::<T>())
}

/// The one part of a scalar, without the white space around it.
pub(crate) fn one(parts: &[String]) -> Result<&str, String> {
    match parts {
        [part] => Ok(part.trim()),
        _ => Err(format!("takes one value, not {}", parts.len())),
    }
}

pub(super) fn parse<T: FromStr>(text: &str, expected: impl Display) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not {expected}"))
}

/// A network in CIDR notation, or one address; bits of the host are cleared.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let wrong = |_| format!("{text:?} is not a network, such as 10.0.0.0/8, or an address");
    network.map(|network| network.trunc()).map_err(wrong)
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is not a size, such as 512B, 64KiB or 1MiB");
    let bytes = text.parse::<ByteSize>().map_err(|_| wrong())?.as_u64();
    // The parser saturates; nothing here can be that large.
    if bytes == u64::MAX { Err(wrong()) } else { usize::try_from(bytes).map_err(|_| wrong()) }
}

/// A size as it is written in the configuration, exact.
pub(crate) fn size_text(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// A duration as it is written in the configuration, exact.
pub(crate) fn duration_text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A string in TOML.
pub(crate) fn quoted(text: impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}

pub(crate) fn array<T: ToString>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(T::to_string).map(quoted).collect::<Vec<_>>().join(", "))
}

/// Reads `log_level`: a level for everything, and `target=level` pairs for
/// parts of the program, separated by commas.
///
/// # Errors
/// What is not a level or a pair, in one line.
pub fn log_levels(text: &str) -> Result<Vec<(Option<&str>, LevelFilter)>, String> {
    let level = |word: &str| {
        word.trim().parse::<LevelFilter>().map_err(|_| {
            format!("{word:?} is not a log level: off, error, warn, info, debug, trace, or target=level")
        })
    };
    text.split(',')
        .map(|part| match part.split_once('=') {
            None => Ok((None, level(part)?)),
            Some((target, word)) if !target.trim().is_empty() => Ok((Some(target.trim()), level(word)?)),
            Some(_) => Err(format!("{part:?} has no target before =")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_level_filters() {
        let check = |text: &str, expected: Result<Vec<(Option<&str>, LevelFilter)>, ()>| {
            assert_eq!(log_levels(text).map_err(drop), expected, "{text:?}");
        };
        check("info", Ok(vec![(None, LevelFilter::Info)]));
        check(
            "WARN, throng::ws = debug",
            Ok(vec![(None, LevelFilter::Warn), (Some("throng::ws"), LevelFilter::Debug)]),
        );
        for wrong in ["", "loud", "=info", "a=b=c", "info,", "throng=", "info/x"] {
            check(wrong, Err(()));
        }
    }
}
