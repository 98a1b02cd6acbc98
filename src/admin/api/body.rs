//! The bodies of the calls that change something.
//!
//! Every field is first taken as it was written: so a fault can be laid to its
//! field, and a message reaches its readers unchanged.

use super::Question;
use crate::http::{Head, Response};
use crate::limits;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

/// What a kicked client is told when nobody says why.
const DEFAULT_REASON: &str = "Kicked";

/// All fields of all calls; each call takes its own and refuses the others.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, deserialize_with = "as_written")]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "as_written")]
    message: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "as_written")]
    reason: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "as_written")]
    notify: Option<&'a RawValue>,
}

/// `null` is a value: an `Option` left to itself would read it as absent.
fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

pub(super) fn send(body: &[u8]) -> Result<Question, Response> {
    let fields = Fields::of(body, &["user_id", "message"])?;
    Ok(Question::Send { user_id: fields.user_id()?, message: fields.message()? })
}

pub(super) fn broadcast(body: &[u8]) -> Result<Question, Response> {
    let fields = Fields::of(body, &["message"])?;
    Ok(Question::Broadcast { message: fields.message()? })
}

/// `notify` is taken for granted when there is a message. `null` stands for a
/// field left out.
pub(super) fn kick(body: &[u8]) -> Result<Question, Response> {
    let fields = Fields::of(body, &["user_id", "message", "reason", "notify"])?;
    let message =
        fields.message.filter(|message| message.get() != "null").map(|message| message.get().to_owned());
    let reason: Option<String> = typed("reason", fields.reason, "a string")?;
    let notify: Option<bool> = typed("notify", fields.notify, "true or false")?;
    Ok(Question::Kick {
        user_id: fields.user_id()?,
        reason: reason.unwrap_or_else(|| DEFAULT_REASON.to_owned()),
        notify: notify.unwrap_or(message.is_some()),
        message,
    })
}

/// Accepts JSON, a body that does not say what it is, and the type that
/// `curl -d` states whatever it sends.
pub(crate) fn check_type(head: &Head<'_>) -> Result<(), Response> {
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match head.header("content-type").map(essence).as_deref() {
        None | Some("application/json" | "application/x-www-form-urlencoded") => Ok(()),
        Some(_) => Err(Response::error(415, "Content-Type: application/json is required")),
    }
}

pub(super) fn check_user_id(user_id: &str) -> Result<(), Response> {
    match user_id.len() {
        0 => Err(bad("user_id: must not be empty")),
        1..=limits::USER_ID_BYTES => Ok(()),
        _ => Err(bad(&format!("user_id: longer than {} bytes", limits::USER_ID_BYTES))),
    }
}

impl<'a> Fields<'a> {
    fn of(body: &'a [u8], allowed: &[&str]) -> Result<Self, Response> {
        let text = std::str::from_utf8(body).map_err(|_| bad("the body is not UTF-8"))?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(bad("malformed body: must be a JSON object")); // serde would take an array too
        }
        let fields: Self =
            serde_json::from_str(text).map_err(|error| bad(&format!("malformed body: {error}")))?;
        for (name, value) in
            [("user_id", fields.user_id), ("reason", fields.reason), ("notify", fields.notify)]
        {
            if value.is_some() && !allowed.contains(&name) {
                return Err(bad(&format!(
                    "{name}: not a field of this call, which takes {}",
                    allowed.join(", ")
                )));
            }
        }
        Ok(fields)
    }

    fn user_id(&self) -> Result<String, Response> {
        let user_id: Option<String> = typed("user_id", self.user_id, "a string")?;
        let user_id = user_id.ok_or_else(|| bad("user_id: missing"))?;
        check_user_id(&user_id).map(|()| user_id)
    }

    fn message(&self) -> Result<String, Response> {
        let message = self.message.ok_or_else(|| bad("message: missing"))?;
        Ok(message.get().to_owned())
    }
}

/// The value of a field, `None` when it is absent or `null`.
fn typed<T: DeserializeOwned>(
    name: &str,
    value: Option<&RawValue>,
    expected: &str,
) -> Result<Option<T>, Response> {
    let Some(value) = value else { return Ok(None) };
    serde_json::from_str(value.get()).map_err(|_| bad(&format!("{name}: must be {expected}")))
}

fn bad(message: &str) -> Response {
    Response::error(400, message)
}
