//! What a token lets its bearer do: the claim `throng`.

use serde::Deserialize;

use super::object;
use crate::limits::{SEND_PATTERNS, USER_ID_BYTES};

/// What a bearer may do beside receiving. The default is everything: a token
/// without the claim limits nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Whether it may send to everybody.
    pub broadcast: bool,
    /// To whom it may send.
    pub send: Reach,
}

/// To whom one may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To whomever.
    Everybody,
    /// To nobody.
    Nobody,
    /// To the users that one of these admits: an id, or the beginning of ids
    /// and `*`. 1 to [`SEND_PATTERNS`].
    Only(Box<[Box<str>]>),
}

impl Default for Grants {
    fn default() -> Self {
        Grants { broadcast: true, send: Reach::Everybody }
    }
}

impl Reach {
    /// Whether it includes this user.
    pub fn includes(&self, user: &str) -> bool {
        match self {
            Reach::Everybody => true,
            Reach::Nobody => false,
            Reach::Only(patterns) => patterns.iter().any(|pattern| admits(pattern, user)),
        }
    }
}

fn admits(pattern: &str, user: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => user.starts_with(beginning),
        None => user == pattern,
    }
}

/// The claim as it is written. A name that is not known is an error: a limit
/// that was misspelt must not be one that does not hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "unlimited")]
    broadcast: bool,
    #[serde(default)]
    send: WrittenReach,
}

fn unlimited() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenReach {
    Switch(bool),
    List(Vec<Box<str>>),
}

impl Default for WrittenReach {
    fn default() -> Self {
        WrittenReach::Switch(true)
    }
}

/// Reads the claim. `None` if it is not
/// `{"broadcast":BOOL,"send":BOOL or ["id","beginning*",…]}`, each optional.
pub(super) fn read(claim: &str) -> Option<Grants> {
    let written: Written = object(claim.as_bytes())?;
    let send = match written.send {
        WrittenReach::Switch(true) => Reach::Everybody,
        WrittenReach::Switch(false) => Reach::Nobody,
        WrittenReach::List(patterns) => list(patterns)?,
    };
    Some(Grants { broadcast: written.broadcast, send })
}

fn list(patterns: Vec<Box<str>>) -> Option<Reach> {
    let is_well_formed = |pattern: &str| {
        let id = pattern.strip_suffix('*').unwrap_or(pattern);
        !pattern.is_empty() && pattern.len() <= USER_ID_BYTES && !id.contains('*')
    };
    if patterns.len() > SEND_PATTERNS || !patterns.iter().all(|pattern| is_well_formed(pattern)) {
        return None;
    }
    Some(if patterns.is_empty() { Reach::Nobody } else { Reach::Only(patterns.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(patterns: &[&str]) -> Reach {
        Reach::Only(patterns.iter().map(|pattern| (*pattern).into()).collect())
    }

    #[test]
    fn the_claim_is_read() {
        let check = |claim: &str, expected: Option<(bool, Reach)>| {
            let expected = expected.map(|(broadcast, send)| Grants { broadcast, send });
            assert_eq!(read(claim), expected, "{claim}");
        };
        check("{}", Some((true, Reach::Everybody)));
        check(r#"{"broadcast":false}"#, Some((false, Reach::Everybody)));
        check(r#"{"broadcast":true,"send":false}"#, Some((true, Reach::Nobody)));
        check(r#"{"send":true}"#, Some((true, Reach::Everybody)));
        check(r#"{"send":[]}"#, Some((true, Reach::Nobody)));
        check(r#"{"send":["alice","team-*"]}"#, Some((true, only(&["alice", "team-*"]))));
        check(r#"{"send":["*"]}"#, Some((true, only(&["*"]))));
        for wrong in [
            "null",
            "[]",
            "true",
            r#"{"brodcast":false}"#,
            r#"{"broadcast":0}"#,
            r#"{"broadcast":null}"#,
            r#"{"send":null}"#,
            "[true,true]",
            r#"{"broadcast":"false"}"#,
            r#"{"broadcast":true,"broadcast":false}"#,
            r#"{"send":"alice"}"#,
            r#"{"send":[1]}"#,
            r#"{"send":[""]}"#,
            r#"{"send":["a*b"]}"#,
            r#"{"send":["**"]}"#,
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn lists_are_bounded() {
        let claim = |count: usize, length: usize| {
            serde_json::json!({"send": vec!["x".repeat(length); count]}).to_string()
        };
        assert!(read(&claim(SEND_PATTERNS, USER_ID_BYTES)).is_some());
        assert_eq!(read(&claim(SEND_PATTERNS + 1, 1)), None);
        assert_eq!(read(&claim(1, USER_ID_BYTES + 1)), None);
    }

    #[test]
    fn patterns_admit_an_id_or_a_beginning() {
        let reach = only(&["alice", "team-*"]);
        for admitted in ["alice", "team-", "team-blue"] {
            assert!(reach.includes(admitted), "{admitted}");
        }
        for other in ["", "Alice", "alice2", "team", "xteam-", "*"] {
            assert!(!reach.includes(other), "{other}");
        }
        assert!(only(&["*"]).includes("whoever") && Reach::Everybody.includes("x"));
        assert!(!Reach::Nobody.includes("x"));
    }
}
