//! The compact form of a signed token: `header.payload.signature`, each in
//! base64url without padding (RFC 7515, section 3.1).

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Algorithm, Fault, object};
use crate::limits::TOKEN_BYTES;

/// A token whose signature was not looked at yet.
pub(super) struct Jws<'a> {
    pub(super) header: Header,
    /// What is signed: header and payload as they came.
    pub(super) signed: &'a [u8],
    payload: &'a str,
    pub(super) signature: Vec<u8>,
}

/// The parts of the header that are looked at. A name that comes twice is an
/// error (RFC 7515, section 4).
#[derive(Deserialize)]
pub(super) struct Header {
    alg: String,
    /// Which key it was signed with.
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

impl Header {
    /// What `alg` names, if it is one of ours.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::of_header(&self.alg)
    }
}

/// Takes a token apart.
///
/// # Errors
/// [`Fault::TooLong`], or [`Fault::Malformed`] if it has not three parts in the
/// one right base64url form, its header is not JSON with `alg`, or names
/// extensions that must be understood (`crit`, section 4.1.11): none is.
pub(super) fn parse(token: &str) -> Result<Jws<'_>, Fault> {
    if token.len() > TOKEN_BYTES {
        return Err(Fault::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Fault::Malformed)?;
    let header: Header = object(&decode(header)?).ok_or(Fault::Malformed)?;
    if header.crit.is_some() || payload.contains('.') {
        return Err(Fault::Malformed);
    }
    Ok(Jws { header, signed: signed.as_bytes(), payload, signature: decode(signature)? })
}

impl Jws<'_> {
    /// The payload, decoded. To be asked for when the signature was found right.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Fault> {
        decode(self.payload)
    }
}

fn decode(text: &str) -> Result<Vec<u8>, Fault> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Fault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: &str, expected: Result<(), Fault>) {
        assert_eq!(parse(token).map(drop), expected, "{token:.80}");
    }

    fn with_header(header: &str) -> String {
        format!("{}.e30.AA", BASE64URL_NOPAD.encode(header.as_bytes()))
    }

    #[test]
    fn three_parts_in_base64url() {
        check(&with_header(r#"{"alg":"HS256"}"#), Ok(()));
        check(&with_header(r#"{"alg":"none"}"#), Ok(()));
        let usual = with_header(r#"{"alg":"HS256"}"#);
        for wrong in ["", ".", "..", "a.b", "e30.e30.AA", "e30", "{}.{}.x"] {
            check(wrong, Err(Fault::Malformed));
        }
        check(&format!("{usual}="), Err(Fault::Malformed));
        check(&format!("{usual}.AA"), Err(Fault::Malformed));
        check(&format!("{usual}.AA.AA"), Err(Fault::Malformed));
        check(&usual.replace("AA", "AB"), Err(Fault::Malformed));
        check(&usual.replace("AA", "A+A/"), Err(Fault::Malformed));
        check(&format!("{usual} "), Err(Fault::Malformed));
        check(&format!("{usual}{}", "A".repeat(TOKEN_BYTES)), Err(Fault::TooLong));
    }

    #[test]
    fn the_header_is_an_object_with_alg_and_nothing_critical() {
        check(&with_header(r#"{"alg":"HS256","kid":"a","typ":"JWT","x":[1]}"#), Ok(()));
        for wrong in [
            "{}",
            "[]",
            "null",
            r#"["HS256"]"#,
            r#"["HS256",null,null]"#,
            r#"{"alg":1}"#,
            r#"{"alg":"HS256","kid":1}"#,
            r#"{"alg":"HS256","alg":"none"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256"} x"#,
        ] {
            check(&with_header(wrong), Err(Fault::Malformed));
        }
    }
}
