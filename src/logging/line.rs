//! How a line of the log is laid out, as text or JSON.
//!
//! Owns: [`line()`] and the fields beside its message. Never: which lines there
//! are, or where they go.

use std::fmt::Write as _;
use std::time::SystemTime;

use log::Level;
use log::kv::{Key, Value, VisitSource};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use crate::config::LogFormat;

/// A message is cut here: what peers send may end up in one.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// What is beside the message, in its order.
#[derive(Default)]
pub(super) struct Fields(Vec<(String, Json)>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let value = match (value.to_u64(), value.to_f64(), value.to_borrowed_str()) {
            (Some(number), ..) => Json::from(number),
            (_, Some(number), _) => Json::from(number),
            (.., Some(text)) => Json::from(cut(text)),
            _ => Json::from(cut(&value.to_string())),
        };
        self.0.push((key.as_str().to_owned(), value));
        Ok(())
    }
}

/// A record without its time.
pub(super) struct Said<'a> {
    pub(super) level: Level,
    pub(super) target: &'a str,
    pub(super) message: &'a str,
    pub(super) fields: &'a Fields,
}

/// One line with its line break. Neither a message nor a field can make two.
pub(super) fn line(format: LogFormat, time: SystemTime, said: &Said<'_>) -> String {
    let Said { level, target, message, fields } = said;
    let message = cut(message);
    let time = humantime::format_rfc3339_millis(time);
    match format {
        LogFormat::Text => {
            let mut line = String::with_capacity(message.len() + 64);
            let _ = write!(line, "{time} {level:<5} {target}: ");
            escape(message, &mut line);
            for (key, value) in &fields.0 {
                // A text is shown in the quotation marks of JSON.
                escape(&format!(" {key}={value}"), &mut line);
            }
            line.push('\n');
            line
        }
        LogFormat::Json => {
            let line =
                JsonLine { timestamp: time.to_string(), level: level.as_str(), target, message, fields };
            // Strings always serialise.
            let json = serde_json::to_string(&line).unwrap_or_default();
            let mut line = String::with_capacity(json.len() + 1);
            escape_json(&json, &mut line);
            line.push('\n');
            line
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: &'a Fields,
}

/// At most [`MESSAGE_BYTES_MAX`] of `message`, whole characters.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// Appends `message` with what must not be shown escaped.
fn escape(message: &str, out: &mut String) {
    for c in message.chars() {
        if is_unfit(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// Appends JSON, in which the same stands in texts only, with that escaped as
/// JSON has it: it says what it said.
fn escape_json(json: &str, out: &mut String) {
    for c in json.chars() {
        if is_unfit(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

/// What a peer sent must neither begin a line, nor speak to a terminal, nor
/// have it show the rest of the line in another order.
fn is_unfit(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn lines() {
        let check = |format, message: &str, expected: &str| {
            assert_eq!(line_of(format, "throng::x", message, Fields::default()), expected);
        };
        check(LogFormat::Text, "héllo \"x\"", "1970-01-01T00:00:00.000Z INFO  throng::x: héllo \"x\"\n");
        check(
            LogFormat::Text,
            "a\nb\u{1b}[0m",
            "1970-01-01T00:00:00.000Z INFO  throng::x: a\\nb\\u{1b}[0m\n",
        );
        check(
            LogFormat::Text,
            "\u{9b}\u{202e}x",
            "1970-01-01T00:00:00.000Z INFO  throng::x: \\u{9b}\\u{202e}x\n",
        );
        check(
            LogFormat::Json,
            "a\n\"b\"",
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"INFO\",\"target\":\"throng::x\",\"message\":\"a\\n\\\"b\\\"\"}\n",
        );
        let long = line_of(LogFormat::Text, "t", &"é".repeat(MESSAGE_BYTES_MAX), Fields::default());
        assert!(long.len() < MESSAGE_BYTES_MAX + 64 && long.ends_with("é\n"));
    }

    fn line_of(format: LogFormat, target: &str, message: &str, fields: Fields) -> String {
        line(format, UNIX_EPOCH, &Said { level: Level::Info, target, message, fields: &fields })
    }

    #[test]
    fn fields_follow_the_message_in_their_order() {
        let ip = std::net::Ipv4Addr::LOCALHOST;
        let pairs: &[(&str, Value<'_>)] = &[
            ("user", "a\n\"b\" \u{2028}".into()),
            ("bytes", 7u64.into()),
            ("seconds", 0.25.into()),
            ("client", Value::from_display(&ip)),
        ];
        let check = |format, expected: &str| {
            let mut fields = Fields::default();
            log::kv::Source::visit(&pairs, &mut fields).expect("takes everything");
            assert_eq!(line_of(format, "t", "m", fields), expected);
        };
        check(
            LogFormat::Text,
            "1970-01-01T00:00:00.000Z INFO  t: m user=\"a\\n\\\"b\\\" \\u{2028}\" bytes=7 seconds=0.25 \
             client=\"127.0.0.1\"\n",
        );
        check(
            LogFormat::Json,
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"INFO\",\"target\":\"t\",\"message\":\"m\",\
             \"user\":\"a\\n\\\"b\\\" \\u2028\",\"bytes\":7,\"seconds\":0.25,\"client\":\"127.0.0.1\"}\n",
        );
    }
}
