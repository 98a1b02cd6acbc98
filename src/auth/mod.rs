//! Who a client is, as a token says that somebody else has signed: JSON Web
//! Tokens (RFC 7519) in the compact form of JWS (RFC 7515).
//!
//! Owns: where a request carries its token ([`presented`]), which keys may have
//! signed it ([`Keys`]), whether it is believed ([`verify`]), and what it lets
//! its bearer do ([`Grants`]). Never: reads a file or a clock, connects
//! anywhere, or looks at what a token says of its own keys (`jwk`, `jku`,
//! `x5u`): only what the operator gave counts.
//!
//! A key decides by its type which one algorithm it is for; a token that names
//! another is refused before anything is computed. Signatures are `ring`'s,
//! which TLS brings along: what is here beside it is the form of tokens and
//! keys. A JOSE crate would bring implementations of RSA, ECDSA and Ed25519 of
//! its own, read the clock itself, and leave the checks of claims to be asked for.

mod algorithm;
mod claims;
mod fault;
mod grants;
mod jwks;
mod jws;
mod keys;
mod pem;
mod presented;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Deserialize;

pub use algorithm::Algorithm;
pub use claims::Rules;
pub use fault::Fault;
pub use grants::{Grants, Reach};
pub use keys::{Key, KeyRing, Keys};
pub use presented::presented;

/// Who presented a token that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// `sub`, not empty, at most [`crate::limits::USER_ID_BYTES`].
    pub user: String,
    /// `exp`, in whole seconds since 1970 (UTC), without leeway; `None` if the
    /// token has none and need not have one.
    pub expires_at: Option<u64>,
    /// What the token lets its bearer do.
    pub grants: Grants,
}

/// Whether a token is believed, and who presents it. `now` is the time since
/// 1970 (UTC). Nothing of the payload is looked at before the signature is
/// found right. Costs one signature, whatever the token says and however many
/// keys there are.
///
/// # Errors
/// The first [`Fault`] found; it names no part of the token.
pub fn verify(token: &str, keys: &Keys, rules: &Rules<'_>, now: Duration) -> Result<Bearer, Fault> {
    let jws = jws::parse(token)?;
    let algorithm = jws.header.algorithm().ok_or(Fault::Algorithm)?;
    if !rules.algorithms.is_empty() && !rules.algorithms.contains(&algorithm) {
        return Err(Fault::Algorithm);
    }
    let key = keys.find(jws.header.kid.as_deref(), algorithm)?;
    if !key.verifies(jws.signed, &jws.signature) {
        return Err(Fault::Signature);
    }
    claims::check(&jws.payload()?, rules, now)
}

/// Reads a JSON object. What is derived for a struct would take an array of its
/// fields, too.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}
