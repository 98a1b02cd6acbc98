//! Messages by their type, both ways: how many, and how many bytes they had.
//!
//! Owns: [`Received`] and [`Sent`], the types, their cells in one thread's row
//! and how they are shown. Never: what type a message is of. Bytes are those
//! of payloads, before they are compressed and after they are inflated.

use super::cells::Cells;
use super::family::encode_labelled;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt;

/// What a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Received {
    /// `{"type":"ping"}`
    Ping,
    /// `{"type":"send_message"}`, whatever became of it.
    SendMessage,
    /// `{"type":"broadcast"}`, whatever became of it.
    Broadcast,
    /// JSON of no known type, which is sent back.
    Unknown,
    /// No JSON, or JSON of a known type that lacks a field.
    Invalid,
    /// Text at `/echo`, into which nobody looks.
    Text,
    /// A binary message.
    Binary,
    /// One more than a client may send in a second; it was not read.
    Refused,
}

impl Received {
    /// All of them, in the order of their cells, with the values of their label.
    pub const ALL: [(Received, &'static str); 8] = [
        (Received::Ping, "ping"),
        (Received::SendMessage, "send_message"),
        (Received::Broadcast, "broadcast"),
        (Received::Unknown, "unknown"),
        (Received::Invalid, "invalid"),
        (Received::Text, "text"),
        (Received::Binary, "binary"),
        (Received::Refused, "refused"),
    ];
}

/// What a connection was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// `{"type":"message"}`
    Message,
    /// `{"type":"broadcast"}`
    Broadcast,
    /// `{"type":"echo"}`
    Echo,
    /// `{"type":"pong"}`
    Pong,
    /// `{"type":"error"}`
    Error,
    /// `{"type":"welcome"}`
    Welcome,
    /// `{"type":"batch"}`, counted once whatever it holds.
    Batch,
    /// `{"type":"business"}`
    Business,
    /// `{"type":"shutdown"}`
    Shutdown,
    /// `{"type":"kicked"}`
    Kicked,
    /// Any other text, which a program composed.
    Other,
    /// Text that came back at `/echo`.
    Text,
    /// A binary message that came back.
    Binary,
}

