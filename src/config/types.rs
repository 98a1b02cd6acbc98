//! Types of configuration values that std does not have.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many new connections in any window of this length, written `100/60`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRate {
    /// Connections admitted in one window, at least 1.
    pub connections: u32,
    /// Length of the window, whole seconds, at least one.
    pub window: Duration,
}

impl FromStr for AddressRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not connections/seconds, such as 100/60");
        let (connections, seconds) = text.split_once('/').ok_or_else(wrong)?;
        let connections = connections.trim().parse().map_err(|_| wrong())?;
        let seconds = seconds.trim();
        let seconds = seconds.strip_suffix('s').unwrap_or(seconds).parse().map_err(|_| wrong())?;
        Ok(AddressRate { connections, window: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for AddressRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.connections, self.window.as_secs())
    }
}

/// What happens to a client that owes us the reading of `outbound_bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// The message that does not fit is dropped and counted.
    DropNewest,
    /// The connection is closed.
    Disconnect,
}

/// How clients show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// They do not: the query's `user_id` is believed.
    None,
    /// By a token that an issuer has signed.
    Jwt,
}

/// Whether something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// Which of a node's two listeners speak TLS, where there is a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsListener {
    /// Both.
    Both,
    /// That of HTTP and WebSockets.
    Http,
    /// That of WebSockets at any path.
    Ws,
}

impl TlsListener {
    /// Whether the listener for HTTP does.
    pub fn has_http(self) -> bool {
        self != TlsListener::Ws
    }

    /// Whether the listener for WebSockets at any path does.
    pub fn has_ws(self) -> bool {
        self != TlsListener::Http
    }
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `time LEVEL target: message`.
    Text,
    /// One JSON object a line.
    Json,
}

/// Gives a type that is one word out of a few its `FromStr` and `Display`.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($type::$variant),)+
                    _ => Err(format!("{text:?} is not one of {}", [$($word),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($type::$variant => $word),+ })
            }
        }
    };
}

pub(crate) use words;

words!(SlowConsumer { DropNewest = "drop-newest", Disconnect = "disconnect" });
words!(Auth { None = "none", Jwt = "jwt" });
words!(Permission { Allow = "allow", Deny = "deny" });
words!(TlsListener { Both = "both", Http = "http", Ws = "ws" });
words!(LogFormat { Text = "text", Json = "json" });

/// A value that is never printed: `Debug` shows `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    /// The secret itself, for the comparison that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_rates() {
        let rate =
            |connections, seconds| Ok(AddressRate { connections, window: Duration::from_secs(seconds) });
        let check = |text: &str, expected: Result<AddressRate, ()>| {
            assert_eq!(text.parse::<AddressRate>().map_err(drop), expected, "{text:?}");
        };
        check("100/60", rate(100, 60));
        check("1/1s", rate(1, 1));
        check(" 5 / 2 ", rate(5, 2));
        for wrong in ["", "100", "/60", "100/", "-1/60", "1/x", "1/2/3", "4294967296/1", "1/1m"] {
            check(wrong, Err(()));
        }
    }

    #[test]
    fn words_are_exact_and_the_error_lists_them() {
        assert_eq!("drop-newest".parse(), Ok(SlowConsumer::DropNewest));
        let error = "Drop".parse::<SlowConsumer>().expect_err("not a word");
        assert_eq!(error, r#""Drop" is not one of drop-newest, disconnect"#);
        assert_eq!(LogFormat::Json.to_string(), "json");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "*** Some(\n    ***,\n)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
