//! What a token says (RFC 7519, section 4.1), checked once its signature is known to be right.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::grants::{self, Grants};
use super::{Algorithm, Bearer, Fault, object};
use crate::limits::USER_ID_BYTES;

/// What is asked of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Algorithms that are accepted; empty for all that there are keys for.
    pub algorithms: &'a [Algorithm],
    /// The one `iss` that is accepted; `None` for any.
    pub issuer: Option<&'a str>,
    /// What `aud` must be, or list; `None`: it is not looked at.
    pub audience: Option<&'a str>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
}

/// The claims that are looked at, each as it was written, so that what is
/// there but of another type is never taken for absent. One that comes twice is
/// an error (section 4).
#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow, default, deserialize_with = "written")]
    iss: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "written")]
    aud: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "written")]
    sub: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "written")]
    exp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "written")]
    nbf: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "written")]
    iat: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "written")]
    throng: Option<&'a RawValue>,
}

/// Whatever stands there, `null` too.
fn written<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// One audience, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Checks the claims in `payload` and reads who it is.
pub(super) fn check(payload: &[u8], rules: &Rules<'_>, now: Duration) -> Result<Bearer, Fault> {
    let claims: Claims<'_> = object(payload).ok_or(Fault::Payload)?;
    let expires_at = claims.check_times(rules, now)?;
    claims.check_issuer(rules.issuer)?;
    claims.check_audience(rules.audience)?;
    Ok(Bearer { user: claims.subject()?, expires_at, grants: claims.grants()? })
}

impl Claims<'_> {
    /// `exp`, `nbf` and `iat`, sections 4.1.4 to 4.1.6; whole seconds of the first.
    fn check_times(&self, rules: &Rules<'_>, now: Duration) -> Result<Option<u64>, Fault> {
        let expires_at = seconds(self.exp, "exp")?;
        let (starts_at, issued_at) = (seconds(self.nbf, "nbf")?, seconds(self.iat, "iat")?);
        match expires_at {
            None if rules.require_exp => return Err(Fault::NoExpiry),
            Some(at) if now >= Duration::from_secs(at).saturating_add(rules.leeway) => {
                return Err(Fault::Expired);
            }
            _ => {}
        }
        let latest = now.saturating_add(rules.leeway).as_secs();
        if [starts_at, issued_at].into_iter().flatten().any(|at| at > latest) {
            return Err(Fault::NotYetValid);
        }
        Ok(expires_at)
    }

    fn check_issuer(&self, expected: Option<&str>) -> Result<(), Fault> {
        let issuer: Option<String> = read(self.iss, "iss")?;
        match expected {
            Some(expected) if issuer.as_deref() != Some(expected) => Err(Fault::Issuer),
            _ => Ok(()),
        }
    }

    fn check_audience(&self, expected: Option<&str>) -> Result<(), Fault> {
        let audience: Option<Audience> = read(self.aud, "aud")?;
        let Some(expected) = expected else { return Ok(()) };
        let is_meant = match audience {
            None => false,
            Some(Audience::One(one)) => one == expected,
            Some(Audience::Several(several)) => several.iter().any(|one| one == expected),
        };
        if is_meant { Ok(()) } else { Err(Fault::Audience) }
    }

    fn subject(&self) -> Result<String, Fault> {
        let subject: Option<String> = read(self.sub, "sub")?;
        subject.filter(|user| !user.is_empty() && user.len() <= USER_ID_BYTES).ok_or(Fault::Subject)
    }

    fn grants(&self) -> Result<Grants, Fault> {
        let Some(claim) = self.throng else { return Ok(Grants::default()) };
        grants::read(claim.get()).ok_or(Fault::Claim("throng"))
    }
}

/// A claim of type `T`, if it is there.
fn read<T: for<'de> Deserialize<'de>>(
    claim: Option<&RawValue>,
    name: &'static str,
) -> Result<Option<T>, Fault> {
    let value = claim.map(|claim| serde_json::from_str(claim.get())).transpose();
    value.map_err(|_| Fault::Claim(name))
}

/// A `NumericDate` (section 2): seconds since 1970, perhaps with a fraction,
/// which is cut off. What is before 1970 counts as its first second.
fn seconds(claim: Option<&RawValue>, name: &'static str) -> Result<Option<u64>, Fault> {
    let date: Option<f64> = read(claim, name)?;
    // The conversion saturates.
    Ok(date.map(|date| date as u64))
}
