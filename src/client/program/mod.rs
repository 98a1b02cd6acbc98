//! `throng client`: the client with a terminal, a pipe or nothing in front of it.
//!
//! Owns: what is printed where, what is typed, signals, the exit status.

mod editor;
mod input;
mod report;
mod terminal;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, bounded, never, select};

use self::input::Input;
use self::terminal::Terminal;
use super::event::{Event, What};
use super::gate::SendError;
use super::options::Options;
use super::summary::Summary;
use super::{Client, args};
use crate::signals::{self, Signal};

/// Between two tries to send a piped line for which there is no room.
const TRY_AGAIN: Duration = Duration::from_millis(10);

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
    /// After the last line of a pipe was taken in, how long answers are waited for.
    pub(super) linger: Duration,
}

/// Runs the client to its end.
pub(super) fn run(settings: Settings) -> ExitCode {
    match start(settings) {
        Ok(program) => program.run(),
        Err(error) => args::usage(&error.to_string()),
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
    let names = (1..=settings.options.connections).map(|number| name(&settings.options, number)).collect();
    let client = Client::connect(settings.options.clone())?;
    let end = settings.duration.map_or_else(never, after);
    let unprobed = (1..=settings.options.connections).collect();
    let pipe = Pipe { waiting: None, ended: false, unprobed, linger: never() };
    Ok(Program { settings, client, input, signals, end, terminal, names, pipe })
}

fn name(options: &Options, number: u32) -> String {
    options.name_of(number).unwrap_or_else(|| format!("connection-{number}"))
}

struct Program {
    settings: Settings,
    client: Client,
    input: Receiver<Input>,
    signals: Receiver<Signal>,
    end: Receiver<Instant>,
    terminal: Option<Terminal>,
    /// Of the connections, from the first.
    names: Vec<String>,
    pipe: Pipe,
}

/// How far what is piped in has come.
struct Pipe {
    /// A line, and the connections it is still to be sent on.
    waiting: Option<(String, VecDeque<u32>)>,
    /// There are no more lines.
    ended: bool,
    /// Connections that have not yet said that they took everything in.
    unprobed: Vec<u32>,
    /// When the last answers have had their time.
    linger: Receiver<Instant>,
}

impl Program {
    fn run(mut self) -> ExitCode {
        if let Some(terminal) = &mut self.terminal {
            terminal.print("type JSON or text; Ctrl-D or Ctrl-C ends");
        }
        let events = self.client.events().clone();
        loop {
            // A line that waits holds back those behind it.
            let waits = self.pipe.waiting.is_some();
            let input = if waits { never() } else { self.input.clone() };
            let again = if waits { after(TRY_AGAIN) } else { never() };
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
                recv(again) -> _ => self.send_waiting(),
                recv(self.signals) -> signal => match signal {
                    Ok(Signal::Drain { count: 2.. }) => return ExitCode::from(EXIT_AT_ONCE),
                    Ok(Signal::Drain { .. }) => self.begin_close(),
                    Ok(Signal::Reload) | Err(_) => {}
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
        let number = (event.connection as usize).wrapping_sub(1);
        let name = self.names.get(number).map_or("client", String::as_str);
        if self.settings.json {
            let line = report::json(event, name);
            return self.print(&line);
        }
        match &event.what {
            // A pipe's other end gets what the server sent and nothing else.
            What::Text(text) if self.settings.source == Source::Pipe => self.print(text),
            What::Text(text) if self.terminal.is_some() => self.print(&report::printable(text)),
            What::Text(_) => self.print(&report::text(event, name)),
            _ => self.say(&report::text(event, name)),
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

    fn input_ended(&mut self) {
        self.input = never();
        if self.settings.source != Source::Pipe {
            return self.begin_close();
        }
        self.pipe.ended = true;
        for connection in self.pipe.unprobed.clone() {
            self.probe(connection);
        }
        self.linger_if_probed();
    }

    /// Sends the line that waits on the connections that have room for it.
    fn send_waiting(&mut self) {
        let Some((line, mut connections)) = self.pipe.waiting.take() else { return };
        for _ in 0..connections.len() {
            let Some(connection) = connections.pop_front() else { break };
            match self.client.send_text(connection, &line) {
                // One that is refused for good has no gate that opens.
                Err(SendError::NotConnected) if !self.pipe.unprobed.contains(&connection) => {}
                Err(SendError::NotConnected | SendError::Full) => connections.push_back(connection),
                Err(error) => self.say(&format!("not sent: {error}")),
                Ok(()) => {}
            }
        }
        if !connections.is_empty() {
            self.pipe.waiting = Some((line, connections));
        }
    }

    /// One that is not connected is asked when it is.
    fn probe(&self, connection: u32) {
        let _ = self.client.probe(connection);
    }

    fn probed(&mut self, connection: u32) {
        self.pipe.unprobed.retain(|waiting| *waiting != connection);
        self.linger_if_probed();
    }

    fn linger_if_probed(&mut self) {
        if self.pipe.ended && self.pipe.unprobed.is_empty() {
            self.pipe.linger = after(self.settings.linger);
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
