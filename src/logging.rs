//! The log: lines on stderr, as text or JSON, written by a thread of their own.
//!
//! Whoever logs formats the line and hands it to a bounded queue; it never
//! waits for the sink. When the sink is slower than the log, lines are lost and
//! their number is logged later.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use env_filter::Filter;
use log::kv::{Key, Value, VisitSource};
use log::{Level, Log, Metadata, Record};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use crate::config::{LogFormat, log_levels};

/// Lines that wait for the sink.
const QUEUE_LINES: usize = 4096;
/// A message is cut here: what peers send may end up in one.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// Lines are gathered up to here for one write.
const WRITE_BYTES: usize = 64 * 1024;
/// How long `log::logger().flush()` waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The running log; clones are the same log.
#[derive(Clone)]
pub struct Logging(Arc<Shared>);

struct Shared {
    format: LogFormat,
    filter: RwLock<Filter>,
    queue: Sender<Order>,
    lost: Arc<AtomicU64>,
}

enum Order {
    Line(String),
    Flush(Sender<()>),
}

/// Starts the log on stderr and makes it the process's. `levels` is as in
/// [`crate::config::Config::log_level`].
///
/// # Errors
/// No thread can be started, `levels` is malformed, or the process has a log.
pub fn start(format: LogFormat, levels: &str) -> io::Result<Logging> {
    let logging = Logging::to_sink(format, levels, Box::new(io::stderr()))?;
    log::set_boxed_logger(Box::new(logging.clone())).map_err(io::Error::other)?;
    logging.set_levels(levels).map_err(io::Error::other)?;
    Ok(logging)
}

/// Logs a line with fields that are only known where it is logged: the
/// facade's macros want the same ones every time.
pub(crate) fn say(level: Level, target: &str, fields: &[(&str, Value<'_>)], message: fmt::Arguments<'_>) {
    let line = Record::builder().level(level).target(target).key_values(&fields).args(message).build();
    log::logger().log(&line);
}

impl Logging {
    /// A log that is not the process's, on any sink.
    fn to_sink(format: LogFormat, levels: &str, sink: Box<dyn Write + Send>) -> io::Result<Logging> {
        let filter = RwLock::new(filter(levels).map_err(io::Error::other)?);
        let (queue, orders) = bounded(QUEUE_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { format, sink, orders, lost: Arc::clone(&lost), said: 0, buffer: Vec::new() };
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.run())?;
        Ok(Logging(Arc::new(Shared { format, filter, queue, lost })))
    }

    /// Changes what is logged, from now on.
    ///
    /// # Errors
    /// `levels` is malformed; nothing has changed.
    pub fn set_levels(&self, levels: &str) -> Result<(), String> {
        let filter = filter(levels)?;
        log::set_max_level(filter.filter());
        *self.0.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
        Ok(())
    }

    /// Lines lost so far, because the sink did not take them in time.
    pub fn lost_lines(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until what has been logged is written, at most for `timeout`.
    /// Whether it is.
    pub fn flush_within(&self, timeout: Duration) -> bool {
        let (done, is_done) = bounded(1);
        let asked = self.0.queue.send_timeout(Order::Flush(done), timeout).is_ok();
        asked && is_done.recv_timeout(timeout).is_ok()
    }
}

impl Log for Logging {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.filter.read().unwrap_or_else(PoisonError::into_inner).enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let mut fields = Fields::default();
        // Ours take everything.
        let _ = record.key_values().visit(&mut fields);
        let said = Said { level: record.level(), target: record.target(), message: &text, fields: &fields };
        let line = line(self.0.format, SystemTime::now(), &said);
        if self.0.queue.try_send(Order::Line(line)).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        self.flush_within(FLUSH_TIMEOUT);
    }
}

/// The thread that may wait for the sink.
struct Writer {
    format: LogFormat,
    sink: Box<dyn Write + Send>,
    orders: Receiver<Order>,
    lost: Arc<AtomicU64>,
    /// How many of the lost have been spoken of.
    said: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Writes until every [`Logging`] is gone.
    fn run(mut self) {
        while let Ok(order) = self.orders.recv() {
            self.write_from(order);
        }
    }

    /// Writes `order` and what waits behind it, in one write if it is not much.
    fn write_from(&mut self, order: Order) {
        let mut flushes = Vec::new();
        let mut lines = 0;
        let mut next = Some(order);
        while let Some(order) = next {
            match order {
                Order::Line(line) => {
                    self.buffer.extend_from_slice(line.as_bytes());
                    lines += 1;
                }
                Order::Flush(done) => flushes.push(done),
            }
            next = if self.buffer.len() < WRITE_BYTES { self.orders.try_recv().ok() } else { None };
        }
        self.say_what_was_lost();
        if self.sink.write_all(&self.buffer).and_then(|()| self.sink.flush()).is_err() {
            self.lost.fetch_add(lines, Ordering::Relaxed);
        }
        self.buffer.clear();
        for done in flushes {
            let _ = done.send(()); // it may have stopped waiting
        }
    }

    fn say_what_was_lost(&mut self) {
        let total = self.lost.load(Ordering::Relaxed);
        let lost = total - std::mem::replace(&mut self.said, total);
        if lost > 0 {
            let text = format!("{lost} log lines were lost: the log is not taken as fast as it is written");
            let fields = Fields::default();
            let (level, target) = (Level::Warn, module_path!());
            let said = Said { level, target, message: &text, fields: &fields };
            let line = line(self.format, SystemTime::now(), &said);
            self.buffer.extend_from_slice(line.as_bytes());
        }
    }
}

fn filter(levels: &str) -> Result<Filter, String> {
    let mut builder = env_filter::Builder::new();
    for (target, level) in log_levels(levels)? {
        builder.filter(target, level);
    }
    Ok(builder.build())
}

/// What is beside the message, in its order.
#[derive(Default)]
struct Fields(Vec<(String, Json)>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let value = match (value.to_u64(), value.to_f64(), value.to_borrowed_str()) {
            (Some(number), ..) => Json::from(number),
            (_, Some(number), _) => Json::from(number),
            (.., Some(text)) => Json::from(cut(text)),
            _ => Json::from(cut(&value.to_string())),
        };
        self.0.push((key.as_str().to_owned(), value));
        Ok(())
    }
}

/// A record without its time.
struct Said<'a> {
    level: Level,
    target: &'a str,
    message: &'a str,
    fields: &'a Fields,
}

