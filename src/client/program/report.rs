//! Events as a line for people, or as a line of JSON.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::client::event::{Event, What};
use crate::client::refusal::Closed;
use crate::client::summary::{Summary, span};

/// A line for people.
pub(super) fn text(event: &Event, name: &str) -> String {
    format!("{} {name} {}", time_of_day(event.at), told(&event.what))
}

/// UTC.
fn time_of_day(at: SystemTime) -> String {
    let time = timestamp(at);
    time.get(11..23).unwrap_or(&time).to_owned()
}

fn told(what: &What) -> String {
    match what {
        What::Connected { address, attempts, away } => {
            let away = away.map_or(String::new(), |away| format!(" after {} away", span(away)));
            let attempts = if *attempts > 1 { format!(" at attempt {attempts}") } else { String::new() };
            format!("connected to {address}{away}{attempts}")
        }
        What::Welcomed { instance } => format!("welcomed by {instance}"),
        What::Notice { reason, reconnect_after, announced } => {
            let mut line = format!("notice: the server leaves ({reason})");
            if let Some(announced) = announced {
                let (messages, last) = (announced.messages, announced.last_seq);
                line += &format!(", {messages} messages still to come, up to number {last}");
            }
            if let Some(after) = reconnect_after {
                line += &format!(", come back in {}", span(*after));
            }
            line
        }
        What::Gap { seq, missing } => format!("GAP: {missing} messages are missing before number {seq}"),
        What::Duplicate { seq } => format!("DUPLICATE: number {seq} came again"),
        What::Text(text) => format!("< {}", printable(text)),
        What::Binary(bytes) => format!("< {} bytes of binary", bytes.len()),
        What::Probed => "everything sent was taken in".to_owned(),
        What::Disconnected { closed, lost, unsent, retry_in } => {
            let missing = missing(*lost, *unsent);
            format!("disconnected: {}{missing}; next attempt in {}", ended(closed), span(*retry_in))
        }
        What::Failed { why, retry_in } => {
            format!("not connected: {why}; next attempt in {}", span(*retry_in))
        }
        What::Refused { why } => format!("REFUSED for good: {why}"),
        What::Closed { closed, lost } => format!("closed: {}{}", ended(closed), missing(*lost, 0)),
        What::Finished(sums) => sums.to_string(),
    }
}

/// The sums so far in a line for people.
pub(super) fn status_text(sums: &Summary, now: SystemTime) -> String {
    format!(
        "{} so far: {} of {} opened, {} reconnected, {} messages received, {} of {} sent confirmed, {} missing",
        time_of_day(now),
        sums.ever_open,
        sums.connections,
        sums.reconnects,
        sums.messages,
        sums.confirmed,
        sums.sent,
        sums.lost
    )
}

/// The sums so far as a line of JSON.
pub(super) fn status_json(sums: &Summary, now: SystemTime) -> String {
    let mut object = serde_json::to_value(sums).unwrap_or_default();
    object["event"] = "status".into();
    object["at"] = timestamp(now).into();
    object.to_string()
}

fn ended(closed: &Closed) -> String {
    match closed.code {
        Some(code) => format!("{code} {}", closed.reason).trim_end().to_owned(),
        None => closed.reason.clone(),
    }
}

fn missing(lost: u64, unsent: u64) -> String {
    let mut line = String::new();
    if lost > 0 {
        line += &format!("; {lost} announced messages did NOT come");
    }
    if unsent > 0 {
        line += &format!("; {unsent} messages were perhaps not sent");
    }
    line
}

/// Text without what would move the cursor or change the terminal.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() && char != '\t' {
            true => shown.extend(char.escape_default()),
            false => shown.push(char),
        }
    }
    shown
}

/// A line of JSON.
pub(super) fn json(event: &Event, name: &str) -> String {
    let (kind, fields) = fields(&event.what);
    let mut object = Map::new();
    object.insert("event".to_owned(), kind.into());
    object.insert("at".to_owned(), timestamp(event.at).into());
    if event.connection > 0 {
        object.insert("connection".to_owned(), event.connection.into());
        object.insert("name".to_owned(), name.into());
    }
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object).to_string()
}

fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn fields(what: &What) -> (&'static str, Value) {
    let ms = |span: std::time::Duration| span.as_millis() as u64;
    match what {
        What::Connected { address, attempts, away } => {
            ("connected", json!({"address": address, "attempts": attempts, "away_ms": away.map(ms)}))
        }
        What::Welcomed { instance } => ("welcomed", json!({"instance": instance})),
        What::Notice { reason, reconnect_after, announced } => (
            "notice",
            json!({
                "reason": reason,
                "reconnect_after_ms": reconnect_after.map(ms),
                "final_messages": announced.map(|announced| announced.messages),
                "last_seq": announced.map(|announced| announced.last_seq),
            }),
        ),
        What::Gap { seq, missing } => ("gap", json!({"seq": seq, "missing": missing})),
        What::Duplicate { seq } => ("duplicate", json!({"seq": seq})),
        What::Text(text) => ("text", json!({"text": text})),
        What::Binary(bytes) => ("binary", json!({"bytes": bytes.len()})),
        What::Probed => ("probed", json!({})),
        What::Disconnected { closed, lost, unsent, retry_in } => (
            "disconnected",
            json!({
                "code": closed.code,
                "reason": closed.reason,
                "lost": lost,
                "unsent": unsent,
                "retry_in_ms": ms(*retry_in),
            }),
        ),
        What::Failed { why, retry_in } => ("failed", json!({"why": why, "retry_in_ms": ms(*retry_in)})),
        What::Refused { why } => ("refused", json!({"why": why})),
        What::Closed { closed, lost } => {
            ("closed", json!({"code": closed.code, "reason": closed.reason, "lost": lost}))
        }
        What::Finished(sums) => ("summary", serde_json::to_value(sums).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::ledger::Announced;

    fn event(what: What) -> Event {
        Event { connection: 2, at: SystemTime::UNIX_EPOCH + Duration::from_millis(3_661_007), what }
    }

    fn check(what: What, line: &str, fields: Value) {
        let event = event(what);
        assert_eq!(text(&event, "alice"), format!("01:01:01.007 alice {line}"));
        let mut expected = json!({"at": "1970-01-01T01:01:01.007Z", "connection": 2, "name": "alice"});
        expected.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(serde_json::from_str::<Value>(&json(&event, "alice")).unwrap(), expected);
    }

    #[test]
    fn events_are_lines() {
        let second = Duration::from_secs(1);
        let address = "127.0.0.1:80".parse().unwrap();
        check(
            What::Connected { address, attempts: 3, away: Some(second) },
            "connected to 127.0.0.1:80 after 1s away at attempt 3",
            json!({"event": "connected", "address": "127.0.0.1:80", "attempts": 3, "away_ms": 1000}),
        );
        check(
            What::Notice {
                reason: "draining".to_owned(),
                reconnect_after: Some(second),
                announced: Some(Announced { messages: 4, last_seq: 9 }),
            },
            "notice: the server leaves (draining), 4 messages still to come, up to number 9, come back in 1s",
            json!({"event": "notice", "reason": "draining", "reconnect_after_ms": 1000, "final_messages": 4, "last_seq": 9}),
        );
        check(
            What::Disconnected {
                closed: Closed { code: Some(1012), reason: "Server is draining".to_owned() },
                lost: 2,
                unsent: 1,
                retry_in: Duration::from_millis(1500),
            },
            "disconnected: 1012 Server is draining; 2 announced messages did NOT come; \
             1 messages were perhaps not sent; next attempt in 1s 500ms",
            json!({"event": "disconnected", "code": 1012, "reason": "Server is draining", "lost": 2, "unsent": 1, "retry_in_ms": 1500}),
        );
        check(
            What::Text("{\"a\":\"\u{1b}[2J\"}\n".to_owned()),
            r#"< {"a":"\u{1b}[2J"}\n"#,
            json!({"event": "text", "text": "{\"a\":\"\u{1b}[2J\"}\n"}),
        );
        check(
            What::Refused { why: "answered 404 Not Found".to_owned() },
            "REFUSED for good: answered 404 Not Found",
            json!({"event": "refused", "why": "answered 404 Not Found"}),
        );
    }

    #[test]
    fn the_summary_is_of_no_connection() {
        let last = Event { connection: 0, ..event(What::Finished(Box::default())) };
        let object: Value = serde_json::from_str(&json(&last, "")).unwrap();
        assert_eq!((&object["event"], &object["lost"]), (&"summary".into(), &0.into()));
        assert!(object.get("connection").is_none());
    }
}
