use std::sync::Mutex;

use crossbeam_channel::Receiver;

use super::*;

/// A sink that keeps what it is given, and fails on demand.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<(Vec<u8>, bool)>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("lock").0.clone()).expect("UTF-8")
    }

    fn fail(&self, fail: bool) {
        self.0.lock().expect("lock").1 = fail;
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().expect("lock");
        if kept.1 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        kept.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that waits for permission before each write.
struct Blocked(Receiver<()>, Kept);

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv(); // an error: the gate is open for good
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn say(logging: &Logging, level: Level, target: &str, message: &str) {
    logging.log(&Record::builder().level(level).target(target).args(format_args!("{message}")).build());
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn json_lines_are_valid_whatever_is_logged() {
    let kept = Kept::default();
    let logging = Logging::to_sink(LogFormat::Json, "trace", Box::new(kept.clone())).expect("starts");
    let messages =
        ["plain", "a\nb\r\n", "\u{0}\u{7f}\u{2028}\"\\", "𝄞 é", "", "\u{9b}1m\u{202e}\u{2066}\u{61c}"];
    for message in messages {
        say(&logging, Level::Error, "t\"\n", message);
    }
    assert!(logging.flush_within(PATIENCE));
    let text = kept.text();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let logged: Vec<_> = lines.iter().map(|line| line["message"].as_str().expect("text")).collect();
    assert_eq!(logged, messages);
    assert!(!text.contains(['\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{61c}']), "{text:?}");
    assert!(lines.iter().all(|line| line["level"] == "ERROR" && line["target"] == "t\"\n"));
}

#[test]
fn levels_are_by_target() {
    let kept = Kept::default();
    let logging =
        Logging::to_sink(LogFormat::Text, "warn,throng::ws=debug", Box::new(kept.clone())).expect("starts");
    say(&logging, Level::Info, "throng::hub", "no");
    say(&logging, Level::Debug, "throng::ws::frame", "yes");
    say(&logging, Level::Warn, "throng::hub", "yes");
    *logging.0.filter.write().expect("lock") = filter("off").expect("valid");
    say(&logging, Level::Error, "throng::hub", "no");
    assert!(logging.flush_within(PATIENCE));
    let text = kept.text();
    assert!(text.lines().count() == 2 && text.lines().all(|line| line.ends_with(": yes")), "{text}");
    assert!(filter("loud").is_err());
}

#[test]
fn a_blocked_sink_blocks_nobody_and_what_is_lost_is_counted() {
    let (gate, permission) = bounded::<()>(0);
    let kept = Kept::default();
    let sink = Box::new(Blocked(permission, kept.clone()));
    let logging = Logging::to_sink(LogFormat::Text, "info", sink).expect("starts");
    let said = 3 * QUEUE_LINES;
    for _ in 0..said {
        say(&logging, Level::Info, "t", "x"); // would never return if it waited
    }
    assert!(!logging.flush_within(Duration::ZERO));
    drop(gate);
    assert!(logging.flush_within(PATIENCE));
    let text = kept.text();
    let written = text.lines().filter(|line| line.ends_with(" t: x")).count();
    let lost = |line: &str| {
        let (_, rest) = line.split_once("throng::logging: ")?;
        rest.split_once(" log lines were lost")?.0.parse::<usize>().ok()
    };
    let lost: usize = text.lines().filter_map(lost).sum();
    assert_eq!(written + lost, said);
    assert!(lost >= QUEUE_LINES, "{lost} lost");
}

#[test]
fn lines_that_could_not_be_written_are_counted() {
    let kept = Kept::default();
    let logging = Logging::to_sink(LogFormat::Text, "info", Box::new(kept.clone())).expect("starts");
    kept.fail(true);
    say(&logging, Level::Info, "t", "x");
    assert!(logging.flush_within(PATIENCE));
    kept.fail(false);
    say(&logging, Level::Info, "t", "y");
    assert!(logging.flush_within(PATIENCE));
    let text = kept.text();
    assert!(text.contains(" t: y\n") && text.contains(": 1 log lines were lost"), "{text}");
}
