//! The command line of `throng client`: flags to settings, and the exit status.

mod flags;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;

pub use flags::command;

use super::backoff::Policy;
use super::business::Plan;
use super::options::Options;
use super::program::{self, Settings, Source};
use super::summary::Summary;
use super::target::Target;
use super::token::Token;
use crate::config::Secret;

/// Exit status when something announced or sent is missing, or a connection was never open.
const EXIT_LOST: u8 = 1;

/// Exit status for a command line that cannot be used.
const EXIT_USAGE: u8 = 2;

/// Exit status when a server refused a connection for good.
const EXIT_REFUSED: u8 = 3;

const URL_VARIABLE: &str = "SERVER_URL";
const TOKEN_VARIABLE: &str = "THRONG_TOKEN";
const URL_DEFAULT: &str = "ws://localhost:8080/ws";

/// Runs the client to its end; the exit status.
pub fn run(matches: &ArgMatches) -> ExitCode {
    match settings(matches, std::env::var(URL_VARIABLE).ok(), std::env::var(TOKEN_VARIABLE).ok()) {
        Ok(settings) => program::run(settings),
        Err(error) => usage(&error),
    }
}

/// Says what is wrong with the command line.
pub(super) fn usage(error: &str) -> ExitCode {
    // Whoever closed the stream does not want to know.
    let _ = writeln!(io::stderr(), "throng: {error}");
    ExitCode::from(EXIT_USAGE)
}

/// Says why the client could not be started: what it was given, or the system.
pub(super) fn fail(error: &io::Error) -> ExitCode {
    let code = usage(&error.to_string());
    if error.kind() == io::ErrorKind::InvalidInput { code } else { ExitCode::FAILURE }
}

/// What the end of a client says to scripts.
pub(super) fn exit_status(sums: &Summary) -> ExitCode {
    if sums.refused > 0 {
        return ExitCode::from(EXIT_REFUSED);
    }
    if sums.is_well() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_LOST) }
}

/// What the command line asks for. `variable` is the URL's, `token` the token's.
fn settings(
    matches: &ArgMatches,
    variable: Option<String>,
    token: Option<String>,
) -> Result<Settings, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let span = |name: &str| matches.get_one::<Duration>(name).copied();
    let target = match (text("url"), variable.filter(|url| !url.is_empty())) {
        (Some(url), _) => url.parse::<Target>().map_err(|error| format!("--url: {error}"))?,
        (None, Some(url)) => url.parse().map_err(|error| format!("{URL_VARIABLE}: {error}"))?,
        (None, None) => URL_DEFAULT.parse().map_err(|error| format!("{URL_DEFAULT}: {error}"))?,
    };
    let usual = Options::new(target);
    let first = span("backoff-first").unwrap_or(usual.backoff.first);
    let max = span("backoff-max").unwrap_or(usual.backoff.max);
    if first > max {
        return Err("--backoff-first is longer than --backoff-max".to_owned());
    }
    let business = business(matches);
    let connections = matches.get_one::<u32>("connections").copied().unwrap_or(1);
    let source = source(matches, connections, business.is_some());
    let show_messages = matches.get_flag("print-messages")
        || source != Source::Nothing
        || (business.is_none() && connections == 1);
    let options = Options {
        connections,
        name: text("name").or_else(|| Some(format!("client-{:06x}", fastrand::u32(..1 << 24)))),
        user_id: text("user-id"),
        token: self::token(matches, token)?,
        ca_file: matches.get_one::<PathBuf>("ca-file").cloned(),
        business,
        backoff: Policy { first, max, ..usual.backoff },
        keep_trying: matches.get_flag("keep-trying"),
        connect_timeout: span("connect-timeout").unwrap_or(usual.connect_timeout),
        heartbeat: span("heartbeat").unwrap_or(usual.heartbeat),
        close_timeout: span("close-timeout").unwrap_or(usual.close_timeout),
        message_events: show_messages,
        ..usual
    };
    Ok(Settings {
        options,
        source,
        json: matches.get_flag("json"),
        quiet: matches.get_flag("quiet"),
        duration: span("duration"),
        status: span("status"),
        linger: span("linger").unwrap_or_default(),
    })
}

/// The token, which is looked at here, so that a mistake shows at once.
fn token(matches: &ArgMatches, variable: Option<String>) -> Result<Option<Token>, String> {
    let file = matches.get_one::<PathBuf>("token-file");
    let variable = variable.filter(|token| !token.is_empty());
    let (name, token) = match (file, variable) {
        (Some(path), _) => ("--token-file", Token::File(path.clone())),
        (None, Some(token)) => (TOKEN_VARIABLE, Token::Fixed(Secret::new(token.trim()))),
        (None, None) => return Ok(None),
    };
    token.authorization(1).map_err(|why| format!("{name}: {why}"))?;
    Ok(Some(token))
}

fn business(matches: &ArgMatches) -> Option<Plan> {
    let interval = matches.get_one::<Duration>("interval").copied();
    let messages = matches.get_one::<u64>("messages").copied();
    let random = matches.get_flag("simulate");
    let wanted = interval.is_some() || messages.is_some() || random;
    wanted.then(|| Plan { interval: interval.unwrap_or(Duration::from_secs(1)), random, messages })
}

