//! As much of DER (X.690) as the certificates and public keys of RFC 5280 and
//! RFC 8017 take: nested elements of definite length.
//!
//! Never allocates, never panics: whatever is not exactly as it must be is `None`.

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;

/// The content of the element with this tag at the beginning of `input`, and
/// what follows it. Lengths up to 65 535, in the shortest form (X.690, section 10.1).
pub(crate) fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match input {
        [first, 0x82, high, low, rest @ ..] if *first == tag && *high > 0 => {
            (usize::from(*high) << 8 | usize::from(*low), rest)
        }
        [first, 0x81, low, rest @ ..] if *first == tag && *low > 0x7f => (usize::from(*low), rest),
        [first, short, rest @ ..] if *first == tag && *short <= 0x7f => (usize::from(*short), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The only element of `input`.
pub(crate) fn only(input: &[u8], tag: u8) -> Option<&[u8]> {
    element(input, tag).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

/// A positive integer at the beginning of `input`, without leading zeros, and what follows it.
pub(crate) fn positive(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = element(input, INTEGER)?;
    let digits = match content {
        [0, next, ..] if *next > 0x7f => &content[1..],
        [first, ..] if (1..=0x7f).contains(first) => content,
        _ => return None,
    };
    Some((digits, rest))
}

/// `SubjectPublicKeyInfo` (RFC 5280, section 4.1): the algorithm's identifier
/// without its outer tag, and the bytes of the key.
pub(crate) fn public_key_info(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (algorithm, rest) = element(only(der, SEQUENCE)?, SEQUENCE)?;
    let key = only(rest, BIT_STRING)?.strip_prefix(&[0])?;
    Some((algorithm, key))
}

/// `RSAPublicKey` (RFC 8017, appendix A.1.1): modulus and exponent, big-endian.
pub(crate) fn rsa_public_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (modulus, rest) = positive(only(der, SEQUENCE)?)?;
    let (exponent, rest) = positive(rest)?;
    rest.is_empty().then_some((modulus, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_definite_and_minimal() {
        let check = |input: &[u8], expected: Option<(usize, usize)>| {
            let found = element(input, SEQUENCE).map(|(content, rest)| (content.len(), rest.len()));
            assert_eq!(found, expected, "{:02x?}", &input[..input.len().min(6)]);
        };
        check(&[0x30, 0], Some((0, 0)));
        check(&[0x30, 1, 7, 8], Some((1, 1)));
        check(&[&[0x30, 0x81, 0x80][..], &[0; 129]].concat(), Some((128, 1)));
        check(&[&[0x30, 0x82, 1, 0][..], &[0; 256]].concat(), Some((256, 0)));
        check(&[0x31, 0], None);
        check(&[0x30, 2, 7], None);
        check(&[0x30, 0x80, 0, 0], None);
        check(&[&[0x30, 0x81, 0x7f][..], &[0; 127]].concat(), None);
        check(&[&[0x30, 0x82, 0, 0xff][..], &[0; 255]].concat(), None);
        check(&[0x30, 0x83, 0, 0, 0], None);
        check(&[0x30], None);
        check(&[], None);
    }

    #[test]
    fn integers_are_positive_and_minimal() {
        let check = |input: &[u8], expected: Option<&[u8]>| {
            assert_eq!(positive(input).map(|(digits, _)| digits), expected, "{input:02x?}");
        };
        check(&[2, 1, 3], Some(&[3]));
        check(&[2, 2, 0, 0x80], Some(&[0x80]));
        check(&[2, 3, 1, 0, 1], Some(&[1, 0, 1]));
        for wrong in [&[2, 1, 0][..], &[2, 2, 0, 1], &[2, 1, 0x80], &[2, 0], &[3, 1, 3]] {
            check(wrong, None);
        }
    }

    #[test]
    fn no_prefix_of_a_key_is_a_key() {
        let rsa = [0x30, 6, 2, 1, 0x71, 2, 1, 3];
        assert_eq!(rsa_public_key(&rsa), Some((&[0x71][..], &[3][..])));
        let info = [&[0x30, 16, 0x30, 3, 6, 1, 9, 3, 9, 0][..], &rsa].concat();
        assert_eq!(public_key_info(&info), Some((&[6, 1, 9][..], &rsa[..])));
        for end in 0..info.len() {
            assert_eq!(public_key_info(&info[..end]), None, "{end}");
        }
        assert_eq!(public_key_info(&[&info[..], &[0]].concat()), None, "something behind it");
    }
}
