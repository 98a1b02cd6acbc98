//! Where a request carries its token.

use std::borrow::Cow;

use super::Fault;
use crate::http::Head;
use crate::limits::TOKEN_BYTES;
use crate::ws::handshake;

/// The key of the query.
const QUERY_KEY: &str = "token";

/// The token of a request: `Authorization: Bearer` (RFC 6750, section 2.1), the
/// subprotocol offered behind [`handshake::TOKEN_SUBPROTOCOL`], or `token` in
/// the query. The same one in several places is one.
///
/// # Errors
/// [`Fault::Missing`], [`Fault::Several`] if there are different ones, or
/// [`Fault::TooLong`].
pub fn presented<'a>(head: &Head<'a>) -> Result<Cow<'a, str>, Fault> {
    let bearers = head.headers("authorization").filter_map(bearer).map(Cow::Borrowed);
    let offered = handshake::offered_tokens(head).map(Cow::Borrowed);
    let queried = head.query_values(QUERY_KEY);
    let mut tokens = bearers.chain(offered).chain(queried).filter(|token| !token.is_empty());
    let token = tokens.next().ok_or(Fault::Missing)?;
    if tokens.any(|other| other != token) {
        return Err(Fault::Several);
    }
    if token.len() > TOKEN_BYTES { Err(Fault::TooLong) } else { Ok(token) }
}

/// The token of RFC 6750, section 2.1; the scheme's case does not matter.
/// Another scheme's credentials are somebody else's business.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Parsed, parse};

    fn check(query: &str, headers: &str, expected: Result<&str, Fault>) {
        let request = format!("GET /ws{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let Ok(Parsed::Complete { head, .. }) = parse(request.as_bytes()) else { panic!("{request}") };
        assert_eq!(presented(&head).as_deref(), expected.as_deref(), "{query} {headers}");
    }

    #[test]
    fn the_three_places() {
        check("", "Authorization: Bearer a.b.c\r\n", Ok("a.b.c"));
        check("", "authorization: bearer  a.b.c \r\n", Ok("a.b.c"));
        check("", "Sec-WebSocket-Protocol: throng.jwt, a.b.c\r\n", Ok("a.b.c"));
        check("", "Sec-WebSocket-Protocol: v1, throng.jwt,a.b.c, v2\r\n", Ok("a.b.c"));
        check("", "Sec-WebSocket-Protocol: throng.jwt\r\nSec-WebSocket-Protocol: a.b.c\r\n", Ok("a.b.c"));
        check("?user_id=x&token=a.b.c", "", Ok("a.b.c"));
        check("?token=a%2Eb.c", "", Ok("a.b.c"));
    }

    #[test]
    fn no_token() {
        check("", "", Err(Fault::Missing));
        check("?token=", "", Err(Fault::Missing));
        check("?Token=a", "", Err(Fault::Missing));
        check("", "Authorization: Basic dTpw\r\n", Err(Fault::Missing));
        check("", "Authorization: Bearer \r\n", Err(Fault::Missing));
        check("", "Sec-WebSocket-Protocol: v1, a.b.c\r\n", Err(Fault::Missing));
        check("", "Sec-WebSocket-Protocol: a.b.c, throng.jwt\r\n", Err(Fault::Missing));
    }

    #[test]
    fn several_tokens_must_be_the_same() {
        check("?token=a", "Authorization: Bearer a\r\n", Ok("a"));
        check("?token=a", "Authorization: Bearer b\r\n", Err(Fault::Several));
        check("?token=a&token=b", "", Err(Fault::Several));
        check("", "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", Err(Fault::Several));
        check("?token=a", "Sec-WebSocket-Protocol: throng.jwt, b\r\n", Err(Fault::Several));
        check("", "Sec-WebSocket-Protocol: throng.jwt, a, throng.jwt, b\r\n", Err(Fault::Several));
        check("?token=a", "Authorization: Basic b\r\n", Ok("a"));
    }

    #[test]
    fn a_token_is_bounded() {
        let longest = "x".repeat(TOKEN_BYTES);
        check(&format!("?token={longest}"), "", Ok(&longest));
        check(&format!("?token={longest}x"), "", Err(Fault::TooLong));
    }
}
