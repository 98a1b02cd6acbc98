//! What was seen, added up over connections; as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// Sums over one or many connections and all their lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections the client was to keep.
    pub connections: u64,
    /// Of those, the ones that were open at least once.
    pub ever_open: u64,
    /// Of those, the ones the server will never take.
    pub refused: u64,
    /// Times a connection was tried to be opened.
    pub attempts: u64,
    /// Of those, the ones that came to nothing.
    pub failures: u64,
    /// Times a connection was opened.
    pub opened: u64,
    /// Of those, the ones that replaced a lost connection.
    pub reconnects: u64,
    /// Time without a connection between losing it and having one again.
    pub away: Duration,
    /// The longest such time.
    pub longest_away: Duration,
    /// How often each instance welcomed a connection.
    pub instances: BTreeMap<String, u64>,
    /// Notices of servers that left.
    pub notices: u64,
    /// Messages received, of any kind.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Numbered business messages received.
    pub numbered: u64,
    /// Messages announced in notices.
    pub announced: u64,
    /// Of those, the ones received.
    pub announced_received: u64,
    /// Times numbered messages were missing before one that came.
    pub gaps: u64,
    /// Messages that were announced, or skipped by a number, and did not come.
    pub lost: u64,
    /// Messages that came more than once.
    pub duplicates: u64,
    /// Business messages sent.
    pub sent: u64,
    /// Of those, the ones the server confirmed.
    pub confirmed: u64,
    /// Sendings of messages again that had gone with a connection.
    pub repeated: u64,
    /// Other messages that were accepted for sending and went with a connection.
    pub unsent: u64,
}

impl Summary {
    /// Nothing that was announced or sent is missing.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.unsent == 0 && self.confirmed == self.sent
    }

    /// Nothing is missing, and every connection was open at least once.
    pub fn is_well(&self) -> bool {
        self.is_complete() && self.ever_open == self.connections
    }

    /// Adds another's sums.
    pub fn add(&mut self, other: &Summary) {
        for (_, mine, theirs) in COUNTS {
            *mine(self) = theirs(self).saturating_add(theirs(other));
        }
        self.away = self.away.saturating_add(other.away);
        self.longest_away = self.longest_away.max(other.longest_away);
        for (instance, times) in &other.instances {
            *self.instances.entry(instance.clone()).or_default() += times;
        }
    }

    pub(super) fn add_away(&mut self, away: Duration) {
        self.away += away;
        self.longest_away = self.longest_away.max(away);
    }
}

type Count = (&'static str, fn(&mut Summary) -> &mut u64, fn(&Summary) -> u64);

/// Every count by the name it has in JSON, in the order it is shown.
const COUNTS: [Count; 20] = [
    ("connections", |sums| &mut sums.connections, |sums| sums.connections),
    ("ever_open", |sums| &mut sums.ever_open, |sums| sums.ever_open),
    ("refused", |sums| &mut sums.refused, |sums| sums.refused),
    ("attempts", |sums| &mut sums.attempts, |sums| sums.attempts),
    ("failures", |sums| &mut sums.failures, |sums| sums.failures),
    ("opened", |sums| &mut sums.opened, |sums| sums.opened),
    ("reconnects", |sums| &mut sums.reconnects, |sums| sums.reconnects),
    ("notices", |sums| &mut sums.notices, |sums| sums.notices),
    ("messages", |sums| &mut sums.messages, |sums| sums.messages),
    ("bytes", |sums| &mut sums.bytes, |sums| sums.bytes),
    ("numbered", |sums| &mut sums.numbered, |sums| sums.numbered),
    ("announced", |sums| &mut sums.announced, |sums| sums.announced),
    ("announced_received", |sums| &mut sums.announced_received, |sums| sums.announced_received),
    ("gaps", |sums| &mut sums.gaps, |sums| sums.gaps),
    ("lost", |sums| &mut sums.lost, |sums| sums.lost),
    ("duplicates", |sums| &mut sums.duplicates, |sums| sums.duplicates),
    ("sent", |sums| &mut sums.sent, |sums| sums.sent),
    ("confirmed", |sums| &mut sums.confirmed, |sums| sums.confirmed),
    ("repeated", |sums| &mut sums.repeated, |sums| sums.repeated),
    ("unsent", |sums| &mut sums.unsent, |sums| sums.unsent),
];

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Summary", COUNTS.len() + 4)?;
        for (name, _, read) in COUNTS {
            object.serialize_field(name, &read(self))?;
        }
        object.serialize_field("away_ms", &(self.away.as_millis() as u64))?;
        object.serialize_field("longest_away_ms", &(self.longest_away.as_millis() as u64))?;
        object.serialize_field("instances", &self.instances)?;
        object.serialize_field("complete", &self.is_complete())?;
        object.end()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_connections(f)?;
        self.write_received(f)?;
        self.write_sent(f)?;
        match self.is_complete() {
            true => f.write_str("nothing that was announced or sent is missing"),
            false => f.write_str("SOMETHING IS MISSING"),
        }
    }
}