/// Who is in front of stdin, if it is to be read: one connection without
/// business of its own is there to be talked to.
fn source(matches: &ArgMatches, connections: u32, has_business: bool) -> Source {
    let asked = matches.get_flag("interactive");
    if !asked && (connections > 1 || has_business) {
        return Source::Nothing;
    }
    if program::terminal_is_there() && !matches.get_flag("json") {
        return Source::Terminal;
    }
    // A service has /dev/null there, whose end means nothing.
    if asked || stdin_has_lines() || io::stdin().is_terminal() { Source::Pipe } else { Source::Nothing }
}

/// Whether stdin is a pipe, a socket or a file.
fn stdin_has_lines() -> bool {
    let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() else { return false };
    let Ok(about) = File::from(stdin).metadata() else { return false };
    let kind = about.file_type();
    kind.is_fifo() || kind.is_socket() || kind.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str, variable: Option<&str>) -> Result<Settings, String> {
        parsed_with(line, variable, None)
    }

    fn parsed_with(line: &str, variable: Option<&str>, token: Option<&str>) -> Result<Settings, String> {
        let words = std::iter::once("client").chain(line.split_whitespace());
        let matches = command().try_get_matches_from(words).map_err(|error| error.to_string())?;
        settings(&matches, variable.map(str::to_owned), token.map(str::to_owned))
    }

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
        super::super::health::command().debug_assert();
    }

    #[test]
    fn help_teaches() {
        let help = command().render_help().to_string();
        for taught in ["SERVER_URL", "%n", "Retry-After", "Exit status: 0", "throng client --"] {
            assert!(help.contains(taught), "no {taught} in {help}");
        }
    }

    #[test]
    fn the_url_is_of_the_flag_the_variable_or_the_default() {
        let check = |line: &str, variable, expected: &str| {
            let url = parsed(line, variable).map(|settings| settings.options.target.to_string());
            assert_eq!(url.as_deref(), Ok(expected), "{line} {variable:?}");
        };
        check("", None, "ws://localhost:8080/ws");
        check("", Some(""), "ws://localhost:8080/ws");
        check("", Some("ws://other/ws"), "ws://other/ws");
        check("--url wss://flag/x", Some("ws://other/ws"), "wss://flag/x");
    }

    #[test]
    fn mistakes_are_named() {
        let check = |line: &str, variable, mentions: &str| {
            let error = parsed(line, variable).err().expect(line);
            assert!(error.contains(mentions), "{line}: {error}");
        };
        check("--url http://x", None, "--url: http://");
        check("", Some("nonsense"), "SERVER_URL:");
        check("--connections 0", None, "--connections");
        check("--interval 0s", None, "1ms to 1year");
        check("--interval soon", None, "500ms");
        check("--messages 0", None, "--messages");
        check("--backoff-first 40s", None, "--backoff-max");
    }

    #[test]
    fn a_token_is_of_a_file_or_of_the_variable() {
        let check = |line: &str, variable, expected: Result<&str, &str>| {
            let token = parsed_with(line, None, variable).map(|settings| match settings.options.token {
                None => "none".to_owned(),
                Some(Token::Fixed(token)) => token.expose().to_owned(),
                Some(Token::File(path)) => path.display().to_string(),
            });
            match expected {
                Ok(expected) => assert_eq!(token.as_deref(), Ok(expected), "{line}"),
                Err(mentions) => assert!(token.is_err_and(|error| error.contains(mentions)), "{line}"),
            }
        };
        check("", None, Ok("none"));
        check("", Some(""), Ok("none"));
        check("", Some(" a.b.c\n"), Ok("a.b.c"));
        check("", Some("two words"), Err("THRONG_TOKEN: the token is not one"));
        check(
            "--token-file /nowhere/token",
            Some("a.b.c"),
            Err("--token-file: the token file /nowhere/token"),
        );
        check("--token-file Cargo.toml", None, Err("holds no token"));
    }

    #[test]
    fn business_is_made_when_asked_for() {
        let check = |line: &str, expected: Option<(u64, bool, Option<u64>)>| {
            let Ok(Settings { options: Options { business: plan, .. }, .. }) = parsed(line, None) else {
                panic!("{line}")
            };
            let plan = plan.map(|plan| (plan.interval.as_millis() as u64, plan.random, plan.messages));
            assert_eq!(plan, expected, "{line}");
        };
        check("", None);
        check("--interval 20ms", Some((20, false, None)));
        check("--simulate", Some((1000, true, None)));
        check("--messages 7", Some((1000, false, Some(7))));
        check("--simulate --interval 5ms --messages 7", Some((5, true, Some(7))));
    }

    #[test]
    fn the_exit_status_says_how_it_went() {
        let fine = Summary { connections: 1, ever_open: 1, ..Summary::default() };
        let check = |sums: Summary, expected: u8| {
            assert_eq!(exit_status(&sums), ExitCode::from(expected), "{sums:?}");
        };
        check(fine.clone(), 0);
        check(Summary { lost: 1, ..fine.clone() }, EXIT_LOST);
        check(Summary { ever_open: 0, ..fine.clone() }, EXIT_LOST);
        check(Summary { refused: 1, lost: 1, ..fine }, EXIT_REFUSED);
    }
}
