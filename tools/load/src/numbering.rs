//! Numbered messages: the number in the text, and what a receiver concludes from the numbers that arrive.
//! Never does I/O.

/// What stands before the eight hexadecimal digits of a number.
const MARK: &[u8] = b"seq=";
/// Bytes of a mark and its number.
pub(crate) const TOKEN_BYTES: usize = MARK.len() + 8;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Eight hexadecimal digits.
pub(crate) fn hex(number: u32) -> [u8; 8] {
    std::array::from_fn(|digit| HEX[(number >> (28 - 4 * digit)) as usize & 15])
}

/// Reads eight hexadecimal digits.
pub(crate) fn from_hex(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits.get(..8)?).ok()?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
}

/// The number of a message that carries one. `place` remembers where it stood last time, so that the common case is
/// one comparison.
pub(crate) fn find(payload: &[u8], place: &mut usize) -> Option<u32> {
    let at = |start: usize| payload.get(start..start + TOKEN_BYTES)?.strip_prefix(MARK).and_then(from_hex);
    if let Some(number) = at(*place) {
        return Some(number);
    }
    let start = payload.windows(MARK.len()).position(|window| window == MARK)?;
    *place = start;
    at(start)
}

/// A message with room for a number, made once.
pub(crate) struct Template {
    text: Vec<u8>,
    number_at: usize,
}

impl Template {
    /// Replaces `{seq}` by a number's place and `{fill}` by as many bytes as bring the text to `size`.
    pub(crate) fn new(template: &str, size: usize) -> Result<Template, String> {
        if !template.contains("{seq}") {
            return Err("the template has no {seq}: messages could not be told apart".into());
        }
        let mut text = template.replacen("{seq}", "seq=00000000", 1);
        if text.contains("{fill}") {
            let missing = size.saturating_sub(text.len() - "{fill}".len());
            text = text.replacen("{fill}", &"x".repeat(missing), 1);
        }
        let number_at = text.find("seq=00000000").unwrap_or_default() + MARK.len();
        Ok(Template { text: text.into_bytes(), number_at })
    }

    /// The text with this number in it.
    pub(crate) fn numbered(&mut self, number: u32) -> &[u8] {
        self.text[self.number_at..self.number_at + 8].copy_from_slice(&hex(number));
        &self.text
    }
}

/// Follows the numbers 0, 1, 2, … that one receiver gets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequence {
    /// The number that comes next if nothing goes wrong.
    next: u32,
    /// Bit i: number `next - 1 - i` has arrived.
    recent: u64,
}

/// What the receivers of a run got that they should not have, or did not get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Numbers that never arrived.
    pub(crate) lost: u64,
    /// Numbers that arrived again.
    pub(crate) duplicated: u64,
    /// Numbers that arrived after a later one.
    pub(crate) out_of_order: u64,
}

impl Sequence {
    /// Notes that `number` arrived. A number overtaken by more than 64 others counts as a duplicate.
    pub(crate) fn arrived(&mut self, number: u32, faults: &mut Faults) {
        if number == self.next {
            self.next = number.wrapping_add(1);
            self.recent = self.recent << 1 | 1;
        } else if number > self.next {
            let skipped = number - self.next;
            faults.lost += u64::from(skipped);
            self.recent = self.recent.checked_shl(skipped + 1).unwrap_or(0) | 1;
            self.next = number.wrapping_add(1);
        } else {
            let age = self.next - 1 - number;
            if age < 64 && self.recent & (1 << age) == 0 {
                self.recent |= 1 << age;
                faults.lost = faults.lost.saturating_sub(1);
                faults.out_of_order += 1;
            } else {
                faults.duplicated += 1;
            }
        }
    }

    /// Notes that `sent` messages had been sent and no more will arrive.
    pub(crate) fn finish(&self, sent: u32, faults: &mut Faults) {
        faults.lost += u64::from(sent.saturating_sub(self.next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrived: &[u32], sent: u32, lost: u64, duplicated: u64, out_of_order: u64) {
        let (mut sequence, mut faults) = (Sequence::default(), Faults::default());
        arrived.iter().for_each(|number| sequence.arrived(*number, &mut faults));
        sequence.finish(sent, &mut faults);
        assert_eq!(faults, Faults { lost, duplicated, out_of_order }, "{arrived:?} of {sent}");
    }

    #[test]
    fn faults_are_told_apart() {
        check(&[0, 1, 2], 3, 0, 0, 0);
        check(&[], 3, 3, 0, 0);
        check(&[0, 1], 3, 1, 0, 0);
        check(&[0, 2], 3, 1, 0, 0);
        check(&[0, 2, 1], 3, 0, 0, 1);
        check(&[0, 0, 1, 1], 2, 0, 2, 0);
        check(&[2, 1, 0, 1], 3, 0, 1, 2);
        check(&[100, 0], 101, 100, 1, 0);
        check(&[63, 0], 64, 62, 0, 1);
    }

    #[test]
    fn a_template_is_filled_to_its_size_and_numbered() {
        let mut template = Template::new(r#"{"n":"{seq}","f":"{fill}"}"#, 40).unwrap();
        let text = template.numbered(0xbeef).to_vec();
        assert_eq!(text.len(), 40);
        let mut place = 0;
        assert_eq!(find(&text, &mut place), Some(0xbeef));
        assert_eq!(place, 6);
        assert_eq!(find(&text, &mut place), Some(0xbeef));
        assert_eq!(find(b"no number", &mut place), None);
        assert_eq!(find(b"seq=12", &mut 0), None);
        assert!(Template::new("nothing", 10).is_err());
    }

    #[test]
    fn digits_are_read_back() {
        for number in [0, 1, 0x0123_4567, 0x89ab_cdef, u32::MAX] {
            assert_eq!(from_hex(&hex(number)), Some(number));
        }
        assert_eq!(from_hex(b"+0000001"), None);
        assert_eq!(from_hex(b"123"), None);
    }
}
