//! Who may change something, on a node and on a balancer.

use crate::http::{Head, Response};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The address at the other end of the socket, whatever headers say.
    pub peer: IpAddr,
    /// Whether the request came through a proxy
    /// ([`crate::forwarded::has_forwarding_header`]).
    pub forwarded: bool,
}

/// With a token configured, whoever presents it. Without one, only a program on
/// this machine: a peer on the loopback that is no proxy and no browser, whose
/// pages could otherwise reach the node of whoever looks at them.
///
/// # Errors
/// The refusal to answer with: 401 or 403.
pub fn check(head: &Head<'_>, caller: &Caller, token: Option<&str>) -> Result<(), Response> {
    match token {
        Some(token) => check_token(head, token),
        None => check_local(head, caller),
    }
}

fn check_token(head: &Head<'_>, token: &str) -> Result<(), Response> {
    let challenge = |message, value: &str| Err(Response::error(401, message).with("www-authenticate", value));
    let Some(presented) = head.header("authorization").and_then(bearer) else {
        return challenge("Authorization: Bearer with the admin token is required", "Bearer");
    };
    match bool::from(presented.as_bytes().ct_eq(token.as_bytes())) {
        true => Ok(()),
        false => challenge("the admin token is wrong", r#"Bearer error="invalid_token""#),
    }
}

/// The token of RFC 6750, section 2.1; the scheme's case does not matter.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_ascii())
}

fn check_local(head: &Head<'_>, caller: &Caller) -> Result<(), Response> {
    let refuse = |message| Err(Response::error(403, message));
    if !caller.peer.to_canonical().is_loopback() || caller.forwarded {
        return refuse(
            "only local callers may do this until THRONG_ADMIN_TOKEN or --admin-token-file is set",
        );
    }
    if head.header("origin").is_some() {
        return refuse("browsers may not do this until THRONG_ADMIN_TOKEN or --admin-token-file is set");
    }
    Ok(())
}
