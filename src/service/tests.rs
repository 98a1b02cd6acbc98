//! Signals and events in, exit status out, with a service that only notes what it is told.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use crossbeam_channel::Sender;

use super::*;
use crate::config::{Config, Flags, LogFormat};

/// Notes what it is told; a drain and a reload end it.
struct Fake {
    told: Mutex<Vec<&'static str>>,
    ends: Sender<ServerEvent>,
    events: Receiver<ServerEvent>,
}

impl Fake {
    fn note(&self, what: &'static str) {
        self.told.lock().expect("not poisoned").push(what);
        let _ = self.ends.try_send(ServerEvent::Ended(Ending::Drained { forced: 0 }));
    }
}

impl Service for Fake {
    type Config = Config;

    fn description(&self) -> String {
        "fake=1".to_owned()
    }

    fn drain(&self) {
        self.note("drain");
    }

    fn reload(&self, _: &Config) -> (Vec<&'static str>, Vec<&'static str>) {
        self.note("reload");
        (vec!["lame_duck"], vec!["port"])
    }

    fn events(&self) -> &Receiver<ServerEvent> {
        &self.events
    }

    fn is_alive_since(&self, _: &mut Vec<u64>) -> bool {
        true
    }

    fn connections(&self) -> usize {
        0
    }

    fn phase(&self) -> Phase {
        Phase::Serving
    }

    fn set_lost_log_lines(&self, _: u64) {}
}

/// The one log of the test process, silent.
fn logging() -> &'static Logging {
    static LOGGING: OnceLock<Logging> = OnceLock::new();
    LOGGING.get_or_init(|| crate::logging::start(LogFormat::Text, "off").expect("no other log"))
}

/// A process after these signals and events.
struct Case {
    file: Option<&'static str>,
    asked: Option<Instant>,
    signals: Vec<Signal>,
    events: Vec<ServerEvent>,
    files_change: bool,
}

const NOTHING: Case =
    Case { file: None, asked: None, signals: Vec::new(), events: Vec::new(), files_change: false };

fn check(case: Case, status: u8, told: &[&'static str]) {
    let (ends, events) = bounded(8);
    let (sender, signals) = bounded(8);
    for event in case.events {
        ends.send(event).expect("room");
    }
    for signal in case.signals {
        sender.send(signal).expect("room");
    }
    let service = Fake { told: Mutex::default(), ends, events };
    let flags = Flags { file: case.file.map(PathBuf::from), values: Vec::new() };
    let loader = Loader::new(flags, [("THRONG_LOG_LEVEL".into(), "off".into())]);
    let process = Process {
        service: &service,
        loader: &loader,
        logging: logging(),
        config: Config::default(),
        longest_drain: Duration::ZERO,
        turns: Vec::new(),
        shown: None,
        asked: case.asked,
    };
    let (changed, files) = bounded(1);
    if case.files_change {
        changed.send(()).expect("room");
    }
    let code = process.live(&signals, &files);
    assert_eq!(code, ExitCode::from(status));
    assert_eq!(*service.told.lock().expect("not poisoned"), told);
}

#[test]
fn a_signal_drains_and_a_later_one_ends_at_once() {
    let drain = || Signal::Drain { count: 1 };
    check(Case { signals: vec![drain()], ..NOTHING }, 0, &["drain"]);
    let asked = Instant::now().checked_sub(2 * SAME_REQUEST);
    check(Case { signals: vec![drain()], asked, ..NOTHING }, EXIT_AT_ONCE, &[]);
    // The same request again: a wrapper signalled the process and its group.
    check(Case { signals: vec![drain()], asked: Some(Instant::now()), ..NOTHING }, 0, &["drain"]);
}

#[test]
fn the_end_of_the_service_is_the_exit_status() {
    let ended = |ending| Case {
        events: vec![ServerEvent::Phase(Phase::LameDuck), ServerEvent::Ended(ending)],
        ..NOTHING
    };
    check(ended(Ending::Drained { forced: 3 }), 0, &[]);
    check(ended(Ending::Stopped), 0, &[]);
    check(ended(Ending::Failed), EXIT_FAILED, &[]);
}

#[test]
fn a_reload_hands_over_what_is_valid() {
    check(Case { signals: vec![Signal::Reload], ..NOTHING }, 0, &["reload"]);
    let drain = Signal::Drain { count: 1 };
    let broken = Case { file: Some("/nonexistent"), signals: vec![Signal::Reload, drain], ..NOTHING };
    check(broken, 0, &["drain"]);
}

#[test]
fn files_that_changed_are_read_again_by_the_configuration_in_force() {
    // Whatever the file of the configuration says by now.
    let broken = Case { file: Some("/nonexistent"), files_change: true, ..NOTHING };
    check(broken, 0, &["reload"]);
}
