//! The body of the call that adds a backend.

use super::bad;
use crate::balancer::roster::{Spec, WEIGHTS};
use crate::http::Response;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    address: String,
    #[serde(default, deserialize_with = "whole")]
    weight: Option<u32>,
    #[serde(default, deserialize_with = "whole")]
    max_connections: Option<u32>,
}

/// `null` or a whole number, which in JSON may be written `2.0` or `2e0` too.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = number.as_u64().or_else(|| {
        let number = number.as_f64()?;
        // Exact: 2³² and all whole numbers below it are doubles.
        (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number)).then_some(number as u64)
    });
    let small = whole.and_then(|number| u32::try_from(number).ok());
    small
        .map(Some)
        .ok_or_else(|| D::Error::custom(format_args!("{number} is no whole number from 0 to {}", u32::MAX)))
}

/// Reads `{"address":"HOST:PORT","weight":1,"max_connections":100}`.
pub(super) fn add(body: &[u8]) -> Result<Spec, Response> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad("malformed body: must be a JSON object")); // serde would take an array too
    }
    let fields: Fields =
        serde_json::from_slice(body).map_err(|error| bad(&format!("malformed body: {error}")))?;
    if fields.address.contains(',') {
        return Err(bad("address: HOST:PORT; weight and max_connections are fields of their own"));
    }
    let spec: Spec = fields.address.parse().map_err(|error| bad(&format!("address: {error}")))?;
    let weight = fields.weight.unwrap_or(spec.weight);
    if !WEIGHTS.contains(&weight) {
        return Err(bad(&format!("weight: from {} to {}", WEIGHTS.start(), WEIGHTS.end())));
    }
    if fields.max_connections.is_some_and(|max| max == 0 || max == u32::MAX) {
        return Err(bad(&format!("max_connections: from 1 to {}, or null for any number", u32::MAX - 1)));
    }
    Ok(Spec { weight, max_connections: fields.max_connections, ..spec })
}
