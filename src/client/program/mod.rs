//! `throng client`: the client with a terminal, a pipe or nothing in front of it.
//!
//! Owns: what is printed where, what is typed, signals, the exit status.

mod editor;
mod input;
mod pipe;
mod report;
mod terminal;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, after, bounded, never, select, tick};

use self::input::Input;
use self::pipe::Pipe;
use self::terminal::Terminal;
use super::event::{Event, What};
use super::options::Options;
use super::summary::Summary;
use super::{Client, args};
use crate::signals::{self, Signal};

/// Exit status after a second signal.
const EXIT_AT_ONCE: u8 = 130;

/// Whether somebody can type here and see it.
pub(super) fn terminal_is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Where lines to be sent come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nowhere.
    Nothing,
    /// Somebody types.
    Terminal,
    /// A pipe or a file; its end is the end, once everything is answered.
    Pipe,
}

/// How the program is to run.
pub(super) struct Settings {
    pub(super) options: Options,
    pub(super) source: Source,
    /// Events as JSON.
    pub(super) json: bool,
    /// Of events, only messages and the summary.
    pub(super) quiet: bool,
    /// Ends by itself after this.
    pub(super) duration: Option<Duration>,
    /// Prints the sums so far each such time.
    pub(super) status: Option<Duration>,
    /// After the last line of a pipe was taken in, how long answers are waited for.
    pub(super) linger: Duration,
}

/// Runs the client to its end.
pub(super) fn run(settings: Settings) -> ExitCode {
    match start(settings) {
        Ok(program) => program.run(),
        Err(error) => args::fail(&error),
    }
}

fn start(settings: Settings) -> io::Result<Program> {
    let (to, signals) = bounded(8);
    signals::forward(to)?;
    let (input, terminal) = match settings.source {
        Source::Nothing => (never(), None),
        Source::Terminal => (input::keys()?, Some(Terminal::open()?)),
        Source::Pipe => (input::lines(settings.options.message_bytes_max)?, None),
    };
    let client = Client::connect(settings.options.clone())?;
    let end = settings.duration.map_or_else(never, after);
    let status = settings.status.map_or_else(never, tick);
    let piped = if settings.source == Source::Pipe { settings.options.connections } else { 0 };
    let pipe = Pipe::new(piped);
    Ok(Program { settings, client, input, signals, end, status, terminal, pipe })
}

struct Program {
    settings: Settings,
    client: Client,
    input: Receiver<Input>,
    signals: Receiver<Signal>,
    end: Receiver<Instant>,
    status: Receiver<Instant>,
    terminal: Option<Terminal>,
    pipe: Pipe,
}

impl Program {
    fn run(mut self) -> ExitCode {
        if let Some(terminal) = &mut self.terminal {
            terminal.print("type JSON or text; Ctrl-D or Ctrl-C ends");
        }
        let events = self.client.events().clone();
        loop {
            // A line that waits holds back those behind it.
            let input = if self.pipe.waiting.is_some() { never() } else { self.input.clone() };
            select! {
                recv(events) -> event => match event {
                    Ok(Event { what: What::Finished(sums), connection, at }) => {
                        let last = Event { connection, at, what: What::Finished(sums.clone()) };
                        return self.finish(&last, &sums);
                    }
                    Ok(event) => self.take_event(&event),
                    // The client's thread has failed; it has said why.
                    Err(_) => return ExitCode::FAILURE,
                },
                recv(input) -> input => self.take_input(input.unwrap_or(Input::End)),
                recv(self.pipe.try_again) -> _ => self.send_waiting(),
                recv(self.status) -> _ => self.show_status(),
                recv(self.signals) -> signal => match signal {
                    Ok(Signal::Drain { count: 2.. }) => return ExitCode::from(EXIT_AT_ONCE),
                    // SIGHUP, too: there is no file to read again, and a terminal that has gone.
                    Ok(Signal::Drain { .. } | Signal::Reload) => self.begin_close(),
                    Err(_) => {}
                },
                recv(self.end) -> _ => self.begin_close(),
                recv(self.pipe.linger) -> _ => self.begin_close(),
            }
        }
    }

