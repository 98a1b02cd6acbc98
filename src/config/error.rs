//! Why a configuration was refused, in one line.

use std::fmt;

/// A configuration that cannot be used: where it is wrong and why.
///
/// Displayed on one line, as `place: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    key: Option<&'static str>,
    message: String,
}

impl ConfigError {
    /// Something other than a key is wrong, at `place` (a file, a variable).
    pub(crate) fn new(place: impl Into<String>, message: impl fmt::Display) -> ConfigError {
        ConfigError { place: place.into(), key: None, message: one_line(&message.to_string()) }
    }

    /// The value of `key` is wrong.
    pub(crate) fn key(key: &'static str, message: impl fmt::Display) -> ConfigError {
        ConfigError { place: key.to_owned(), key: Some(key), message: one_line(&message.to_string()) }
    }

    /// The same error, at the place the value came from.
    pub(crate) fn at(self, place: impl Into<String>) -> ConfigError {
        ConfigError { place: place.into(), ..self }
    }

    /// The key whose value is wrong, if it is one.
    pub fn key_name(&self) -> Option<&'static str> {
        self.key
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Values are quoted in messages: a line break in one must not make two lines.
fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
