//! `throng client` and the library's client: against nodes that are drained,
//! killed and started again, and against servers that behave as a test wants.

#[path = "../redis_servers/folder.rs"]
mod folder;
mod kept;
mod library;
mod program;
mod scripted;
#[path = "../redis_servers/tls.rs"]
mod tls;
mod typed;

use std::time::Duration;

use serde_json::Value;

use crate::node::{Launch, Node, Process};
use folder::Folder;

/// `throng client --json` with `args`, at `url`.
fn client(url: &str, args: &[&str]) -> Running {
    let launch = Launch::bare(&[&["client", "--json", "--url", url], args].concat());
    Running { process: launch.spawn(), seen: Vec::new() }
}

fn url(node: &Node) -> String {
    format!("ws://{}/ws", node.http)
}

/// A client whose events are read as they come.
struct Running {
    process: Process,
    seen: Vec<Value>,
}

impl Running {
    /// The next event of this kind; those before it were seen.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let line = self.process.stdout_line();
            let line = line.unwrap_or_else(|| panic!("it ended before {kind}: {:#?}", self.seen));
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            self.seen.push(event.clone());
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// Waits for `count` events of this kind.
    fn next_times(&mut self, kind: &str, count: usize) {
        for _ in 0..count {
            self.next(kind);
        }
    }

    /// Asks it to end; its summary and exit status.
    fn end(self) -> (Value, i32) {
        self.process.signal(libc::SIGINT);
        self.ended()
    }

    /// Waits until it ends by itself; its summary and exit status.
    fn ended(mut self) -> (Value, i32) {
        let summary = self.next("summary");
        (summary, self.process.wait().code().unwrap())
    }

    fn count(&self, kind: &str) -> usize {
        self.seen.iter().filter(|event| event["event"] == kind).count()
    }
}

/// The duration in a field.
fn span(event: &Value, field: &str) -> Duration {
    Duration::from_millis(event[field].as_u64().unwrap_or_else(|| panic!("no {field} in {event}")))
}

/// The time of an event.
fn at(event: &Value) -> Duration {
    let at = humantime::parse_rfc3339(event["at"].as_str().unwrap()).unwrap();
    at.duration_since(std::time::UNIX_EPOCH).unwrap()
}
