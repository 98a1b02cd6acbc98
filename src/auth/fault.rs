//! Why a request's token is not accepted: a closed set, with what each means
//! in the answer. One table holds it all.
//!
//! No fault carries a part of a token, so none can reach an answer or a log.

use std::fmt;

use crate::http::Response;

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request has none.
    Missing,
    /// The request has several that differ.
    Several,
    /// It is longer than [`crate::limits::TOKEN_BYTES`].
    TooLong,
    /// It is no JWS in compact form, or has a critical extension.
    Malformed,
    /// It is signed in a way that is not accepted, or that its key is not for.
    Algorithm,
    /// Its `kid` names no key, or it names none and there are several.
    UnknownKey,
    /// It was not signed with the key, or was changed since.
    Signature,
    /// Its payload is no JSON object.
    Payload,
    /// This claim is not of the type or form it must have.
    Claim(&'static str),
    /// It has no `exp` although it must.
    NoExpiry,
    /// Its time is over.
    Expired,
    /// Its `nbf` or `iat` is in the future.
    NotYetValid,
    /// It was issued by somebody else.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// It has no `sub`, or one that cannot be a user id.
    Subject,
    /// The query's `user_id` is another than its `sub`.
    OtherUser,
}

impl Fault {
    /// The status of the answer, and the error code of RFC 6750, section 3.1.
    fn answer(self) -> (u16, Option<&'static str>) {
        match self {
            Fault::Missing => (401, None),
            Fault::Several => (400, Some("invalid_request")),
            Fault::OtherUser => (403, Some("insufficient_scope")),
            _ => (401, Some("invalid_token")),
        }
    }

    /// What is said of it, without quotes or backslashes, which a header's
    /// quoted string could not hold.
    fn text(self) -> &'static str {
        match self {
            Fault::Missing => {
                "a token is required, as Authorization: Bearer, behind the subprotocol throng.jwt, or as token in the query"
            }
            Fault::Several => "the request has more than one token",
            Fault::TooLong => "the token is too long",
            Fault::Malformed => "the token is not a signed JWT in compact form",
            Fault::Algorithm => "the token is signed with an algorithm that is not accepted",
            Fault::UnknownKey => "the key the token is signed with is not known",
            Fault::Signature => "the signature of the token is wrong",
            Fault::Payload => "the claims of the token are not a JSON object",
            Fault::Claim(_) => "a claim of the token is malformed",
            Fault::NoExpiry => "the token has no exp",
            Fault::Expired => "the token has expired",
            Fault::NotYetValid => "the token is not valid yet",
            Fault::Issuer => "the token is of another issuer",
            Fault::Audience => "the token is for another audience",
            Fault::Subject => "the token has no sub that can be a user id",
            Fault::OtherUser => "user_id is not the sub of the token",
        }
    }

    /// The status of the answer to it: 400, 401 or 403.
    pub fn status(self) -> u16 {
        self.answer().0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self {
            Fault::Claim(name) => write!(f, ": {name}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Response {
    /// RFC 6750, section 3: a request without a token is told the scheme and no more.
    fn from(fault: Fault) -> Response {
        let (status, code) = fault.answer();
        let challenge = match code {
            None => "Bearer".to_owned(),
            Some(code) => format!(r#"Bearer error="{code}", error_description="{fault}""#),
        };
        Response::error(status, &fault.to_string()).with("WWW-Authenticate", challenge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fault: Fault, status: u16, challenge: &str, error: &str) {
        let response = Response::from(fault);
        assert_eq!(response.headers, [("WWW-Authenticate", challenge.to_owned())]);
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(
            (response.status, &body["error"], &body["status"]),
            (status, &error.into(), &status.into())
        );
    }

    #[test]
    fn answers_say_what_is_wrong() {
        let expired = "the token has expired";
        let described =
            |code: &str, text: &str| format!(r#"Bearer error="{code}", error_description="{text}""#);
        check(Fault::Expired, 401, &described("invalid_token", expired), expired);
        let claim = "a claim of the token is malformed: exp";
        check(Fault::Claim("exp"), 401, &described("invalid_token", claim), claim);
        let several = "the request has more than one token";
        check(Fault::Several, 400, &described("invalid_request", several), several);
        let other = "user_id is not the sub of the token";
        check(Fault::OtherUser, 403, &described("insufficient_scope", other), other);
        assert_eq!(Response::from(Fault::Missing).headers, [("WWW-Authenticate", "Bearer".to_owned())]);
    }
}
