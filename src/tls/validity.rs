//! Until when a certificate is valid.
//!
//! Owns: [`expires_at`]. Never: whether that is soon, or what to do about it.

use std::time::SystemTime;

use crate::der::{self, INTEGER, SEQUENCE};

/// The explicit tag of the version, which is left out of version 1.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the validity of a certificate in DER (RFC 5280, section 4.1);
/// `None` when it is not written as it should be.
pub(super) fn expires_at(certificate: &[u8]) -> Option<SystemTime> {
    let (to_be_signed, _) = der::element(der::only(certificate, SEQUENCE)?, SEQUENCE)?;
    let rest = der::element(to_be_signed, VERSION).map_or(to_be_signed, |(_, rest)| rest);
    let (_serial, rest) = der::element(rest, INTEGER)?;
    let (_algorithm, rest) = der::element(rest, SEQUENCE)?;
    let (_issuer, rest) = der::element(rest, SEQUENCE)?;
    let (validity, _) = der::element(rest, SEQUENCE)?;
    let (_, not_after) = time(validity)?;
    let (text, _) = time(not_after)?;
    humantime::parse_rfc3339(&text).ok()
}

/// A time at the beginning of `input`, as RFC 3339, and what follows it. Both
/// forms are in UTC with seconds (RFC 5280, section 4.1.2.5).
fn time(input: &[u8]) -> Option<(String, &[u8])> {
    let (text, rest, century) = match der::element(input, GENERALIZED_TIME) {
        Some((text, rest)) => (text, rest, ""),
        None => {
            let (text, rest) = der::element(input, UTC_TIME)?;
            (text, rest, if text.first()? >= &b'5' { "19" } else { "20" })
        }
    };
    let digits = format!("{century}{}", std::str::from_utf8(text).ok()?.strip_suffix('Z')?);
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize| &digits[from..from + 2];
    let (date, clock) = ((&digits[..4], part(4), part(6)), (part(8), part(10), part(12)));
    Some((format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, clock.0, clock.1, clock.2), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 3, 9);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms() {
        // From 2050 on the year has four digits.
        for year in [1999, 2027, 2049, 2050, 2120] {
            let expected = humantime::parse_rfc3339(&format!("{year}-03-09T00:00:00Z")).unwrap();
            assert_eq!(expires_at(&certificate(year)), Some(expected), "{year}");
        }
    }

    #[test]
    fn no_prefix_of_a_certificate_is_one() {
        let whole = certificate(2030);
        for length in 0..whole.len() {
            assert_eq!(expires_at(&whole[..length]), None, "{length} bytes");
        }
    }
}
