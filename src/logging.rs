//! The log: lines on stderr, as text or JSON, written by a thread of their own.
//!
//! Owns: [`Logging`], the process's log, and which levels it takes. How a line
//! is laid out is in `line`, what becomes of it in `writer`.
//!
//! Whoever logs formats the line and hands it to a bounded queue; it never
//! waits for the sink. When the sink is slower than the log, lines are lost and
//! their number is logged later.

mod line;
mod writer;

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Sender, bounded};
use env_filter::Filter;
use log::kv::Value;
use log::{Level, Log, Metadata, Record};

use crate::config::{LogFormat, log_levels};
use line::{Fields, Said, line};
use writer::{Order, Writer};

/// Lines that wait for the sink.
const QUEUE_LINES: usize = 4096;
/// Who speaks when the log speaks of itself.
const TARGET: &str = module_path!();
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
        let writer = Writer::new(format, sink, orders, Arc::clone(&lost));
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

fn filter(levels: &str) -> Result<Filter, String> {
    let mut builder = env_filter::Builder::new();
    for (target, level) in log_levels(levels)? {
        builder.filter(target, level);
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests;
