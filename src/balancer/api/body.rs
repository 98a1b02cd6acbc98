//! The body of the call that adds a backend.

use super::bad;
use crate::balancer::roster::{Spec, WEIGHTS};
use crate::http::Response;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    address: String,
    weight: Option<u32>,
    max_connections: Option<u32>,
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