impl Summary {
    fn write_connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "connections  {}, {} opened in {} attempts, {} reconnected, {} refused for good",
            self.connections, self.opened, self.attempts, self.reconnects, self.refused
        )?;
        for (instance, times) in &self.instances {
            writeln!(f, "             {times} to {instance}")?;
        }
        if self.ever_open < self.connections {
            writeln!(f, "             {} never connected", self.connections - self.ever_open)?;
        }
        writeln!(f, "away         {} in all, {} at the longest", span(self.away), span(self.longest_away))
    }

    fn write_received(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "received     {} messages, {} bytes, {} numbered",
            self.messages, self.bytes, self.numbered
        )?;
        writeln!(
            f,
            "announced    {} in {} notices, {} of them received",
            self.announced, self.notices, self.announced_received
        )?;
        writeln!(
            f,
            "missing      {} in {} gaps and tails, {} duplicates",
            self.lost, self.gaps, self.duplicates
        )
    }

    fn write_sent(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent         {}, {} confirmed, {} sent again; {} others went with a connection",
            self.sent, self.confirmed, self.repeated, self.unsent
        )
    }
}

/// A time as people read it, to the millisecond.
pub(super) fn span(span: Duration) -> String {
    let millis = span.as_millis().min(u128::from(u64::MAX)) as u64;
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums in which no two counts are alike.
    fn distinct(start: u64) -> Summary {
        let mut sums = Summary::default();
        for (n, (_, count, _)) in (start..).zip(COUNTS) {
            *count(&mut sums) = n;
        }
        sums.add_away(Duration::from_millis(start));
        sums.instances.insert("node".to_owned(), start);
        sums
    }

    #[test]
    fn every_count_is_added_and_shown() {
        let mut sums = distinct(1);
        sums.add(&distinct(1000));
        let json = serde_json::to_value(&sums).unwrap();
        for (n, (name, _, read)) in (0..).zip(COUNTS) {
            assert_eq!(read(&sums), 1001 + 2 * n, "{name}");
            assert_eq!(json[name], 1001 + 2 * n, "{name}");
        }
        assert_eq!((&json["away_ms"], &json["longest_away_ms"]), (&1001.into(), &1000.into()));
        assert_eq!(json["instances"], serde_json::json!({"node": 1001}));
        assert_eq!(json["complete"], false);
    }

    #[test]
    fn it_is_well_when_nothing_is_missing() {
        let fine = Summary { connections: 2, ever_open: 2, sent: 3, confirmed: 3, ..Summary::default() };
        let check = |sums: Summary, complete, well| {
            assert_eq!((sums.is_complete(), sums.is_well()), (complete, well), "{sums:?}");
            assert_eq!(sums.to_string().contains("MISSING"), !complete);
        };
        check(fine.clone(), true, true);
        check(Summary { ever_open: 1, ..fine.clone() }, true, false);
        check(Summary { lost: 1, ..fine.clone() }, false, false);
        check(Summary { confirmed: 2, ..fine.clone() }, false, false);
        check(Summary { unsent: 1, ..fine }, false, false);
    }
}
