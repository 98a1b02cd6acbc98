//! UTF-8 checked while it streams in (RFC 6455, section 8.1): a byte that
//! cannot continue what came before is found when it arrives, not at the end
//! of the message.

use std::str;

/// The text has a byte that no continuation can make valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

/// How much of a growing text is known to be valid. At most the last three
/// bytes, a sequence that is still incomplete, are looked at again.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValidPrefix {
    bytes: usize,
}

impl ValidPrefix {
    /// Checks what was appended to `text` since the last call. `text` is all
    /// of it, from its first byte; what was there before must not change.
    ///
    /// # Errors
    /// [`InvalidUtf8`] at the first byte that cannot be continued.
    pub fn check(&mut self, text: &[u8]) -> Result<(), InvalidUtf8> {
        debug_assert!(self.bytes <= text.len(), "the text shrank");
        let fresh = text.get(self.bytes..).unwrap_or_default();
        match str::from_utf8(fresh) {
            Ok(valid) => self.bytes += valid.len(),
            Err(error) if error.error_len().is_none() => self.bytes += error.valid_up_to(),
            Err(_) => return Err(InvalidUtf8),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of `step` bytes; the length at which it failed.
    fn fails_at(text: &[u8], step: usize) -> Option<usize> {
        let mut prefix = ValidPrefix::default();
        let ends = (step..text.len()).step_by(step).chain([text.len()]);
        ends.into_iter().find(|&end| prefix.check(&text[..end]).is_err())
    }

    fn check(text: &[u8], bad: Option<usize>) {
        assert_eq!(fails_at(text, 1), bad.map(|index| index + 1), "{text:x?} by the byte");
        for step in 1..=text.len() {
            assert_eq!(fails_at(text, step).is_some(), bad.is_some(), "{text:x?} by {step}");
        }
    }

    #[test]
    fn the_first_byte_that_cannot_be_continued_fails() {
        check("Κόσμε, grüße 🦀".as_bytes(), None);
        check(b"\x00\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", None);
        check(b"a\x80", Some(1)); // a continuation byte out of nowhere
        check(b"a\xc0\xaf", Some(1)); // overlong
        check(b"\xc1", Some(0));
        check(b"\xe0\x9f", Some(1)); // overlong, three bytes
        check(b"\xed\xa0\x80", Some(1)); // surrogate
        check(b"\xf0\x8f", Some(1)); // overlong, four bytes
        check(b"\xf4\x90", Some(1)); // above U+10FFFF
        check(b"\xf5", Some(0));
        check(b"\xff", Some(0));
        check(b"\xce\xbaa\xe2\x82a", Some(5)); // a sequence cut short
    }

    #[test]
    fn an_unfinished_sequence_is_no_error_yet() {
        for text in [b"ab\xe2\x82".as_slice(), b"\xf0\x90\x80", b"\xc3"] {
            check(text, None);
        }
    }
}
