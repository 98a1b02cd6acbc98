//! Why a connection to Redis, or a command on it, failed.

use std::fmt;

use redis::{ErrorKind, RedisError};

use super::Address;

/// Why a connection to Redis, or one command on it, failed. The text is for
/// operators and holds no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// Something given by the operator cannot be used, such as the CA file.
    Settings(String),
    /// No connection came about.
    Unreachable(String),
    /// The server did not answer in time. Whether it did what was asked is
    /// not known.
    TimedOut(String),
    /// The connection broke. Whether the server did what was asked is not
    /// known.
    Lost(String),
    /// The server does not accept the credentials, or the user may not do this.
    Refused(String),
    /// The server is not, or no longer, the one to ask: a replica, or a
    /// channel's slot is elsewhere.
    NotMaster(String),
    /// The server cannot serve at the moment: it is loading, or its cluster is
    /// incomplete or being changed.
    Unavailable(String),
    /// The command itself failed.
    Command {
        /// First word of the server's error, such as `NOSCRIPT` or `ERR`.
        code: String,
        /// The rest of it.
        detail: String,
    },
}

impl LinkError {
    /// Whether the connection is of no use any more, so that a new one is to
    /// be opened. `false`: only the command failed.
    pub fn ends_connection(&self) -> bool {
        match self {
            LinkError::Settings(_)
            | LinkError::Unreachable(_)
            | LinkError::TimedOut(_)
            | LinkError::Lost(_)
            | LinkError::NotMaster(_) => true,
            LinkError::Refused(_) | LinkError::Unavailable(_) | LinkError::Command { .. } => false,
        }
    }

    /// The error of a connection to `address` that exists.
    pub(super) fn from_redis(address: &Address, error: &RedisError) -> LinkError {
        if error.is_timeout() {
            return LinkError::TimedOut(format!("{address} did not answer in time"));
        }
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let code = error.code().unwrap_or("ERR");
                LinkError::from_reply(address, code, error.detail().unwrap_or_default())
            }
            _ => LinkError::Lost(format!("{address}: {}", text(error))),
        }
    }

    /// The error of a connection to `address` that did not come about.
    pub(super) fn from_connecting(address: &Address, error: &RedisError) -> LinkError {
        match error.kind() {
            _ if error.is_timeout() => LinkError::TimedOut(format!("{address} did not accept in time")),
            _ => LinkError::Unreachable(format!("{address}: {}", text(error))),
        }
    }

    /// The error that a server answered with.
    pub(super) fn from_reply(address: &Address, code: &str, detail: &str) -> LinkError {
        let text = || format!("{address}: {code} {detail}");
        match code {
            "READONLY" | "MOVED" | "ASK" => LinkError::NotMaster(text()),
            "LOADING" | "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" | "BUSY" => LinkError::Unavailable(text()),
            "NOAUTH" | "WRONGPASS" | "NOPERM" => LinkError::Refused(text()),
            _ => LinkError::Command { code: code.to_owned(), detail: detail.to_owned() },
        }
    }
}

/// The crate's text: its description and detail, without `- ` between them.
fn text(error: &RedisError) -> String {
    error.to_string().replace("- ", "")
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Settings(text)
            | LinkError::Unreachable(text)
            | LinkError::TimedOut(text)
            | LinkError::Lost(text)
            | LinkError::Refused(text)
            | LinkError::NotMaster(text)
            | LinkError::Unavailable(text) => f.write_str(text),
            LinkError::Command { code, detail } => write!(f, "{code} {detail}"),
        }
    }
}

impl std::error::Error for LinkError {}