    fn finish(mut self, last: &Event, sums: &Summary) -> ExitCode {
        // The terminal is as it was before the summary is printed.
        self.terminal = None;
        match self.settings.json {
            true => self.print(&report::json(last, "")),
            false => self.say(&sums.to_string()),
        }
        args::exit_status(sums)
    }

    fn begin_close(&mut self) {
        self.input = never();
        self.pipe.waiting = None;
        if let Some(terminal) = &mut self.terminal {
            terminal.end_prompt();
        }
        self.client.begin_close();
    }

    fn take_event(&mut self, event: &Event) {
        self.show_event(event);
        let connection = event.connection;
        match event.what {
            What::Connected { .. } if self.settings.source == Source::Pipe => {
                self.send_waiting();
                if self.pipe.ended {
                    self.probe(connection);
                }
            }
            What::Probed => self.probed(connection),
            // It will not answer any more.
            What::Refused { .. } | What::Closed { .. } => self.probed(connection),
            _ => {}
        }
    }

    fn show_event(&mut self, event: &Event) {
        let is_message = matches!(event.what, What::Text(_) | What::Binary(_));
        if event.what == What::Probed || (self.settings.quiet && !is_message) {
            return;
        }
        let name = self.settings.options.name_of(event.connection).unwrap_or_default();
        if self.settings.json {
            return self.print(&report::json(event, &name));
        }
        let is_pipe = self.settings.source == Source::Pipe;
        match &event.what {
            // A pipe's other end gets what the server sent and nothing else.
            What::Text(text) if is_pipe && !io::stdout().is_terminal() => self.print(text),
            What::Text(text) if is_pipe || self.terminal.is_some() => self.print(&report::printable(text)),
            What::Text(_) => self.print(&report::text(event, &name)),
            _ => self.say(&report::text(event, &name)),
        }
    }

    fn show_status(&mut self) {
        // A client that has ended says so by its last event.
        let Ok(sums) = self.client.summary() else { return };
        match self.settings.json {
            true => self.print(&report::status_json(&sums, SystemTime::now())),
            false => self.say(&report::status_text(&sums, SystemTime::now())),
        }
    }

    fn take_input(&mut self, input: Input) {
        match input {
            Input::Keys(keys) => self.take_keys(&keys),
            Input::Line(line) if line.is_empty() => {}
            Input::Line(line) => {
                self.pipe.waiting = Some((line, (1..=self.settings.options.connections).collect()));
                self.send_waiting();
            }
            Input::Bad(why) => self.say(&format!("not sent: {why}")),
            Input::End => self.input_ended(),
        }
    }

    fn take_keys(&mut self, keys: &[u8]) {
        let Some(terminal) = &mut self.terminal else { return };
        let (lines, end) = terminal.take(keys);
        for line in lines.iter().filter(|line| !line.is_empty()) {
            self.print(&format!("> {}", report::printable(line)));
            for connection in 1..=self.settings.options.connections {
                if let Err(error) = self.client.send_text(connection, line) {
                    self.say(&format!("not sent: {error}"));
                }
            }
        }
        if end {
            self.begin_close();
        }
    }

    /// Prints a line of data.
    fn print(&mut self, line: &str) {
        match &mut self.terminal {
            Some(terminal) => terminal.print(line),
            // Whoever closed the stream does not want to know.
            None => drop(writeln!(io::stdout(), "{line}")),
        }
    }

    /// Prints a line that is about the data.
    fn say(&mut self, line: &str) {
        match (&mut self.terminal, self.settings.source == Source::Pipe) {
            (None, true) => drop(writeln!(io::stderr(), "{line}")),
            _ => self.print(line),
        }
    }
}