impl Sent {
    /// All of them, in the order of their cells, with the values of their label.
    pub const ALL: [(Sent, &'static str); 13] = [
        (Sent::Message, "message"),
        (Sent::Broadcast, "broadcast"),
        (Sent::Echo, "echo"),
        (Sent::Pong, "pong"),
        (Sent::Error, "error"),
        (Sent::Welcome, "welcome"),
        (Sent::Batch, "batch"),
        (Sent::Business, "business"),
        (Sent::Shutdown, "shutdown"),
        (Sent::Kicked, "kicked"),
        (Sent::Other, "other"),
        (Sent::Text, "text"),
        (Sent::Binary, "binary"),
    ];
}

const RECEIVED: usize = Received::ALL.len();
const SENT: usize = Sent::ALL.len();

/// How many messages of a type there were, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

impl Volume {
    fn plus(self, other: Volume) -> Volume {
        Volume {
            messages: self.messages.wrapping_add(other.messages),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// One thread's; it alone writes them. Count and bytes of a type stand side by side.
#[derive(Debug)]
pub(super) struct Traffic(Cells<{ 2 * (RECEIVED + SENT) }>);

impl Traffic {
    pub(super) const fn new() -> Self {
        Traffic(Cells::new())
    }

    pub(super) fn received(&self, what: Received, bytes: u64) {
        self.add(what as usize, 1, bytes);
    }

    pub(super) fn sent(&self, what: Sent, messages: u64, bytes: u64) {
        self.add(RECEIVED + what as usize, messages, bytes);
    }

    pub(super) fn received_volume(&self, what: Received) -> Volume {
        self.volume(what as usize)
    }

    pub(super) fn sent_volume(&self, what: Sent) -> Volume {
        self.volume(RECEIVED + what as usize)
    }

    fn add(&self, place: usize, messages: u64, bytes: u64) {
        self.0.add(2 * place, messages);
        self.0.add(2 * place + 1, bytes);
    }

    fn volume(&self, place: usize) -> Volume {
        Volume { messages: self.0.get(2 * place), bytes: self.0.get(2 * place + 1) }
    }
}

/// All types, summed over threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volumes {
    received: [Volume; RECEIVED],
    sent: [Volume; SENT],
}

impl Volumes {
    pub(super) fn of<'a>(threads: impl Iterator<Item = &'a Traffic> + Clone) -> Volumes {
        let sum = |volume: &dyn Fn(&Traffic) -> Volume| {
            threads.clone().map(volume).fold(Volume::default(), Volume::plus)
        };
        Volumes {
            received: Received::ALL.map(|(what, _)| sum(&|thread| thread.received_volume(what))),
            sent: Sent::ALL.map(|(what, _)| sum(&|thread| thread.sent_volume(what))),
        }
    }

    /// Writes the four families.
    pub(super) fn encode(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let received = || Received::ALL.iter().map(|(_, label)| *label).zip(&self.received);
        let sent = || Sent::ALL.iter().map(|(_, label)| *label).zip(&self.sent);
        let messages = |(label, volume): (&'static str, &Volume)| (label, volume.messages);
        let bytes = |(label, volume): (&'static str, &Volume)| (label, volume.bytes);
        encode_labelled(out, RECEIVED_FAMILY, None, "type", received().map(messages))?;
        encode_labelled(out, RECEIVED_BYTES_FAMILY, Some(&Unit::Bytes), "type", received().map(bytes))?;
        encode_labelled(out, SENT_FAMILY, None, "type", sent().map(messages))?;
        encode_labelled(out, SENT_BYTES_FAMILY, Some(&Unit::Bytes), "type", sent().map(bytes))
    }
}

const RECEIVED_FAMILY: (&str, &str) =
    ("throng_messages_received", "WebSocket messages received from clients, by type.");
const RECEIVED_BYTES_FAMILY: (&str, &str) =
    ("throng_messages_received", "Bytes of the messages received from clients, inflated, by type.");
const SENT_FAMILY: (&str, &str) =
    ("throng_messages_sent", "WebSocket messages handed to connections, by type.");
const SENT_BYTES_FAMILY: (&str, &str) =
    ("throng_messages_sent", "Bytes of the messages handed to connections, before compression, by type.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_cell_and_a_label_of_its_own() {
        for (place, (what, _)) in Received::ALL.iter().enumerate() {
            assert_eq!(*what as usize, place, "{what:?}");
        }
        for (place, (what, _)) in Sent::ALL.iter().enumerate() {
            assert_eq!(*what as usize, place, "{what:?}");
        }
        let distinct = |labels: &[&str]| labels.iter().collect::<std::collections::HashSet<_>>().len();
        assert_eq!(distinct(&Received::ALL.map(|(_, label)| label)), RECEIVED);
        assert_eq!(distinct(&Sent::ALL.map(|(_, label)| label)), SENT);
    }

    #[test]
    fn types_are_kept_apart_and_threads_are_added_up() {
        let (one, two) = (Traffic::new(), Traffic::new());
        one.received(Received::Refused, 5);
        one.sent(Sent::Message, 3, 30);
        two.sent(Sent::Message, 1, 4);
        two.sent(Sent::Binary, 1, 9);
        let volumes = Volumes::of([&one, &two].into_iter());
        let volume = |messages, bytes| Volume { messages, bytes };
        let of_all: Vec<_> = volumes.received.iter().chain(&volumes.sent).collect();
        for (place, found) in of_all.into_iter().enumerate() {
            let expected = match place {
                _ if place == Received::Refused as usize => volume(1, 5),
                _ if place == RECEIVED + Sent::Message as usize => volume(4, 34),
                _ if place == RECEIVED + Sent::Binary as usize => volume(1, 9),
                _ => Volume::default(),
            };
            assert_eq!(*found, expected, "{place}");
        }
    }
}
