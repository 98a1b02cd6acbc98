//! Checks that keys of all commands share; each refuses with the key's name.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::text::{duration_text as duration, size_text as size};
use super::{AddressRate, ConfigError, Secret, log_levels};

/// The most connections a configuration may ask for.
pub(crate) const MAX_CONNECTIONS_MAX: usize = 16 * 1024 * 1024;
/// The shortest timeout that leaves a peer a chance.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(10);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest item of a list, in bytes.
pub(crate) const ITEM_BYTES_MAX: usize = 256;

const LIST_ITEMS_MAX: usize = 256;
const TOKEN_BYTES_MAX: usize = 4096;

pub(crate) fn between<T: PartialOrd + Display>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ConfigError> {
    if value < least || value > most {
        return Err(ConfigError::key(key, format!("{value} is not between {least} and {most}")));
    }
    Ok(())
}

/// A certificate needs its key, and the other way round; authorities of clients need both.
pub(crate) fn tls(
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
    client_ca: &Option<PathBuf>,
) -> Result<(), ConfigError> {
    match (certificate, key, client_ca) {
        (Some(_), None, _) => Err(ConfigError::key("tls_cert", "needs tls_key as well")),
        (None, Some(_), _) => Err(ConfigError::key("tls_key", "needs tls_cert as well")),
        (None, None, Some(_)) => Err(ConfigError::key("tls_client_ca", "needs tls_cert and tls_key")),
        _ => Ok(()),
    }
}

pub(crate) fn sizes(key: &'static str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    if value < least || value > most {
        let message = format!("{} is not between {} and {}", size(value), size(least), size(most));
        return Err(ConfigError::key(key, message));
    }
    Ok(())
}

pub(crate) fn lasting(
    key: &'static str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    if value < least || value > most {
        let message =
            format!("{} is not between {} and {}", duration(value), duration(least), duration(most));
        return Err(ConfigError::key(key, message));
    }
    Ok(())
}

pub(crate) fn longer(
    key: &'static str,
    value: Duration,
    other_key: &str,
    other: Duration,
) -> Result<(), ConfigError> {
    if value <= other {
        let message = format!("{} is not longer than {other_key} ({})", duration(value), duration(other));
        return Err(ConfigError::key(key, message));
    }
    Ok(())
}

pub(crate) fn shorter(
    key: &'static str,
    value: Duration,
    other_key: &str,
    other: Duration,
) -> Result<(), ConfigError> {
    if value >= other {
        let message = format!("{} is not shorter than {other_key} ({})", duration(value), duration(other));
        return Err(ConfigError::key(key, message));
    }
    Ok(())
}

pub(crate) fn count(key: &'static str, items: usize) -> Result<(), ConfigError> {
    if items > LIST_ITEMS_MAX {
        return Err(ConfigError::key(key, format!("{items} items are more than {LIST_ITEMS_MAX}")));
    }
    Ok(())
}

/// A name that is shown to people and printed in logs.
pub(crate) fn plain(key: &'static str, name: &str) -> Result<(), ConfigError> {
    if name.trim().is_empty() || name.len() > ITEM_BYTES_MAX || name.chars().any(char::is_control) {
        let message = format!("{name:?} is not a name of 1 to {ITEM_BYTES_MAX} bytes of plain text");
        return Err(ConfigError::key(key, message));
    }
    Ok(())
}

/// `connections_per_address`: the limiter counts whole seconds.
pub(crate) fn address_rate(rate: Option<AddressRate>) -> Result<(), ConfigError> {
    let Some(rate) = rate else { return Ok(()) };
    let whole = rate.window.subsec_nanos() == 0;
    if rate.connections == 0 || !whole || rate.window.is_zero() || rate.window > HOUR {
        let message = format!("{rate} is not at least 1 connection in 1 to 3600 seconds");
        return Err(ConfigError::key("connections_per_address", message));
    }
    Ok(())
}

/// `lame_duck`, `drain_window` and `drain_timeout`.
pub(crate) fn drain(lame_duck: Duration, window: Duration, timeout: Duration) -> Result<(), ConfigError> {
    lasting("lame_duck", lame_duck, Duration::ZERO, HOUR)?;
    lasting("drain_window", window, Duration::ZERO, HOUR)?;
    lasting("drain_timeout", timeout, TIMEOUT_MIN, 2 * HOUR)?;
    if timeout < window {
        let message = format!("{} is shorter than drain_window ({})", duration(timeout), duration(window));
        return Err(ConfigError::key("drain_timeout", message));
    }
    Ok(())
}

/// `admin_token`: what a Bearer header can carry (RFC 6750, section 2.1).
pub(crate) fn admin_token(token: Option<&Secret>) -> Result<(), ConfigError> {
    let Some(token) = token.map(Secret::expose) else { return Ok(()) };
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        let message = format!("is not 1 to {TOKEN_BYTES_MAX} visible ASCII characters");
        return Err(ConfigError::key("admin_token", message));
    }
    Ok(())
}

/// `log_level`.
pub(crate) fn log_level(text: &str) -> Result<(), ConfigError> {
    log_levels(text).map(drop).map_err(|wrong| ConfigError::key("log_level", wrong))
}
