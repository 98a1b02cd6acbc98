//! What a server's text message means to the client. Content is looked at as
//! far as it is needed; anything else is [`Meaning::Other`].
//!
//! Never keeps anything and never fails: a server may say what it likes.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::business::KIND;
use super::ledger::Announced;

/// The longest name or reason that is kept of a server's, in bytes.
const WORDS_BYTES_MAX: usize = 256;

/// What a message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The first message: which instance answered.
    Welcome { instance: String },
    /// The server leaves.
    Notice { reason: String, reconnect_after: Option<Duration>, announced: Option<Announced> },
    /// A numbered business message of the server.
    Business { seq: u32 },
    /// A business message of this client came back.
    Confirmation { seq: u64 },
    /// None of the client's business.
    Other,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Welcome {
    message: Option<String>,
    service_identity: Option<Identity>,
}

#[derive(Deserialize)]
struct Identity {
    display_name: Option<String>,
    instance_id: Option<String>,
}

#[derive(Deserialize)]
struct Shutdown {
    reason: Option<String>,
    reconnect_after_ms: Option<u64>,
    final_messages: Option<u32>,
    last_seq: Option<u32>,
}

#[derive(Deserialize)]
struct Numbered<N> {
    seq: N,
}

#[derive(Deserialize)]
struct Returned<'a> {
    #[serde(borrow)]
    original_data: &'a RawValue,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// Tells `each` what `text` means; for a batch, what each message in it does.
pub(super) fn read(text: &str, each: &mut impl FnMut(Meaning)) {
    if kind(text).as_deref() != Some("batch") {
        return each(meaning(text));
    }
    // A batch holds no batches.
    for message in parsed::<Batch<'_>>(text).map(|batch| batch.messages).unwrap_or_default() {
        each(meaning(message.get()));
    }
}

fn meaning(text: &str) -> Meaning {
    let known = match kind(text).as_deref() {
        Some("welcome") => parsed(text).map(welcome),
        Some("shutdown") => parsed(text).map(notice),
        Some("business") => {
            parsed(text).map(|numbered: Numbered<u32>| Meaning::Business { seq: numbered.seq })
        }
        Some("echo") => parsed::<Returned<'_>>(text).and_then(|echo| returned(echo.original_data.get())),
        // An echo server returns the message itself.
        Some(KIND) => returned(text),
        _ => None,
    };
    known.unwrap_or(Meaning::Other)
}

fn kind(text: &str) -> Option<Cow<'_, str>> {
    parsed::<Kind<'_>>(text).map(|kind| kind.kind)
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// Whether it was this client's own business that came back.
fn returned(text: &str) -> Option<Meaning> {
    if kind(text).as_deref() != Some(KIND) {
        return None;
    }
    parsed(text).map(|numbered: Numbered<u64>| Meaning::Confirmation { seq: numbered.seq })
}

fn welcome(welcome: Welcome) -> Meaning {
    let identity = welcome.service_identity;
    let (name, id) = identity.map_or((None, None), |identity| (identity.display_name, identity.instance_id));
    let instance = match (name, id) {
        (Some(name), Some(id)) => format!("{}/{}", words(&name), words(&id)),
        (Some(name), None) | (None, Some(name)) => words(&name),
        (None, None) => words(&welcome.message.unwrap_or_else(|| "an instance without a name".to_owned())),
    };
    Meaning::Welcome { instance }
}

fn notice(shutdown: Shutdown) -> Meaning {
    let announced = shutdown.final_messages.zip(shutdown.last_seq);
    Meaning::Notice {
        reason: words(&shutdown.reason.unwrap_or_default()),
        reconnect_after: shutdown.reconnect_after_ms.map(Duration::from_millis),
        announced: announced.map(|(messages, last_seq)| Announced { messages, last_seq }),
    }
}

/// As much of a server's words as is kept, without what would move a terminal's cursor.
pub(super) fn words(text: &str) -> String {
    let mut kept = String::new();
    for char in text.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        if kept.len() + char.len_utf8() > WORDS_BYTES_MAX {
            break;
        }
        kept.push(char);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Meaning]) {
        let mut seen = Vec::new();
        read(text, &mut |meaning| seen.push(meaning));
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn what_the_node_sends_is_understood() {
        let welcome = |instance: &str| Meaning::Welcome { instance: instance.to_owned() };
        let identity = r#"{"display_name":"shop-pod-1","instance_id":"0a1b2c3d","version":"1"}"#;
        check(
            &format!(r#"{{"type":"welcome","message":"Connected to x","service_identity":{identity}}}"#),
            &[welcome("shop-pod-1/0a1b2c3d")],
        );
        check(r#"{"type":"welcome","message":"Connected to x"}"#, &[welcome("Connected to x")]);
        let notice = |reconnect_after, announced| Meaning::Notice {
            reason: "draining".to_owned(),
            reconnect_after,
            announced,
        };
        let after = Some(Duration::from_millis(7312));
        check(
            r#"{"type":"shutdown","reason":"draining","reconnect_after_ms":7312,"timestamp":"t","final_messages":3,"last_seq":9}"#,
            &[notice(after, Some(Announced { messages: 3, last_seq: 9 }))],
        );
        check(r#"{"type":"shutdown","reason":"draining"}"#, &[notice(None, None)]);
        check(r#"{"type":"business","seq":4,"timestamp":"t","data":"x"}"#, &[Meaning::Business { seq: 4 }]);
        let own = r#"{"type":"client_business","seq":5,"data":{}}"#;
        check(&format!(r#"{{"type":"echo","original_data":{own}}}"#), &[Meaning::Confirmation { seq: 5 }]);
        check(own, &[Meaning::Confirmation { seq: 5 }]);
        check(
            r#"{"type":"batch","messages":[{"type":"business","seq":1},7,{"type":"business","seq":2}]}"#,
            &[Meaning::Business { seq: 1 }, Meaning::Other, Meaning::Business { seq: 2 }],
        );
    }

    #[test]
    fn a_server_may_say_what_it_likes() {
        for text in [
            "",
            "hello",
            "[1]",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"business","seq":-1}"#,
            r#"{"type":"business","seq":4294967296}"#,
            r#"{"type":"shutdown","reconnect_after_ms":"soon"}"#,
            r#"{"type":"echo","original_data":{"type":"ping","seq":1}}"#,
            r#"{"type":"echo"}"#,
            r#"{"type":"message","from":"bob","content":{"type":"shutdown"}}"#,
        ] {
            check(text, &[Meaning::Other]);
        }
        check(r#"{"type":"batch","messages":7}"#, &[]);
        check(&format!(r#"{{"type":"x","y":{}1{}}}"#, "[".repeat(9000), "]".repeat(9000)), &[Meaning::Other]);
    }

    #[test]
    fn words_are_bounded_and_do_not_move_the_cursor() {
        assert_eq!(words("a\u{1b}[2Jb\n"), "a [2Jb ");
        assert_eq!(words(&"é".repeat(1000)).len(), WORDS_BYTES_MAX);
    }
}
