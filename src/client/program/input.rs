//! What is typed or piped in, read by a thread, because reading blocks.

use std::io::{self, BufRead, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Pieces that wait to be taken.
const WAITING_MAX: usize = 64;

/// A piece of what is typed or piped in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Keys of a terminal.
    Keys(Vec<u8>),
    /// A line of a pipe or file, without its end.
    Line(String),
    /// A line that cannot be sent, and why.
    Bad(String),
    /// There is no more.
    End,
}

/// The keys of stdin.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn keys() -> io::Result<Receiver<Input>> {
    forward(|to| {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut bytes) {
            if to.send(Input::Keys(bytes[..count].to_vec())).is_err() {
                return;
            }
        }
    })
}

/// The lines of stdin, none longer than `bytes_max`.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn lines(bytes_max: usize) -> io::Result<Receiver<Input>> {
    forward(move |to| {
        let mut stdin = io::stdin().lock();
        while let Some(line) = next_line(&mut stdin, bytes_max) {
            if to.send(line).is_err() {
                return;
            }
        }
    })
}

fn forward(read: impl FnOnce(&Sender<Input>) + Send + 'static) -> io::Result<Receiver<Input>> {
    let (to, input) = bounded(WAITING_MAX);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        read(&to);
        // Nobody may be there to hear it.
        drop(to.send(Input::End));
    })?;
    Ok(input)
}

/// The next line; `None` at the end, or when it cannot be read.
fn next_line(from: &mut impl BufRead, bytes_max: usize) -> Option<Input> {
    let mut line = Vec::new();
    let count = from.by_ref().take(bytes_max as u64 + 1).read_until(b'\n', &mut line).ok()?;
    if count == 0 {
        return None;
    }
    if line.len() > bytes_max && line.last() != Some(&b'\n') {
        skip_line(from);
        return Some(Input::Bad(format!("a line of more than {bytes_max} bytes")));
    }
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Some(match String::from_utf8(text.to_vec()) {
        Ok(text) => Input::Line(text),
        Err(_) => Input::Bad("a line that is not UTF-8".to_owned()),
    })
}

fn skip_line(from: &mut impl BufRead) {
    loop {
        let Ok(bytes) = from.fill_buf() else { return };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (taken, done) = end.map_or((bytes.len(), bytes.is_empty()), |at| (at + 1, true));
        from.consume(taken);
        if done {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_and_bounded() {
        let mut from = io::BufReader::with_capacity(3, &b"one\r\n\n12345678\n123456789\ntw\xff\nend"[..]);
        let lines: Vec<Input> = std::iter::from_fn(|| next_line(&mut from, 8)).collect();
        let line = |text: &str| Input::Line(text.to_owned());
        assert_eq!(lines[..3], [line("one"), line(""), line("12345678")]);
        assert!(matches!(&lines[3], Input::Bad(why) if why.contains("8 bytes")));
        assert!(matches!(&lines[4], Input::Bad(why) if why.contains("UTF-8")));
        assert_eq!(lines[5..], [line("end")]);
    }
}