/// One line with its line break. Neither a message nor a field can make two.
fn line(format: LogFormat, time: SystemTime, said: &Said<'_>) -> String {
    let Said { level, target, message, fields } = said;
    let message = cut(message);
    let time = humantime::format_rfc3339_millis(time);
    match format {
        LogFormat::Text => {
            let mut line = String::with_capacity(message.len() + 64);
            let _ = write!(line, "{time} {level:<5} {target}: ");
            escape(message, &mut line);
            for (key, value) in &fields.0 {
                // A text is shown in the quotation marks of JSON.
                escape(&format!(" {key}={value}"), &mut line);
            }
            line.push('\n');
            line
        }
        LogFormat::Json => {
            let line =
                JsonLine { timestamp: time.to_string(), level: level.as_str(), target, message, fields };
            // Strings always serialise.
            let mut line = serde_json::to_string(&line).unwrap_or_default();
            line.push('\n');
            line
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: &'a Fields,
}

/// At most [`MESSAGE_BYTES_MAX`] of `message`, whole characters.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// Appends `message` with its control characters escaped: what a peer sent must
/// neither begin a line nor speak to a terminal.
fn escape(message: &str, out: &mut String) {
    for c in message.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::UNIX_EPOCH;

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
    fn lines() {
        let check = |format, message: &str, expected: &str| {
            assert_eq!(line_of(format, "throng::x", message, Fields::default()), expected);
        };
        check(LogFormat::Text, "héllo \"x\"", "1970-01-01T00:00:00.000Z INFO  throng::x: héllo \"x\"\n");
        check(
            LogFormat::Text,
            "a\nb\u{1b}[0m",
            "1970-01-01T00:00:00.000Z INFO  throng::x: a\\nb\\u{1b}[0m\n",
        );
        check(
            LogFormat::Json,
            "a\n\"b\"",
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"INFO\",\"target\":\"throng::x\",\"message\":\"a\\n\\\"b\\\"\"}\n",
        );
        let long = line_of(LogFormat::Text, "t", &"é".repeat(MESSAGE_BYTES_MAX), Fields::default());
        assert!(long.len() < MESSAGE_BYTES_MAX + 64 && long.ends_with("é\n"));
    }

    fn line_of(format: LogFormat, target: &str, message: &str, fields: Fields) -> String {
        line(format, UNIX_EPOCH, &Said { level: Level::Info, target, message, fields: &fields })
    }

    #[test]
    fn fields_follow_the_message_in_their_order() {
        let ip = std::net::Ipv4Addr::LOCALHOST;
        let pairs: &[(&str, Value<'_>)] = &[
            ("user", "a\n\"b\" \u{2028}".into()),
            ("bytes", 7u64.into()),
            ("seconds", 0.25.into()),
            ("client", Value::from_display(&ip)),
        ];
        let check = |format, expected: &str| {
            let mut fields = Fields::default();
            log::kv::Source::visit(&pairs, &mut fields).expect("takes everything");
            assert_eq!(line_of(format, "t", "m", fields), expected);
        };
        check(
            LogFormat::Text,
            "1970-01-01T00:00:00.000Z INFO  t: m user=\"a\\n\\\"b\\\" \\u{2028}\" bytes=7 seconds=0.25 \
             client=\"127.0.0.1\"\n",
        );
        check(
            LogFormat::Json,
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"INFO\",\"target\":\"t\",\"message\":\"m\",\
             \"user\":\"a\\n\\\"b\\\" \u{2028}\",\"bytes\":7,\"seconds\":0.25,\"client\":\"127.0.0.1\"}\n",
        );
    }

    #[test]
    fn json_lines_are_valid_whatever_is_logged() {
        let kept = Kept::default();
        let logging = Logging::to_sink(LogFormat::Json, "trace", Box::new(kept.clone())).expect("starts");
        let messages = ["plain", "a\nb\r\n", "\u{0}\u{7f}\u{2028}\"\\", "𝄞 é", ""];
        for message in messages {
            say(&logging, Level::Error, "t\"\n", message);
        }
        assert!(logging.flush_within(PATIENCE));
        let text = kept.text();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        let logged: Vec<_> = lines.iter().map(|line| line["message"].as_str().expect("text")).collect();
        assert_eq!(logged, messages);
        assert!(lines.iter().all(|line| line["level"] == "ERROR" && line["target"] == "t\"\n"));
    }

    #[test]
    fn levels_are_by_target() {
        let kept = Kept::default();
        let logging = Logging::to_sink(LogFormat::Text, "warn,throng::ws=debug", Box::new(kept.clone()))
            .expect("starts");
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
}
