//! The line that is being typed: bytes of a terminal in, lines out.
//!
//! Never reads or writes; what the terminal is to show is returned as text.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar;

/// Lines that are remembered.
const HISTORY_MAX: usize = 100;

/// The longest line, in characters.
const LINE_CHARS_MAX: usize = 64 * 1024;

/// The longest sequence of a key that is understood, in bytes.
const SEQUENCE_BYTES_MAX: usize = 16;

/// What a byte did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// Perhaps the line looks different now.
    Changed,
    /// A line was entered.
    Entered(String),
    /// Ctrl-D on an empty line: no more is typed.
    End,
}

/// The line, its cursor and the lines before it.
#[derive(Default)]
pub(super) struct Editor {
    line: Vec<char>,
    cursor: usize,
    history: VecDeque<Vec<char>>,
    /// Which remembered line is shown, from the newest; 0 is the one typed.
    recalled: usize,
    /// What was typed before a remembered line was shown.
    typed: Vec<char>,
    /// An unfinished character or key.
    partial: Vec<u8>,
}

impl Editor {
    /// Takes one byte of the terminal.
    pub(super) fn take(&mut self, byte: u8) -> Edit {
        if !self.partial.is_empty() {
            self.take_partial(byte);
            return Edit::Changed;
        }
        match byte {
            b'\r' | b'\n' => return Edit::Entered(self.enter()),
            0x04 if self.line.is_empty() => return Edit::End,
            0x04 => self.delete(),
            0x01 => self.cursor = 0,
            0x05 => self.cursor = self.line.len(),
            0x02 => self.cursor = self.cursor.saturating_sub(1),
            0x06 => self.cursor = self.line.len().min(self.cursor + 1),
            0x08 | 0x7f => self.delete_back(),
            0x0b => self.line.truncate(self.cursor),
            0x10 => self.recall(self.recalled + 1),
            0x0e => self.recall(self.recalled.saturating_sub(1)),
            0x15 => drop(self.line.drain(..std::mem::take(&mut self.cursor))),
            0x17 => self.delete_word(),
            0x1b | 0x80.. => self.partial.push(byte),
            b'\t' => self.insert(' '),
            0x20.. => self.insert(char::from(byte)),
            _ => {}
        }
        Edit::Changed
    }

    /// What the terminal is to write, of `columns`, to show the prompt and
    /// the line on the row the cursor is in: as much of it as fits.
    pub(super) fn shown(&self, prompt: &str, columns: usize) -> String {
        let room = columns.saturating_sub(prompt.chars().count() + 1).max(1);
        let width = |chars: &[char]| chars.iter().filter_map(|char| char.width()).sum::<usize>();
        let mut start = 0;
        while width(&self.line[start..self.cursor]) > room {
            start += 1;
        }
        let mut end = self.cursor;
        while end < self.line.len() && width(&self.line[start..=end]) <= room {
            end += 1;
        }
        let text: String = self.line[start..end].iter().collect();
        let back = width(&self.line[self.cursor..end]);
        let back = if back > 0 { format!("\x1b[{back}D") } else { String::new() };
        format!("\r{prompt}{text}\x1b[K{back}")
    }

    fn take_partial(&mut self, byte: u8) {
        self.partial.push(byte);
        let done = match self.partial.first() {
            Some(0x1b) => self.take_key(),
            _ => self.take_utf8(),
        };
        if done || self.partial.len() >= SEQUENCE_BYTES_MAX {
            self.partial.clear();
        }
    }

