//! Agreeing on permessage-deflate (RFC 7692, section 7.1).

use crate::ws::deflate::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use std::fmt::Write;

/// What was agreed: no context is taken over in either direction, and these
/// windows, as powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// The window we compress with: 9 to 15.
    pub server_window_bits: u8,
    /// The window the client may compress with: always 15, since one
    /// decompressor with the largest window serves everyone.
    pub client_window_bits: u8,
}

/// Picks the first acceptable offer from the values of all
/// `Sec-WebSocket-Extensions` headers: what is agreed, and the value of the
/// response header. `None` when there is no offer we can meet; the connection
/// then goes on without compression.
///
/// An offer is declined for a parameter that is unknown, repeated or out of
/// range (section 7.1), and for `server_max_window_bits=8`, which zlib's raw
/// deflate cannot keep to.
pub fn negotiate<'a>(offers: impl Iterator<Item = &'a str>) -> Option<(Deflate, String)> {
    offers.flat_map(|value| split(value, b',')).find_map(accept)
}

/// The parameters of an offer so far.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
}

fn accept(offer: &str) -> Option<(Deflate, String)> {
    let mut parts = split(offer, b';');
    if parts.next()? != "permessage-deflate" {
        return None;
    }
    let mut offer = Offer::default();
    for parameter in parts {
        offer.take(parameter)?;
    }
    let mut response =
        String::from("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    if let Some(bits) = offer.server_max_window_bits {
        // Writing to a string does not fail.
        let _ = write!(response, "; server_max_window_bits={bits}");
    }
    let server_window_bits = offer.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX);
    Some((Deflate { server_window_bits, client_window_bits: WINDOW_BITS_MAX }, response))
}

impl Offer {
    /// Takes one parameter; `None` declines the offer.
    fn take(&mut self, parameter: &str) -> Option<()> {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquote(value.trim_start()))),
            None => (parameter, None),
        };
        match (name, value) {
            ("server_no_context_takeover", None) => once(&mut self.server_no_context_takeover),
            ("client_no_context_takeover", None) => once(&mut self.client_no_context_takeover),
            ("server_max_window_bits", Some(value)) if self.server_max_window_bits.is_none() => {
                self.server_max_window_bits =
                    Some(window_bits(value).filter(|&bits| bits >= WINDOW_BITS_MIN)?);
                Some(())
            }
            ("client_max_window_bits", None) => once(&mut self.client_max_window_bits),
            ("client_max_window_bits", Some(value)) => {
                window_bits(value)?;
                once(&mut self.client_max_window_bits)
            }
            _ => None,
        }
    }
}

/// Sets a flag that may be set once.
fn once(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}

/// 8 to 15, without leading zeros (section 7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

/// The value of a quoted string that needed no quotes (RFC 6455, section 9.1).
fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// The trimmed parts between separators that stand outside quoted strings.
fn split(value: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |character: char| {
            let separates = !quoted && character == char::from(separator);
            quoted ^= character == '"' && !escaped;
            escaped = quoted && character == '\\' && !escaped;
            separates
        })
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn check(offers: &[&str], server_window_bits: Option<u8>) {
        let agreed = negotiate(offers.iter().copied());
        assert_eq!(
            agreed.as_ref().map(|(deflate, _)| deflate.server_window_bits),
            server_window_bits,
            "{offers:?}"
        );
        assert!(agreed.is_none_or(|(deflate, _)| deflate.client_window_bits == 15), "{offers:?}");
    }

    #[test]
    fn offers_are_met_in_the_order_of_preference() {
        check(&[], None);
        check(&[""], None);
        check(&["permessage-deflate"], Some(15));
        check(&["permessage-deflate; client_max_window_bits"], Some(15));
        check(&["x-webkit-deflate-frame, permessage-deflate"], Some(15));
        check(&["x-webkit-deflate-frame", "permessage-deflate;server_max_window_bits=9"], Some(9));
        check(&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], Some(15));
        check(&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], Some(10));
        check(
            &["permessage-deflate ; server_max_window_bits = \"12\" ;client_no_context_takeover"],
            Some(12),
        );
        for bits in 9..=15 {
            check(&[&format!("permessage-deflate; server_max_window_bits={bits}")], Some(bits));
        }
        for bits in 8..=15 {
            check(&[&format!("permessage-deflate; client_max_window_bits={bits}")], Some(15));
        }
    }

    #[test]
    fn offers_that_cannot_be_met_are_declined() {
        for parameters in [
            "server_max_window_bits",
            "server_max_window_bits=8",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=+9",
            "server_max_window_bits=",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits; client_max_window_bits=9",
            "server_max_window_bits=9; server_max_window_bits=9",
            "server_no_context_takeover=1",
            "client_no_context_takeover; client_no_context_takeover",
            "unheard_of",
            "unheard_of=3",
            "",
        ] {
            check(&[&format!("permessage-deflate; {parameters}")], None);
        }
        check(&["PERMESSAGE-DEFLATE-2", "permessage-deflat"], None);
        check(&["other; parameter=\"a, permessage-deflate\""], None);
        check(&["other; parameter=\"a\\\", permessage-deflate\""], None);
        check(&["other; parameter=\"a\", permessage-deflate"], Some(15));
    }

    #[test]
    fn the_response_rules_out_context_takeover_and_repeats_the_window() {
        let response = |offer| negotiate([offer].into_iter()).unwrap().1;
        assert_eq!(response("permessage-deflate"), RESPONSE);
        assert_eq!(response("permessage-deflate; client_max_window_bits=9"), RESPONSE);
        assert_eq!(
            response("permessage-deflate; server_no_context_takeover; server_max_window_bits=11"),
            format!("{RESPONSE}; server_max_window_bits=11")
        );
    }
}
