//! What a node is to the others.
//!
//! Owns: names, records and standings of nodes, and what can go wrong.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use redis::{ParsingError, RedisError, Value, from_redis_value};
use serde::Serialize;

/// One life of a node: who restarts has the same name and a higher incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Member {
    /// Id of the node.
    pub node: String,
    /// Which of its lives; larger is later.
    pub incarnation: u64,
}

impl Member {
    /// The life `incarnation` of `node`.
    pub fn new(node: impl Into<String>, incarnation: u64) -> Member {
        Member { node: node.into(), incarnation }
    }

    /// Reads a row: node, incarnation, node, incarnation, … An entry that is
    /// no text, or whose incarnation is no number, is nobody's.
    pub(super) fn read_row(row: Value) -> Result<Vec<Member>, ParsingError> {
        let row: Vec<(Vec<u8>, Vec<u8>)> = from_redis_value(row)?;
        let text = |bytes| String::from_utf8(bytes).ok();
        let member = |(node, incarnation)| Some(Member::new(text(node)?, text(incarnation)?.parse().ok()?));
        let mut members: Vec<Member> = row.into_iter().filter_map(member).collect();
        members.sort_unstable();
        Ok(members)
    }
}

/// Whether a node wants new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It does.
    Active,
    /// It does not, and will end.
    Draining,
}

impl Status {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Draining => "draining",
        }
    }
}

/// What a node says about itself when it becomes a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescription {
    /// Its name in the cluster.
    pub id: String,
    /// Where it is reached.
    pub address: String,
    /// Port of its HTTP listener.
    pub port: u16,
    /// Open WebSocket connections.
    pub connections: u64,
    /// Version of the program.
    pub version: String,
    /// Drawn by the process at its start: two with one name differ in it. 0 if
    /// it is not known.
    pub process: u64,
    /// Whether it wants new connections.
    pub status: Status,
}

/// A node as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// What it said when it registered; connections and status are of its last beat.
    pub node: NodeDescription,
    /// Which of its lives.
    pub incarnation: u64,
    /// How long ago the last beat was, by Redis's time.
    pub beat_age: Duration,
}

impl NodeRecord {
    /// Reads the fields of a record; `None` if there is none.
    pub(super) fn read(id: &str, fields: &HashMap<String, String>, now_ms: u64) -> Option<NodeRecord> {
        let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let beat_ms: u64 = fields.get("beat_ms")?.parse().ok()?;
        Some(NodeRecord {
            incarnation: fields.get("incarnation")?.parse().ok()?,
            beat_age: Duration::from_millis(now_ms.saturating_sub(beat_ms)),
            node: NodeDescription {
                id: id.to_owned(),
                address: text("address"),
                port: text("port").parse().unwrap_or(0),
                connections: text("connections").parse().unwrap_or(0),
                version: text("version"),
                process: text("process").parse().unwrap_or(0),
                // A status of a later version: it is not known to want connections.
                status: if text("status") == "active" { Status::Active } else { Status::Draining },
            },
        })
    }

    /// The life this is the record of.
    pub fn member(&self) -> Member {
        Member::new(self.node.id.clone(), self.incarnation)
    }
}

/// What a node's beat was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the registered one.
    Member,
    /// It was declared dead, or Redis has lost its record: it is to register
    /// itself and its users anew.
    Unknown,
    /// A newer incarnation is registered under its name: another process has
    /// the same id.
    Replaced {
        /// The other's incarnation.
        by: u64,
    },
}

impl Standing {
    /// `registered` is the incarnation in the record, 0 if there is none.
    pub(super) fn of(incarnation: u64, registered: u64) -> Standing {
        match registered {
            same if same == incarnation => Standing::Member,
            newer if newer > incarnation => Standing::Replaced { by: newer },
            // None, or the record of an earlier life: Redis went back in time, as a promoted replica can.
            _ => Standing::Unknown,
        }
    }
}

/// Why users were not registered.
#[derive(Debug)]
pub enum RegistryError {
    /// The incarnation is not a member (any more): it must register itself, then
    /// all its users. Some of the users may have been registered.
    NotMember,
    /// The connection's error or Redis's refusal.
    Redis(RedisError),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::NotMember => f.write_str("this node is not registered"),
            RegistryError::Redis(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RegistryError::NotMember => None,
            RegistryError::Redis(error) => Some(error),
        }
    }
}

impl From<RedisError> for RegistryError {
    fn from(error: RedisError) -> Self {
        RegistryError::Redis(error)
    }
}

impl From<ParsingError> for RegistryError {
    fn from(error: ParsingError) -> Self {
        RegistryError::Redis(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings() {
        let check = |registered: u64, expected: Standing| {
            assert_eq!(Standing::of(7, registered), expected, "{registered}");
        };
        check(7, Standing::Member);
        check(0, Standing::Unknown);
        check(6, Standing::Unknown);
        check(8, Standing::Replaced { by: 8 });
    }

    #[test]
    fn rows() {
        let check = |row: &[&str], expected: &[(&str, u64)]| {
            let row = row.iter().map(|text| Value::BulkString(text.as_bytes().to_vec())).collect();
            let expected: Vec<_> = expected.iter().map(|(node, life)| Member::new(*node, *life)).collect();
            assert_eq!(Member::read_row(Value::Array(row)), Ok(expected));
        };
        check(&[], &[]);
        check(&["b", "7", "a", "9007199254740992"], &[("a", 1 << 53), ("b", 7)]);
        check(&["a", "soon", "b", "-1", "c", "3"], &[("c", 3)]);
    }

    #[test]
    fn records() {
        let fields = |given: &[(&str, &str)]| {
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let whole: HashMap<_, _> = fields(&[
            ("incarnation", "7"),
            ("address", "10.0.0.1"),
            ("port", "8080"),
            ("connections", "3"),
            ("version", "1.2"),
            ("process", "18446744073709551615"),
            ("status", "active"),
            ("beat_ms", "1000"),
        ]);
        let record = NodeRecord::read("a", &whole, 1500).expect("a record");
        assert_eq!((record.member(), record.beat_age), (Member::new("a", 7), Duration::from_millis(500)));
        assert_eq!(record.node.status, Status::Active);
        assert_eq!((record.node.port, record.node.connections), (8080, 3));
        assert_eq!(record.node.process, u64::MAX);
        // Redis's clock was set back.
        assert_eq!(NodeRecord::read("a", &whole, 1).expect("a record").beat_age, Duration::ZERO);
        assert_eq!(NodeRecord::read("a", &fields(&[]), 1), None);
        assert_eq!(NodeRecord::read("a", &fields(&[("incarnation", "x"), ("beat_ms", "1")]), 1), None);
        let bare = NodeRecord::read("a", &fields(&[("incarnation", "1"), ("beat_ms", "1")]), 1);
        let bare = bare.expect("a record").node;
        assert_eq!((bare.status, bare.process), (Status::Draining, 0));
    }
}
