//! Sets of keys as JSON (RFC 7517), which issuers publish.
//!
//! A key that is for something else, or of a kind that is not spoken here, is
//! passed over: issuers publish keys for others too. One that should be of use
//! and is broken is an error.

use std::collections::HashSet;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Algorithm;
use super::keys::{Key, Keys};
use crate::limits::{KEY_ID_BYTES, KEYS};

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// One key; what it has beside these does not matter here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<IgnoredAny>,
}

/// Why a key is not used.
enum NotUsed {
    /// It is not meant for this.
    Other(&'static str),
    Broken(String),
}

impl From<&'static str> for NotUsed {
    fn from(why: &'static str) -> Self {
        NotUsed::Broken(why.to_owned())
    }
}

/// Reads a set.
///
/// # Errors
/// What is wrong, in one line without any of the content but a key's id.
pub(super) fn read(bytes: &[u8]) -> Result<Keys, String> {
    let set: Set = serde_json::from_slice(bytes).map_err(|error| {
        // The error itself would quote what it did not expect.
        format!("is not a JWK Set: line {} column {}", error.line(), error.column())
    })?;
    if set.keys.len() > KEYS {
        return Err(format!("has {} keys, more than {KEYS}", set.keys.len()));
    }
    let mut keys = Keys { keys: Vec::new(), passed_over: Vec::new() };
    for (index, jwk) in set.keys.into_iter().enumerate() {
        let name = jwk.name(index);
        match jwk.key() {
            Ok(key) => keys.keys.push(key),
            Err(NotUsed::Other(why)) => keys.passed_over.push(format!("{name} {why}")),
            Err(NotUsed::Broken(why)) => return Err(format!("{name}: {why}")),
        }
    }
    if keys.keys.is_empty() {
        return Err(match keys.passed_over.first() {
            Some(why) => format!("has no key of use: {why}"),
            None => "has no key".to_owned(),
        });
    }
    let mut seen = HashSet::new();
    match keys.keys.iter().find(|key| !seen.insert((key.id(), key.algorithm()))) {
        Some(key) => Err(format!("has two keys {key}; tokens could not say which they mean")),
        None => Ok(keys),
    }
}

impl Jwk {
    /// How messages call it: its place in the set, from 1, and its id.
    fn name(&self, index: usize) -> String {
        match self.kid.as_deref().filter(|id| id.len() <= KEY_ID_BYTES) {
            Some(id) => format!("key {} ({id:?})", index + 1),
            None => format!("key {}", index + 1),
        }
    }

    fn key(self) -> Result<Key, NotUsed> {
        if self.kid.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES) {
            return Err(NotUsed::Broken(format!("kid is longer than {KEY_ID_BYTES} bytes")));
        }
        self.check_purpose()?;
        let key = self.material()?;
        if let Some(alg) = &self.alg
            && Algorithm::of_header(alg) != Some(key.algorithm())
        {
            return Err(NotUsed::Other("is for another algorithm"));
        }
        Ok(key.named(self.kid))
    }

    /// `use` and `key_ops`, sections 4.2 and 4.3.
    fn check_purpose(&self) -> Result<(), NotUsed> {
        if self.purpose.as_ref().is_some_and(|purpose| purpose != "sig") {
            return Err(NotUsed::Other("is not for signatures"));
        }
        if self.key_ops.as_ref().is_some_and(|all| !all.iter().any(|operation| operation == "verify")) {
            return Err(NotUsed::Other("is not for verifying"));
        }
        Ok(())
    }

    /// RFC 7518, section 6, and RFC 8037, section 2.
    fn material(&self) -> Result<Key, NotUsed> {
        if self.d.is_some() {
            return Err("is a private key, which belongs to who signs".into());
        }
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Key::rsa(&bytes(&self.n, "n")?, &bytes(&self.e, "e")?).map_err(NotUsed::Broken),
            ("EC", Some("P-256")) => {
                let point = [&[4][..], &bytes(&self.x, "x")?, &bytes(&self.y, "y")?].concat();
                Key::p256(&point).ok_or("x and y are not 32 bytes each".into())
            }
            ("OKP", Some("Ed25519")) => Key::ed25519(&bytes(&self.x, "x")?).ok_or("x is not 32 bytes".into()),
            ("oct", _) => Key::secret(&bytes(&self.k, "k")?).map_err(NotUsed::Broken),
            ("EC" | "OKP", _) => Err(NotUsed::Other("is of a curve that is not spoken here")),
            _ => Err(NotUsed::Other("is of a type that is not spoken here")),
        }
    }
}

/// A member in base64url.
fn bytes(member: &Option<String>, name: &str) -> Result<Vec<u8>, NotUsed> {
    let text = member.as_ref().ok_or_else(|| NotUsed::Broken(format!("has no {name}")))?;
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| NotUsed::Broken(format!("{name} is not base64url")))
}
