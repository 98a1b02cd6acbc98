//! The table of keys: each key's name, documentation, default and codec stand
//! here once. `--help`, `--print-config` and `docs/configuration.md` are
//! written from it.

use super::Config;
use super::value::{self, Codec, Shape};

/// One configuration key.
pub struct Key {
    /// Name in the file; `THRONG_` and it in capitals is the variable.
    pub name: &'static str,
    /// Heading it is listed under.
    pub section: &'static str,
    /// What it does, for operators; sentences.
    pub doc: &'static str,
    /// Name of the flag without its dashes; `None`: it is no flag.
    pub flag: Option<&'static str>,
    /// A variable without prefix that is read too, below `THRONG_…`.
    pub plain_variable: Option<&'static str>,
    /// Whether it may be given in the file.
    pub in_file: bool,
    /// Whether a reload changes it; otherwise only a restart does.
    pub live: bool,
    /// Stands for a value in `--help`.
    pub form: &'static str,
    /// How many parts a value has.
    pub shape: Shape,
    default: Option<&'static str>,
    read: fn(&mut Config, &[String]) -> Result<(), String>,
    write: fn(&Config) -> Option<String>,
    same: fn(&Config, &Config) -> bool,
    copy: fn(&mut Config, &Config),
}

impl Key {
    /// The key's environment variable.
    pub fn variable(&self) -> String {
        format!("THRONG_{}", self.name.to_ascii_uppercase())
    }

    /// The default as people read it, without TOML's quotes and brackets.
    pub fn default_text(&self) -> String {
        if let Some(text) = self.default {
            return text.to_owned();
        }
        match self.write(&Config::default()).as_deref() {
            None => "not set".to_owned(),
            Some("[]" | "{}") => "none".to_owned(),
            Some(text) => text.trim_matches('"').to_owned(),
        }
    }

    /// Reads a value into `config`; the error says what was expected.
    pub(super) fn read(&self, config: &mut Config, parts: &[String]) -> Result<(), String> {
        (self.read)(config, parts)
    }

    /// The value in TOML; `None` when it is not set or secret.
    pub(super) fn write(&self, config: &Config) -> Option<String> {
        (self.write)(config)
    }

    pub(super) fn is_same(&self, one: &Config, other: &Config) -> bool {
        (self.same)(one, other)
    }

    pub(super) fn copy(&self, to: &mut Config, from: &Config) {
        (self.copy)(to, from);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The key called `name` in the file.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key nearest to a mistyped name, if one is near.
pub(super) fn nearest(name: &str) -> Option<&'static Key> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let likeness = |key: &&Key| strsim::normalized_damerau_levenshtein(key.name, &name);
    KEYS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|key| likeness(key) >= 0.6)
}

/// Writes a row of the table. The type of the field and of the codec must
/// agree;
/// what differs from the usual row stands at the end.
macro_rules! key {
    ($section:expr, $field:ident, $codec:ident, $live:expr, $flag:literal, $doc:literal $(, $($other:ident: $value:expr),+)?) => {
        Key {
            $($($other: $value,)+)?
            ..row(
                stringify!($field),
                $section,
                $doc,
                $flag,
                $live,
                &value::$codec,
                Access {
                    read: |config, parts| {
                        config.$field = (value::$codec.read)(parts)?;
                        Ok(())
                    },
                    write: |config| (value::$codec.write)(&config.$field),
                    same: |one, other| one.$field == other.$field,
                    copy: |to, from| to.$field.clone_from(&from.$field),
                },
            )
        }
    };
}

/// What a row does with its field.
struct Access {
    read: fn(&mut Config, &[String]) -> Result<(), String>,
    write: fn(&Config) -> Option<String>,
    same: fn(&Config, &Config) -> bool,
    copy: fn(&mut Config, &Config),
}

const fn row<T>(
    name: &'static str,
    section: &'static str,
    doc: &'static str,
    flag: &'static str,
    live: bool,
    codec: &Codec<T>,
    access: Access,
) -> Key {
    let Access { read, write, same, copy } = access;
    Key {
        name,
        section,
        doc,
        flag: Some(flag),
        plain_variable: None,
        in_file: true,
        live,
        form: codec.form,
        shape: codec.shape,
        default: None,
        read,
        write,
        same,
        copy,
    }
}

const LIVE: bool = true;
const RESTART: bool = false;

