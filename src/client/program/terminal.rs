//! The terminal: keys as they are pressed, and a prompt that stays below what
//! is printed.

use std::io::{self, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

use super::editor::{Edit, Editor};

const PROMPT: &str = "> ";

/// Columns of a terminal that does not say.
const COLUMNS: usize = 80;

/// The terminal in the mode in which keys come as they are pressed; as it was
/// before when dropped.
pub(super) struct Terminal {
    before: Termios,
    editor: Editor,
    /// The prompt is shown below what is printed.
    prompting: bool,
}

impl Terminal {
    /// Takes the terminal of stdin over.
    ///
    /// # Errors
    /// Its mode cannot be changed.
    pub(super) fn open() -> io::Result<Terminal> {
        let before = tcgetattr(io::stdin())?;
        let mut keys = before.clone();
        keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        keys.special_codes[SpecialCodeIndex::VMIN] = 1;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        // A stopped program would leave the terminal in this mode.
        keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &keys)?;
        Ok(Terminal { before, editor: Editor::default(), prompting: true })
    }

    /// Takes what was typed: the lines that were entered, and whether it was the end.
    pub(super) fn take(&mut self, typed: &[u8]) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        for byte in typed {
            match self.editor.take(*byte) {
                Edit::Changed => {}
                Edit::Entered(line) => lines.push(line),
                Edit::End => return (lines, true),
            }
        }
        self.show();
        (lines, false)
    }

    /// Prints a line above the prompt.
    pub(super) fn print(&mut self, line: &str) {
        let prompt = if self.prompting { self.prompt() } else { String::new() };
        write_all(&format!("\r\x1b[K{line}\n{prompt}"));
    }

    /// Shows no prompt any more.
    pub(super) fn end_prompt(&mut self) {
        if std::mem::replace(&mut self.prompting, false) {
            write_all("\r\x1b[K");
        }
    }

    /// Shows the prompt and what is typed.
    pub(super) fn show(&mut self) {
        if self.prompting {
            write_all(&self.prompt());
        }
    }

    fn prompt(&self) -> String {
        let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        self.editor.shown(PROMPT, if columns == 0 { COLUMNS } else { columns })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end_prompt();
        // If it fails the terminal has gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Whoever closed the stream does not want to know.
fn write_all(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
