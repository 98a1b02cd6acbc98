//! Lines: from a pipe, and typed at a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::program::{piped, wait};
use super::scripted::Scripted;
use super::url;
use crate::node::{DEADLINE, Node, eventually};

fn command(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
    command.args(["client", "--url", url]).args(args);
    command
}

fn with_pipes(url: &str, args: &[&str]) -> Child {
    let mut command = command(url, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn piped_lines_are_sent_and_their_answers_printed() {
    let node = Node::start(&[]);
    let lines = "{\"type\":\"ping\",\"n\":1}\n\nnot json\n{\"type\":\"send_message\",\"target_user\":\"me\",\"content\":7}";
    let (stdout, stderr, code) = piped(with_pipes(&url(&node), &["--user-id", "me"]), lines.as_bytes());
    assert_eq!(code, Some(0), "{stderr}");
    let answers: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = answers.iter().map(|answer| answer["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["welcome", "pong", "error", "message"], "{stdout}");
    assert_eq!((&answers[1]["original_data"]["n"], &answers[3]["content"]), (&1.into(), &7.into()));
    assert!(stderr.contains("connected to") && stderr.contains("received     4 messages"), "{stderr}");
}

#[test]
fn piped_lines_wait_for_the_connection() {
    let server = Scripted::new();
    let mut child = with_pipes(&server.url(), &["--quiet", "--backoff-first", "10ms", "--json"]);
    child.stdin.as_mut().unwrap().write_all(b"first\n").unwrap();
    server.refuse("503 Service Unavailable");
    let mut peer = server.accept();
    assert_eq!(peer.receive().to_text().unwrap(), "first");
    peer.close(1012, "");
    let script = thread::spawn(move || {
        let mut peer = server.accept();
        assert_eq!(peer.receive().to_text().unwrap(), "second");
        peer.send("answer");
        assert_eq!(peer.closed(true), 1000);
    });
    let (stdout, stderr, code) = piped(child, b"second");
    script.join().unwrap();
    assert_eq!(code, Some(0), "{stdout} {stderr}");
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines.len(), &lines[0]["text"], &lines[1]["event"]),
        (2, &"answer".into(), &"summary".into())
    );
}

#[test]
fn much_that_is_piped_in_is_held_back_and_not_lost() {
    const LINES: usize = 20_000;
    let node = Node::start(&["--outbound-bytes-max", "64MiB"]);
    let padding = "x".repeat(200);
    let lines: String =
        (0..LINES).map(|n| format!("{{\"type\":\"ping\",\"n\":{n},\"p\":\"{padding}\"}}\n")).collect();
    let mut child = with_pipes(&url(&node), &["--quiet"]);
    let mut out = child.stdout.take().unwrap();
    let read = thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        text
    });
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let text = read.join().unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
    let mut answers = text.lines().skip(1);
    for n in 0..LINES {
        let answer: Value = serde_json::from_str(answers.next().unwrap()).unwrap();
        assert_eq!(answer["original_data"]["n"], n);
    }
    assert_eq!(answers.next(), None);
}

#[test]
fn a_server_that_never_stops_talking_does_not_hold_lines_back() {
    let server = Scripted::new();
    let mut child = with_pipes(&server.url(), &["--quiet"]);
    let mut out = child.stdout.take().unwrap();
    let read = thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()).unwrap());
    let mut peer = server.accept();
    let mut talks = peer.another_end();
    let talking = thread::spawn(move || while talks.write_all(b"\x81\x04chat").is_ok() {});
    // More than may wait to be sent, so that it has to be tried again.
    let line = format!("{}\n", "x".repeat(100_000));
    let mut stdin = child.stdin.take().unwrap();
    let typing = thread::spawn(move || (0..50).for_each(|_| stdin.write_all(line.as_bytes()).unwrap()));
    for _ in 0..50 {
        assert_eq!(peer.receive().len(), 100_000);
    }
    typing.join().unwrap();
    drop(peer);
    // SAFETY: the call takes no pointers, and the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), libc::SIGHUP) }, 0);
    wait(&mut child);
    talking.join().unwrap();
    read.join().unwrap();
}

/// A terminal with a client in it, and everything the client has written.
struct Terminal {
    keys: File,
    screen: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    fn open(url: &str, args: &[&str]) -> Terminal {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: both descriptors and the size are valid for the call; no name and no modes are asked for.
        let opened =
            unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(opened, 0);
        // SAFETY: openpty has just opened them, and nobody else knows them.
        let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let mut command = command(url, args);
        let stream = || Stdio::from(theirs.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        // SAFETY: both calls are safe between fork and exec; the terminal is the child's stdin.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            })
        };
        let child = command.spawn().unwrap();
        let keys = File::from(ours);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (keys.try_clone().unwrap(), screen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Terminal { keys, screen, child }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn shows(&self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.screen.lock().unwrap().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} on {:?}", self.screen.lock().unwrap());
            thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    fn echoes(&self) -> bool {
        // SAFETY: an all-zero termios is a valid value, and the descriptor is open.
        let modes = unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.keys.as_raw_fd(), &mut modes), 0);
            modes
        };
        modes.c_lflag & libc::ECHO != 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_line_that_is_being_typed_is_not_torn() {
    let server = Scripted::new();
    let mut terminal = Terminal::open(&server.url(), &[]);
    let mut peer = server.accept();
    terminal.shows("connected to");
    assert!(!terminal.echoes());
    terminal.press("half a li");
    terminal.shows("\r> half a li\u{1b}[K");
    peer.send("an answer\u{1b}[2J in between");
    // Above the prompt, which comes again with what is typed; its escape is harmless.
    terminal.shows("\r\u{1b}[Kan answer\\u{1b}[2J in between\r\n\r> half a li\u{1b}[K");
    terminal.press("nee\u{7f}e\r");
    assert_eq!(peer.receive().to_text().unwrap(), "half a linee");
    terminal.press("\u{1b}[A\u{7f}\r");
    assert_eq!(peer.receive().to_text().unwrap(), "half a line");
    terminal.press("\u{4}");
    assert_eq!(peer.closed(true), 1000);
    terminal.shows("nothing that was announced or sent is missing");
    assert_eq!(wait(&mut terminal.child).code(), Some(0));
    assert!(terminal.echoes(), "the terminal is as it was");
}

#[test]
fn ctrl_c_ends_and_leaves_the_terminal_as_it_was() {
    let server = Scripted::new();
    let mut terminal = Terminal::open(&server.url(), &["--close-timeout", "1h"]);
    let mut peer = server.accept();
    terminal.shows("connected to");
    terminal.press("\u{3}");
    assert_eq!(peer.closed(false), 1000);
    eventually("a second one ends it", || {
        terminal.press("\u{3}");
        terminal.child.try_wait().unwrap().is_some()
    });
    assert_eq!(terminal.child.wait().unwrap().code(), Some(130));
    assert!(terminal.echoes(), "the terminal is as it was");
}
