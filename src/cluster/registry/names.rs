//! The names of keys and channels in Redis.
//!
//! Owns: [`Names`]. In a Redis Cluster a script may only touch keys of one
//! slot; what stands between `{` and `}` decides on it. The keys that scripts
//! use together are those of one node, so a node's keys have its id there, and
//! each user has one key. Nodes and users so spread over all masters.

use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Longest prefix, in bytes.
pub const PREFIX_BYTES: usize = 64;

/// Braces in a node's id would move its keys to different slots.
const BRACES: &AsciiSet = &CONTROLS.add(b'{').add(b'}').add(b'%');

/// Names of keys and channels that begin with one prefix. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: Arc<str>,
}

/// A prefix that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPrefix;

impl fmt::Display for BadPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be 1 to {PREFIX_BYTES} letters, digits or any of . _ : -")
    }
}

impl std::error::Error for BadPrefix {}

impl Names {
    /// Names that begin with `prefix` and a colon.
    ///
    /// # Errors
    /// [`BadPrefix`] if it is empty, longer than [`PREFIX_BYTES`], or has other
    /// characters than ASCII letters, digits and `. _ : -`.
    pub fn new(prefix: &str) -> Result<Names, BadPrefix> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        if (1..=PREFIX_BYTES).contains(&prefix.len()) && prefix.bytes().all(is_allowed) {
            Ok(Names { prefix: prefix.into() })
        } else {
            Err(BadPrefix)
        }
    }

    /// Key, set: ids of the nodes, with or without a record.
    pub fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// Key, hash: the record of a node.
    pub fn node(&self, id: &str) -> String {
        format!("{}:node:{{{}}}", self.prefix, utf8_percent_encode(id, BRACES))
    }

    /// Key, hash: dead incarnations of a node whose users are not all swept.
    pub fn graves(&self, id: &str) -> String {
        format!("{}:graves", self.node(id))
    }

    /// Key, set: users that an incarnation of a node has registered.
    pub fn users_of(&self, id: &str, incarnation: u64) -> String {
        format!("{}:{incarnation}:users", self.node(id))
    }

    /// Key, hash: a user's row, from node to incarnation.
    pub fn user(&self, user: &str) -> String {
        format!("{}:user:{user}", self.prefix)
    }

    /// Key, sorted set: all users in the order of their bytes. One key, so in a
    /// Redis Cluster one master holds all of it.
    pub fn users(&self) -> String {
        format!("{}:users", self.prefix)
    }

    /// Channel: a user came online or went offline.
    pub fn events(&self) -> String {
        format!("{}:user:events", self.prefix)
    }

    /// Channel: what is meant for one node.
    pub fn node_channel(&self, id: &str) -> String {
        format!("{}:node:{id}", self.prefix)
    }

    /// Channel: what is meant for all nodes.
    pub fn broadcast_channel(&self) -> String {
        format!("{}:broadcast", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let check = |prefix: &str, is_good: bool| {
            assert_eq!(Names::new(prefix).is_ok(), is_good, "{prefix:?}");
        };
        check("throng", true);
        check("a.b_C:9-", true);
        check(&"x".repeat(PREFIX_BYTES), true);
        check(&"x".repeat(PREFIX_BYTES + 1), false);
        check("", false);
        check("{throng}", false);
        check("two words", false);
        check("ü", false);
    }

    /// The part of a key that decides on its slot, by Redis's rule.
    fn slot_part(key: &str) -> &str {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
    }

    #[test]
    fn keys_of_a_node_share_a_slot() {
        let names = Names::new("throng").expect("a good prefix");
        for id in ["a", "10.0.0.1:8080", "[::1]:80", "}", "{}", "{x", "x}", "%7B", "ü", "a b"] {
            let keys = [names.node(id), names.graves(id), names.users_of(id, 7)];
            let parts: Vec<_> = keys.iter().map(|key| slot_part(key)).collect();
            assert!(parts.iter().all(|part| *part == parts[0] && *part != keys[0]), "{id:?}: {parts:?}");
        }
        assert_ne!(names.node("{"), names.node("%7B"));
    }

    #[test]
    fn as_documented() {
        let names = Names::new("throng").expect("a good prefix");
        let found = [
            names.nodes(),
            names.node("a:1"),
            names.graves("a:1"),
            names.users_of("a:1", 7),
            names.user("bob"),
            names.users(),
            names.events(),
            names.node_channel("a:1"),
            names.broadcast_channel(),
        ];
        let expected = [
            "throng:nodes",
            "throng:node:{a:1}",
            "throng:node:{a:1}:graves",
            "throng:node:{a:1}:7:users",
            "throng:user:bob",
            "throng:users",
            "throng:user:events",
            "throng:node:a:1",
            "throng:broadcast",
        ];
        assert_eq!(found, expected);
    }
}