    /// A character of several bytes; whether it is complete or none.
    fn take_utf8(&mut self) -> bool {
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let char = text.chars().next();
                char.into_iter().filter(|char| !char.is_control()).for_each(|char| self.insert(char));
                true
            }
            Err(error) => error.error_len().is_some(),
        }
    }

    /// An escape sequence (ECMA-48, section 5.4); whether it is complete.
    fn take_key(&mut self) -> bool {
        let Some((last, parameters)) = self.partial[1..].split_last() else { return false };
        if parameters.is_empty() {
            return !matches!(last, b'[' | b'O');
        }
        let parameters = parameters.to_vec();
        match (last, &parameters[1..]) {
            (b'A', _) => self.recall(self.recalled + 1),
            (b'B', _) => self.recall(self.recalled.saturating_sub(1)),
            (b'C', _) => self.cursor = self.line.len().min(self.cursor + 1),
            (b'D', _) => self.cursor = self.cursor.saturating_sub(1),
            (b'H', _) | (b'~', b"1" | b"7") => self.cursor = 0,
            (b'F', _) | (b'~', b"4" | b"8") => self.cursor = self.line.len(),
            (b'~', b"3") => self.delete(),
            (0x40..=0x7e, _) => {}
            _ => return false,
        }
        true
    }

    fn insert(&mut self, char: char) {
        if self.line.len() < LINE_CHARS_MAX {
            self.line.insert(self.cursor, char);
            self.cursor += 1;
        }
    }

    fn delete(&mut self) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
        }
    }

    fn delete_back(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.line.remove(self.cursor);
        }
    }

    fn delete_word(&mut self) {
        let before = &self.line[..self.cursor];
        let word_end = before.iter().rposition(|char| *char != ' ').map_or(0, |at| at + 1);
        let start = before[..word_end].iter().rposition(|char| *char == ' ').map_or(0, |at| at + 1);
        self.line.drain(start..self.cursor);
        self.cursor = start;
    }

    fn enter(&mut self) -> String {
        let line = std::mem::take(&mut self.line);
        self.cursor = 0;
        self.recalled = 0;
        self.typed.clear();
        let text = line.iter().collect();
        if !line.is_empty() && self.history.front() != Some(&line) {
            self.history.truncate(HISTORY_MAX - 1);
            self.history.push_front(line);
        }
        text
    }

    /// Shows the remembered line of this age.
    fn recall(&mut self, age: usize) {
        if age > self.history.len() {
            return;
        }
        if self.recalled == 0 {
            self.typed = self.line.clone();
        }
        self.line = match age.checked_sub(1) {
            Some(index) => self.history[index].clone(),
            None => self.typed.clone(),
        };
        self.recalled = age;
        self.cursor = self.line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(editor: &mut Editor, keys: &str) -> Vec<String> {
        let edits = keys.bytes().map(|byte| editor.take(byte));
        edits.filter_map(|edit| if let Edit::Entered(line) = edit { Some(line) } else { None }).collect()
    }

    #[test]
    fn keys_edit_the_line() {
        let check = |keys: &str, expected: &str| {
            assert_eq!(entered(&mut Editor::default(), &format!("{keys}\r")), [expected], "{keys:?}");
        };
        check("hello", "hello");
        check("héllo 😀", "héllo 😀");
        check("helo\x1b[Dl", "hello");
        check("ello\x01h\x05!", "hello!");
        check("ello\x1b[Hh\x1b[F!", "hello!");
        check("x\x7f\x7fé\x08ok", "ok");
        check("one two  \x17three", "one three");
        check("gone\x15kept", "kept");
        check("kept gone\x02\x02\x02\x02\x02\x0b", "kept");
        check("abc\x1b[1~\x1b[3~", "bc");
        check("abc\x01\x04", "bc");
        check("a\x1b[200~b\x1bOCc\x1b[1;5Zd", "abcd");
        check("a\tb\x07", "a b");
        check("a\x1b\x1b[Db", "a[Db");
    }

    #[test]
    fn lines_are_remembered() {
        let mut editor = Editor::default();
        assert_eq!(entered(&mut editor, "one\rtwo\rtwo\r"), ["one", "two", "two"]);
        assert_eq!(entered(&mut editor, "\x1b[A\x1b[A\r"), ["one"], "the same line is remembered once");
        assert_eq!(entered(&mut editor, "typed\x10\x0e\r"), ["typed"]);
        assert_eq!(entered(&mut editor, "\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A!\r"), ["one!"]);
    }

    #[test]
    fn the_end_is_ctrl_d_on_an_empty_line() {
        let mut editor = Editor::default();
        assert_eq!(editor.take(b'a'), Edit::Changed);
        assert_eq!(editor.take(4), Edit::Changed);
        assert_eq!(editor.take(8), Edit::Changed);
        assert_eq!(editor.take(4), Edit::End);
    }

    #[test]
    fn what_fits_is_shown() {
        let check = |keys: &str, columns, expected: &str| {
            let mut editor = Editor::default();
            keys.bytes().for_each(|byte| drop(editor.take(byte)));
            assert_eq!(editor.shown("> ", columns), expected, "{keys:?} in {columns}");
        };
        check("", 80, "\r> \x1b[K");
        check("abc", 80, "\r> abc\x1b[K");
        check("abc\x02\x02", 80, "\r> abc\x1b[K\x1b[2D");
        check("abcdefgh", 8, "\r> defgh\x1b[K");
        check("abcdefgh\x01", 8, "\r> abcde\x1b[K\x1b[5D");
        check("日本\x02", 80, "\r> 日本\x1b[K\x1b[2D");
        check("abc", 0, "\r> c\x1b[K");
    }

    #[test]
    fn any_bytes_do_no_harm() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut editor = Editor::default();
        for _ in 0..100_000 {
            editor.take(random.u8(..));
            assert!(editor.cursor <= editor.line.len() && editor.partial.len() < SEQUENCE_BYTES_MAX);
        }
        let long = "x".repeat(LINE_CHARS_MAX + 5);
        let mut editor = Editor::default();
        assert_eq!(entered(&mut editor, &format!("{long}\r"))[0].len(), LINE_CHARS_MAX);
    }
}
