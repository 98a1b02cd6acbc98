//! The trace a request belongs to, as W3C Trace Context hands it on.
//!
//! Owns: [`TraceId`]. Never: a trace of our own, who sent none has none.

use std::fmt;
use std::str::FromStr;

/// The header that names the trace.
pub const TRACEPARENT: &str = "traceparent";

/// A trace's id: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTrace;

impl TraceId {
    /// The id in the value of a `traceparent` (section 3.2): 32 lower-case
    /// hexadecimal digits between the version and the parent. The parent and
    /// what later versions add are not looked at.
    pub fn of(traceparent: &str) -> Option<TraceId> {
        let mut parts = traceparent.split('-');
        let (version, id) = (parts.next()?, parts.next()?);
        // Version ff is not to be used (section 3.2.2.1).
        let is_version = version.len() == 2 && version != "ff" && version.bytes().all(is_hex_digit);
        id.parse().ok().filter(|_| is_version && parts.next().is_some())
    }

    /// The 16 bytes, for another node to give back.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// What [`TraceId::as_bytes`] gave; `None` when all are zero, which no id is (section 3.2.2.3).
    pub fn from_bytes(bytes: [u8; 16]) -> Option<TraceId> {
        (bytes != [0; 16]).then_some(TraceId(bytes))
    }
}

impl FromStr for TraceId {
    type Err = NoTrace;

    fn from_str(text: &str) -> Result<TraceId, NoTrace> {
        if text.len() != 32 || !text.bytes().all(is_hex_digit) {
            return Err(NoTrace);
        }
        let bits = u128::from_str_radix(text, 16).map_err(|_| NoTrace)?;
        TraceId::from_bytes(bits.to_be_bytes()).ok_or(NoTrace)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

fn is_hex_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_from_a_well_formed_header() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        for (header, expected) in [
            (format!("00-{id}-b7ad6b7169203331-01"), Some(id)),
            (format!("cc-{id}-b7ad6b7169203331-01-later"), Some(id)),
            (format!("ff-{id}-b7ad6b7169203331-01"), None),
            (format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()), None),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), None),
            (format!("00-+{}-b7ad6b7169203331-01", &id[1..]), None),
            (format!("00-{id}"), None),
            (format!("0-{id}-x"), None),
            ("00-12-34-01".to_owned(), None),
            (String::new(), None),
        ] {
            let found = TraceId::of(&header);
            assert_eq!(found.map(|id| id.to_string()).as_deref(), expected, "{header}");
            if let Some(found) = found {
                assert_eq!(TraceId::from_bytes(*found.as_bytes()), Some(found));
            }
        }
        assert_eq!(TraceId::from_bytes([0; 16]), None);
    }
}
