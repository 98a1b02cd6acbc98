//! The command line. Flags of commands that have a configuration are written
//! from their tables of keys; nothing is decided here, values are read by `config`.

mod balance;
mod configured;
mod serve;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

pub use configured::Configured;

use clap::ArgMatches;

use crate::balancer::config::BalanceConfig;
use crate::client;
use crate::config::{Config, Settings};

/// Exit status for a command line or a configuration that cannot be used.
pub const EXIT_USAGE: u8 = 2;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `throng serve`: run a node.
    Serve(Box<Configured<Config>>),
    /// `throng balance`: run a load balancer.
    Balance(Box<Configured<BalanceConfig>>),
    /// `throng client`: connect to a server and stay connected.
    Client(Box<ArgMatches>),
    /// `throng health`: ask a server whether it is well.
    Health(Box<ArgMatches>),
}

/// Why there is no command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Help or the version was asked for: this text.
    Shown(String),
    /// The command line is wrong: one line that says how.
    Usage(String),
}

impl Stop {
    /// Prints the help on stdout or the error on stderr; the exit status.
    pub fn report(&self) -> ExitCode {
        // Whoever closed the stream does not want to know.
        match self {
            Stop::Shown(text) => {
                let _ = io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Stop::Usage(line) => {
                let _ = writeln!(io::stderr(), "throng: {line}");
                ExitCode::from(EXIT_USAGE)
            }
        }
    }
}

/// Parses the command line; the first of `args` is the program's name.
///
/// # Errors
/// Help was asked for, or the arguments are wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = command().try_get_matches_from(&args).map_err(|error| stop(&error, subcommand(&args)))?;
    match matches.subcommand() {
        Some((Config::COMMAND, matches)) => Ok(Command::Serve(Box::new(configured::args(matches)))),
        Some((BalanceConfig::COMMAND, matches)) => Ok(Command::Balance(Box::new(configured::args(matches)))),
        Some(("client", matches)) => Ok(Command::Client(Box::new(matches.clone()))),
        Some(("health", matches)) => Ok(Command::Health(Box::new(matches.clone()))),
        // clap demands a known subcommand, so there is no other.
        _ => Err(Stop::Usage("a command is needed; see throng --help".to_owned())),
    }
}

const ABOUT: &str = "A WebSocket gateway built for connection density";

fn command() -> clap::Command {
    clap::Command::new("throng")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(serve::command())
        .subcommand(balance::command())
        .subcommand(client::args::command())
        .subcommand(client::health::command())
}

/// The subcommand that was named, if it is one.
fn subcommand(args: &[OsString]) -> Option<&str> {
    let name = args.get(1)?.to_str()?;
    command().find_subcommand(name).map(|_| name)
}

/// clap's report, on one line if it is an error.
fn stop(error: &clap::Error, subcommand: Option<&str>) -> Stop {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return Stop::Shown(text);
    }
    // A paragraph that says what is wrong, perhaps tips, and the usage.
    let mut paragraphs = text.trim().split("\n\n");
    let wrong = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let mut line = wrong.split_whitespace().collect::<Vec<_>>().join(" ");
    let tips = paragraphs.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: "));
    for tip in tips {
        line.push_str(" (");
        line.push_str(tip);
        line.push(')');
    }
    let command = subcommand.map(|name| format!(" {name}")).unwrap_or_default();
    Stop::Usage(format!("{line}; see throng{command} --help"))
}
