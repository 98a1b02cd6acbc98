//! What a client is to do.

use std::path::PathBuf;
use std::time::Duration;

use super::backoff::Policy;
use super::business::Plan;
use super::target::Target;
use super::token::Token;

/// Most connections of one client.
pub const CONNECTIONS_MAX: u32 = 1_000_000;

/// What stands for a connection's number in a name or user id.
pub(super) const NUMBER: &str = "%n";

/// Options of a client. [`Options::new`] has what suits most.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub target: Target,
    /// How many connections to keep, at most [`CONNECTIONS_MAX`].
    pub connections: u32,
    /// Name of the client, sent as `name` in the query. With several
    /// connections each is numbered, where `%n` stands or at the end.
    pub name: Option<String>,
    /// User of all connections, sent as `user_id` in the query; `%n` stands
    /// for a connection's number.
    pub user_id: Option<String>,
    /// Sent as `Authorization` with each handshake, if there is one. A crate that
    /// logs requests (`tungstenite` does at level `trace`) shows it.
    pub token: Option<Token>,
    /// Certificates to trust for `wss://`, as PEM, instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// Business to make up, if any.
    pub business: Option<Plan>,
    /// How long to wait between attempts.
    pub backoff: Policy,
    /// Go on trying whatever the server answers.
    pub keep_trying: bool,
    /// For a connection to an address and the handshake on it, each.
    pub connect_timeout: Duration,
    /// A server that was silent for so long is asked for a sign of life, and
    /// given up after as long again.
    pub heartbeat: Duration,
    /// For the closing handshake, and before it for what is not confirmed yet.
    pub close_timeout: Duration,
    /// The longest message that is taken or sent, in bytes.
    pub message_bytes_max: usize,
    /// The most that may wait to be sent on one connection, in bytes. A
    /// message beyond it is refused.
    pub outbound_bytes_max: usize,
    /// Whether each message is an event, too. What it means is counted in any case.
    pub message_events: bool,
}

impl Options {
    /// One connection without a name to `target`.
    pub fn new(target: Target) -> Self {
        Options {
            target,
            connections: 1,
            name: None,
            user_id: None,
            token: None,
            ca_file: None,
            business: None,
            backoff: Policy::default(),
            keep_trying: false,
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
            close_timeout: Duration::from_secs(3),
            message_bytes_max: 16 << 20,
            outbound_bytes_max: 1 << 20,
            message_events: true,
        }
    }

    /// Name of the connection with this number, from 1.
    pub fn name_of(&self, number: u32) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(match name.contains(NUMBER) {
            true => name.replace(NUMBER, &number.to_string()),
            false if self.connections > 1 => format!("{name}-{number}"),
            false => name.clone(),
        })
    }

    /// Path and query that the connection with this number, from 1, asks for.
    pub fn path_of(&self, number: u32) -> String {
        let user = self.user_id.as_ref().map(|user| user.replace(NUMBER, &number.to_string()));
        let name = self.name_of(number);
        let user = user.as_deref().map(|user| ("user_id", user));
        self.target.path_with(user.into_iter().chain(name.as_deref().map(|name| ("name", name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_numbered() {
        let check = |connections, name: Option<&str>, user: Option<&str>, expected: &str| {
            let options = Options {
                connections,
                name: name.map(str::to_owned),
                user_id: user.map(str::to_owned),
                ..Options::new("ws://host/ws".parse().unwrap())
            };
            assert_eq!(options.path_of(7), expected);
        };
        check(1, None, None, "/ws");
        check(1, Some("a"), None, "/ws?name=a");
        check(9, Some("a"), Some("u"), "/ws?user_id=u&name=a-7");
        check(9, Some("a%nb"), Some("u%n"), "/ws?user_id=u7&name=a7b");
        check(1, Some("a%n"), None, "/ws?name=a7");
    }
}