const LISTENING: &str = "Listening";
const IDENTITY: &str = "Identity";
const LIMITS: &str = "Limits";
const TIMEOUTS: &str = "Timeouts";
const POLICY: &str = "Policy";
const DRAIN: &str = "Drain";
const ADMINISTRATION: &str = "Administration";
const LOGGING: &str = "Logging";

/// Every key, in the order of the documentation.
pub static KEYS: &[Key] = &[
    key!(
        LISTENING, port, PORT, RESTART, "port",
        "TCP port of HTTP and of WebSockets at /ws and /echo; 0 takes a free one.",
        plain_variable: Some("PORT")
    ),
    key!(
        LISTENING,
        ws_port,
        WS_PORT,
        RESTART,
        "ws-port",
        "A second TCP port, which takes WebSockets at any path; 0 or off opens none, auto takes a free one."
    ),
    key!(
        LISTENING,
        bind,
        ADDRESS,
        RESTART,
        "bind",
        "Address to listen on: 0.0.0.0 is all of IPv4, :: is all of IPv6 and, where the system allows it, of IPv4 too."
    ),
    key!(
        LISTENING, reactors, REACTORS, RESTART, "reactors",
        "Threads that serve connections, each with a listener of its own; 1 to 255, or auto for one per core.",
        default: Some("auto")
    ),
    key!(
        LISTENING,
        private_fd_tables,
        SWITCH,
        RESTART,
        "private-fd-tables",
        "Give every reactor a descriptor table of its own, so that the limit on open files counts per reactor."
    ),
    key!(
        IDENTITY, node_id, OPTIONAL_TEXT, RESTART, "node-id",
        "Name of this node among the others: letters, digits and - _ . : up to 253. Unless set it is ip:port \
         as others reach it.",
        plain_variable: Some("NODE_ID")
    ),
    key!(
        IDENTITY, service_name, TEXT, RESTART, "service-name",
        "Name of the service, the first half of the display name.",
        plain_variable: Some("SERVICE_NAME")
    ),
    key!(IDENTITY, labels, LABELS, RESTART, "label", "Labels shown with the node's identity."),
    key!(
        LIMITS,
        max_connections,
        COUNT,
        LIVE,
        "max-connections",
        "WebSocket connections open at once; further ones are answered 503. 1 to 16777216."
    ),
    key!(
        LIMITS,
        connections_per_address,
        ADDRESS_RATE,
        LIVE,
        "connections-per-address",
        "New WebSocket connections of one client address (one /64 of IPv6) in so many seconds, written 100/60; \
         further ones are answered 429. off is no limit."
    ),
    key!(
        LIMITS,
        message_bytes_max,
        SIZE,
        LIVE,
        "message-bytes-max",
        "Largest message taken from a client, after inflating; a larger one closes the connection with 1009. \
         Up to 256MiB."
    ),
    key!(
        LIMITS,
        messages_per_second,
        RATE,
        LIVE,
        "messages-per-second",
        "Messages taken from one client in a second; 0 is no limit. Up to 65535."
    ),
    key!(
        LIMITS,
        outbound_bytes_max,
        SIZE,
        LIVE,
        "outbound-bytes-max",
        "Bytes owed to one client, beyond what the kernel holds, from which on it is a slow consumer. At least \
         message_bytes_max and 4KiB, up to 1GiB."
    ),
    key!(
        LIMITS,
        slow_consumer,
        SLOW_CONSUMER,
        LIVE,
        "slow-consumer",
        "What happens to a client that reads too slowly: drop-newest drops the message that does not fit, \
         disconnect closes the connection. Both are counted."
    ),
    key!(
        TIMEOUTS,
        handshake_timeout,
        DURATION,
        LIVE,
        "handshake-timeout",
        "From accepting a connection to the end of its request head. 10ms to 1h."
    ),
    key!(
        TIMEOUTS,
        heartbeat_interval,
        DURATION,
        LIVE,
        "heartbeat-interval",
        "Silence of a client after which it is sent a ping; 0s sends none and closes no silent connection. \
         10ms to 1day."
    ),
    key!(
        TIMEOUTS,
        heartbeat_timeout,
        DURATION,
        LIVE,
        "heartbeat-timeout",
        "Silence of a client after which its connection is closed; longer than heartbeat_interval."
    ),
    key!(
        POLICY,
        require_user_id,
        SWITCH,
        LIVE,
        "require-user-id",
        "Close WebSocket connections that name no user_id with 4001 instead of giving them an anonymous one."
    ),
    key!(
        POLICY,
        trusted_proxies,
        NETWORKS,
        LIVE,
        "trusted-proxy",
        "Networks of proxies whose X-Forwarded-For and X-Real-IP headers tell the client's address."
    ),
    key!(
        POLICY,
        allowed_origins,
        ORIGINS,
        LIVE,
        "allowed-origin",
        "Origins whose pages may connect, such as https://example.org; others are answered 403. None listed: all may."
    ),
    key!(
        POLICY,
        subprotocols,
        NAMES,
        LIVE,
        "subprotocol",
        "WebSocket subprotocols that are accepted, preferred first."
    ),
    key!(
        POLICY,
        compression,
        SWITCH,
        LIVE,
        "compression",
        "Agree to permessage-deflate, without context takeover, with new connections that offer it."
    ),
    key!(
        DRAIN,
        lame_duck,
        DURATION,
        LIVE,
        "lame-duck",
        "How long a draining node is not ready but still accepts, for load balancers to notice. Up to 1h."
    ),
    key!(
        DRAIN,
        drain_window,
        DURATION,
        LIVE,
        "drain-window",
        "Time over which a draining node spreads the ends of its connections, from the end of the lame duck. Up to 1h."
    ),
    key!(
        DRAIN,
        drain_timeout,
        DURATION,
        LIVE,
        "drain-timeout",
        "Time from the end of the lame duck after which connections that are left are cut; at least drain_window, \
         up to 2h."
    ),
    key!(
        DRAIN,
        simulate,
        SWITCH,
        LIVE,
        "simulate",
        "Send every client numbered business messages at random intervals, and 1 to 10 more at the drain, so that \
         a client can prove that it got them all."
    ),
    key!(
        DRAIN,
        simulate_interval,
        DURATION,
        LIVE,
        "simulate-interval",
        "Mean time between two simulated messages to one client. 1ms to 1h."
    ),
    key!(
        ADMINISTRATION, admin_token, SECRET, LIVE, "",
        "Bearer token of POST /api/send, /api/broadcast and /api/kick. It is given in the environment or with \
         admin_token_file, where other users of the machine do not see it. Without one these calls answer only a \
         loopback peer that sent no forwarding header.",
        flag: None, in_file: false
    ),
    key!(
        ADMINISTRATION,
        admin_token_file,
        PATH,
        LIVE,
        "admin-token-file",
        "File that holds admin_token, relative to the working directory; white space around it is ignored. It is read \
         again at a reload."
    ),
    key!(
        LOGGING,
        log_format,
        LOG_FORMAT,
        RESTART,
        "log-format",
        "Form of the log on stderr: text, or json for one object a line."
    ),
    key!(
        LOGGING,
        log_level,
        LOG_LEVEL,
        LIVE,
        "log-level",
        "What is logged: off, error, warn, info, debug or trace, and target=level for parts of the program, \
         separated by commas, such as info,throng::ws=debug."
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_has_one_row() {
        let fields = format!("{:#?}", Config::default());
        let is_field = |line: &&str| line.starts_with("    ") && line.as_bytes()[4].is_ascii_lowercase();
        let fields: BTreeSet<_> = fields
            .lines()
            .filter(is_field)
            .filter_map(|line| line.trim().split_once(':'))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(fields, KEYS.iter().map(|key| key.name).collect());
        assert_eq!(fields.len(), KEYS.len());
    }

    #[test]
    fn flags_are_the_names_in_the_singular() {
        for key in KEYS {
            let Some(flag) = key.flag else { continue };
            let name = key.name.replace('_', "-");
            let list = matches!(key.shape, Shape::List | Shape::Table);
            let singular = name.strip_suffix("ies").map(|stem| format!("{stem}y"));
            let singular = singular.or_else(|| name.strip_suffix('s').map(str::to_owned));
            assert_eq!(flag, if list { singular.expect("plural") } else { name });
        }
    }

    #[test]
    fn documentation_is_sentences() {
        for key in KEYS {
            assert!(key.doc.ends_with('.') && !key.doc.contains("  "), "{}", key.name);
        }
    }

    #[test]
    fn mistyped_names() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest(name).map(|key| key.name), expected, "{name}");
        };
        check("prot", Some("port"));
        check("MAX_CONNECTION", Some("max_connections"));
        check("heartbeat-intervall", Some("heartbeat_interval"));
        check("trusted_proxy", Some("trusted_proxies"));
        check("xyzzy", None);
    }
}
