//! The JSON messages between a client and a node.
//!
//! Owns: which fields of a client's message the node routes by, and the text of
//! every message the node sends. Never: decoding `content`, which is checked to
//! be JSON and then passed on as the bytes it came in; who gets what.
//!
//! Writers append one JSON text to `out` and allocate nothing beside its growth.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::metrics::{Received, Sent};

/// What a client asks for in a text message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// `{"type":"ping",…}`
    Ping,
    /// `{"type":"send_message","target_user":…,"content":…}`
    SendMessage {
        /// Who is to get it; borrowed unless it was written with escapes. Not empty.
        target_user: Cow<'a, str>,
        /// Any JSON value, as it was written.
        content: &'a str,
    },
    /// `{"type":"broadcast","content":…}`
    Broadcast {
        /// Any JSON value, as it was written.
        content: &'a str,
    },
    /// A known type without what it needs; the text says what, for the client.
    Malformed(&'static str),
    /// JSON of no known type, or no object at all.
    Unknown,
}

/// The text is not JSON (RFC 8259).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidJson;

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalid JSON")
    }
}

impl std::error::Error for InvalidJson {}

impl From<serde_json::Error> for InvalidJson {
    fn from(_: serde_json::Error) -> Self {
        InvalidJson
    }
}

/// Reads one message in one pass over `text`, however deep it is nested. Of a
/// key that comes twice the last counts. Allocates nothing but the target where
/// it is written with escapes, and a stack of brackets, one byte each, where a
/// value is nested deeper than one level.
///
/// # Errors
/// The text as a whole is not JSON.
pub fn parse(text: &str) -> Result<ClientMessage<'_>, InvalidJson> {
    let mut json = serde_json::Deserializer::from_str(text);
    if !text.trim_ascii_start().starts_with('{') {
        IgnoredAny::deserialize(&mut json)?;
        json.end()?;
        return Ok(ClientMessage::Unknown);
    }
    let fields = json.deserialize_map(FieldsVisitor)?;
    json.end()?;
    Ok(fields.message())
}

/// The fields that are routed by, each as it was written.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a RawValue>,
    target_user: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn message(self) -> ClientMessage<'a> {
        match self.kind.and_then(string).as_deref() {
            Some("ping") => ClientMessage::Ping,
            Some("send_message") => self.send_message(),
            Some("broadcast") => match self.content {
                Some(content) => ClientMessage::Broadcast { content: content.get() },
                None => ClientMessage::Malformed("broadcast needs content"),
            },
            _ => ClientMessage::Unknown,
        }
    }

    fn send_message(self) -> ClientMessage<'a> {
        let target_user = self.target_user.and_then(string).filter(|user| !user.is_empty());
        match (target_user, self.content) {
            (Some(target_user), Some(content)) => {
                ClientMessage::SendMessage { target_user, content: content.get() }
            }
            (None, _) => {
                ClientMessage::Malformed("send_message needs target_user, a string that is not empty")
            }
            (_, None) => ClientMessage::Malformed("send_message needs content"),
        }
    }
}

/// The value as a string; `None` when it is of another type, or holds half a
/// surrogate pair, which JSON lets through and UTF-8 cannot say.
fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str(value.get()).ok().map(Cow::Owned),
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        // The key is taken as written, for half a surrogate pair in it is JSON too.
        while let Some(key) = map.next_key::<&RawValue>()? {
            match string(key).as_deref() {
                Some("type") => fields.kind = Some(map.next_value()?),
                Some("target_user") => fields.target_user = Some(map.next_value()?),
                Some("content") => fields.content = Some(map.next_value()?),
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(fields)
    }
}

impl Received {
    /// The type of what [`parse`] made of a text.
    pub fn of(parsed: &Result<ClientMessage<'_>, InvalidJson>) -> Received {
        match parsed {
            Ok(ClientMessage::Ping) => Received::Ping,
            Ok(ClientMessage::SendMessage { .. }) => Received::SendMessage,
            Ok(ClientMessage::Broadcast { .. }) => Received::Broadcast,
            Ok(ClientMessage::Unknown) => Received::Unknown,
            Ok(ClientMessage::Malformed(_)) | Err(InvalidJson) => Received::Invalid,
        }
    }
}

impl Sent {
    /// The type of a text for a client, as the client reads it: a program may
    /// compose what it likes. A comparison or two, whatever the text's length.
    pub fn of(text: &[u8]) -> Sent {
        let Some(kind) = text.strip_prefix(br#"{"type":""#) else { return Sent::Other };
        let is = |name: &[u8]| kind.starts_with(name);
        match kind.first() {
            Some(b'm') if is(b"message\"") => Sent::Message,
            Some(b'b') if is(b"broadcast\"") => Sent::Broadcast,
            Some(b'b') if is(b"batch\"") => Sent::Batch,
            Some(b'b') if is(b"business\"") => Sent::Business,
            Some(b'e') if is(b"echo\"") => Sent::Echo,
            Some(b'e') if is(b"error\"") => Sent::Error,
            Some(b'p') if is(b"pong\"") => Sent::Pong,
            Some(b'w') if is(b"welcome\"") => Sent::Welcome,
            Some(b's') if is(b"shutdown\"") => Sent::Shutdown,
            Some(b'k') if is(b"kicked\"") => Sent::Kicked,
            _ => Sent::Other,
        }
    }
}

/// The first message on a connection. `identity_json` is a JSON text.
pub fn write_welcome(
    out: &mut Vec<u8>,
    display_name: &str,
    timestamp: &str,
    client_ip: IpAddr,
    identity_json: &[u8],
) {
    out.extend_from_slice(br#"{"type":"welcome","message":"#);
    push_json(out, &format_args!("Connected to {display_name}"));
    out.extend_from_slice(br#","timestamp":"#);
    push_json(out, timestamp);
    out.extend_from_slice(br#","client_ip":"#);
    push_json(out, &format_args!("{client_ip}"));
    out.extend_from_slice(br#","service_identity":"#);
    out.extend_from_slice(identity_json);
    out.push(b'}');
}

/// The answer to a ping; `original` is its whole JSON text.
pub fn write_pong(out: &mut Vec<u8>, timestamp: &str, original: &str) {
    write_returned(out, br#"{"type":"pong","timestamp":"#, timestamp, original);
}

/// The answer to JSON of no known type; `original` is its whole text.
pub fn write_echo(out: &mut Vec<u8>, timestamp: &str, original: &str) {
    write_returned(out, br#"{"type":"echo","timestamp":"#, timestamp, original);
}

fn write_returned(out: &mut Vec<u8>, start: &[u8], timestamp: &str, original: &str) {
    out.extend_from_slice(start);
    push_json(out, timestamp);
    out.extend_from_slice(br#","original_data":"#);
    out.extend_from_slice(original.as_bytes());
    out.push(b'}');
}

/// Says that a message was not understood.
pub fn write_error(out: &mut Vec<u8>, message: &str) {
    out.extend_from_slice(br#"{"type":"error","message":"#);
    push_json(out, message);
    out.push(b'}');
}

/// Says that the client may not send to everybody.
pub fn write_broadcast_denied(out: &mut Vec<u8>) {
    write_error(out, "Not permitted: broadcast");
}

/// Says that the client may not send to `target_user`.
pub fn write_send_denied(out: &mut Vec<u8>, target_user: &str) {
    out.extend_from_slice(br#"{"type":"error","message":"Not permitted: send_message","target_user":"#);
    push_json(out, target_user);
    out.push(b'}');
}

/// Says that `target_user` has no connection.
pub fn write_undelivered(out: &mut Vec<u8>, target_user: &str) {
    out.extend_from_slice(br#"{"type":"error","message":"User is not connected","target_user":"#);
    push_json(out, target_user);
    out.push(b'}');
}

/// A message from one user to another. `content` is a JSON text.
pub fn write_message(out: &mut Vec<u8>, from: &str, content: &str) {
    write_from(out, br#"{"type":"message","from":"#, from, content);
}

/// A message from one user to everybody. `content` is a JSON text.
pub fn write_broadcast(out: &mut Vec<u8>, from: &str, content: &str) {
    write_from(out, br#"{"type":"broadcast","from":"#, from, content);
}

fn write_from(out: &mut Vec<u8>, start: &[u8], from: &str, content: &str) {
    out.reserve(start.len() + from.len() + content.len() + 14);
    out.extend_from_slice(start);
    push_json(out, from);
    out.extend_from_slice(br#","content":"#);
    out.extend_from_slice(content.as_bytes());
    out.push(b'}');
}

/// Says that the node is going and when to come back. In a simulation also how
/// many business messages still follow and the number of the last one.
pub fn write_shutdown(
    out: &mut Vec<u8>,
    reason: &str,
    reconnect_after_ms: u64,
    timestamp: &str,
    simulation: Option<(u32, u32)>,
) {
    out.extend_from_slice(br#"{"type":"shutdown","reason":"#);
    push_json(out, reason);
    out.extend_from_slice(br#","reconnect_after_ms":"#);
    push_json(out, &reconnect_after_ms);
    out.extend_from_slice(br#","timestamp":"#);
    push_json(out, timestamp);
    if let Some((final_messages, last_seq)) = simulation {
        out.extend_from_slice(br#","final_messages":"#);
        push_json(out, &final_messages);
        out.extend_from_slice(br#","last_seq":"#);
        push_json(out, &last_seq);
    }
    out.push(b'}');
}

/// A message of the business simulation. `data_json` is a JSON text.
pub fn write_business(out: &mut Vec<u8>, seq: u32, timestamp: &str, data_json: &str) {
    out.extend_from_slice(br#"{"type":"business","seq":"#);
    push_json(out, &seq);
    out.extend_from_slice(br#","timestamp":"#);
    push_json(out, timestamp);
    out.extend_from_slice(br#","data":"#);
    out.extend_from_slice(data_json.as_bytes());
    out.push(b'}');
}

/// Says that an administrator ends the connection.
pub fn write_kicked(out: &mut Vec<u8>, reason: &str) {
    out.extend_from_slice(br#"{"type":"kicked","reason":"#);
    push_json(out, reason);
    out.push(b'}');
}

/// Several messages in one. Each of `messages` is a JSON text.
pub fn write_batch<'a>(out: &mut Vec<u8>, messages: impl IntoIterator<Item = &'a [u8]>) {
    out.extend_from_slice(br#"{"type":"batch","messages":["#);
    for (index, message) in messages.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(message);
    }
    out.extend_from_slice(b"]}");
}

/// Appends a string (escaped) or a number. Neither can fail: writing to a `Vec`
/// does not, and both have a JSON form.
fn push_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "{written:?}");
}

#[cfg(test)]
mod tests;
