//! The command line. Flags of `throng serve` are written from the table of
//! keys; nothing is decided here, values are read by `config`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::client;
use crate::config::{Flags, KEYS, Key, Shape};

/// Exit status for a command line or a configuration that cannot be used.
pub const EXIT_USAGE: u8 = 2;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `throng serve`: run a node.
    Serve(Box<ServeArgs>),
    /// `throng client`: connect to a server and stay connected.
    Client(Box<ArgMatches>),
    /// `throng health`: ask a server whether it is well.
    Health(Box<ArgMatches>),
}

/// The arguments of `throng serve`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServeArgs {
    /// The flags, as a layer of the configuration.
    pub flags: Flags,
    /// Print the configuration instead of serving.
    pub print_config: bool,
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
    let subcommand =
        args.get(1).and_then(|arg| arg.to_str()).filter(|arg| [SERVE, CLIENT, HEALTH].contains(arg));
    let matches = command().try_get_matches_from(&args).map_err(|error| stop(&error, subcommand))?;
    match matches.subcommand() {
        Some((SERVE, matches)) => Ok(Command::Serve(Box::new(serve_args(matches)))),
        Some((CLIENT, matches)) => Ok(Command::Client(Box::new(matches.clone()))),
        Some((HEALTH, matches)) => Ok(Command::Health(Box::new(matches.clone()))),
        // clap demands a known subcommand, so there is no other.
        _ => Err(Stop::Usage("a command is needed; see throng --help".to_owned())),
    }
}

const SERVE: &str = "serve";
const CLIENT: &str = "client";
const HEALTH: &str = "health";
const CONFIG: &str = "config";
const PRINT_CONFIG: &str = "print-config";

const ABOUT: &str = "A WebSocket gateway built for connection density";

const EXAMPLES: &str = "\
Examples:
  throng serve
      HTTP and WebSockets on port 8080, WebSockets alone on port 8765
  throng serve --port 9000 --ws-port off --bind 127.0.0.1
      one port, this machine only
  throng serve --config throng.toml --log-format json
      most keys from a file; flags win over it
  THRONG_MAX_CONNECTIONS=500000 throng serve --private-fd-tables
      a key from the environment, and descriptors for many connections
  throng serve --print-config > throng.toml
      write what is in effect, with every key explained, as a file to edit

A key is taken from its flag, else from its variable, else from the file, else it has its default.
SIGTERM drains the node and ends it, a second one ends it at once; SIGHUP reads the file again.";

fn command() -> clap::Command {
    let serve = clap::Command::new(SERVE)
        .about("Run a node: accept clients and deliver messages")
        .after_help(EXAMPLES)
        .arg(
            Arg::new(CONFIG)
                .long(CONFIG)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Configuration file, TOML [env: THRONG_CONFIG]"),
        )
        .arg(
            Arg::new(PRINT_CONFIG)
                .long(PRINT_CONFIG)
                .action(ArgAction::SetTrue)
                .help("Print the effective configuration as a file, with every key explained, and exit"),
        )
        .args(KEYS.iter().filter_map(arg));
    clap::Command::new("throng")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(serve)
        .subcommand(client::args::command())
        .subcommand(client::health::command())
}

/// The flag of a key. Any text is taken: `config` knows what is a value.
fn arg(key: &'static Key) -> Option<Arg> {
    let plain = key.plain_variable.map(|name| format!(", {name}")).unwrap_or_default();
    let help = format!("{} [env: {}{plain}] [default: {}]", key.doc, key.variable(), key.default_text());
    let arg = Arg::new(key.name)
        .long(key.flag?)
        .value_name(key.form)
        .help(help)
        .help_heading(key.section)
        .allow_negative_numbers(true);
    Some(match key.shape {
        Shape::Scalar => arg.action(ArgAction::Set),
        Shape::List | Shape::Table => arg.action(ArgAction::Append),
        Shape::Switch => arg
            .value_parser(PossibleValuesParser::new(["true", "false"]))
            .hide_possible_values(true)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    })
}

fn serve_args(matches: &ArgMatches) -> ServeArgs {
    let given = |key: &'static Key| {
        key.flag?;
        let parts = matches.get_many::<String>(key.name)?.cloned().collect();
        Some((key, parts))
    };
    ServeArgs {
        flags: Flags {
            file: matches.get_one::<PathBuf>(CONFIG).cloned(),
            values: KEYS.iter().filter_map(given).collect(),
        },
        print_config: matches.get_flag(PRINT_CONFIG),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Command, Stop> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn serve(line: &str) -> ServeArgs {
        let Ok(Command::Serve(args)) = run(line) else { panic!("{line}") };
        *args
    }

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_become_parts() {
        let check = |line: &str, expected: &[(&str, &[&str])]| {
            let args = serve(&format!("throng serve {line}"));
            let shown: Vec<_> =
                args.flags.values.iter().map(|(key, parts)| (key.name, parts.clone())).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, parts)| (*name, parts.iter().map(ToString::to_string).collect()))
                .collect();
            assert_eq!(shown, expected, "{line}");
        };
        check("", &[]);
        check("--port 0 --ws-port=auto", &[("port", &["0"]), ("ws_port", &["auto"])]);
        check("--label a=1 --label b=x,y", &[("labels", &["a=1", "b=x,y"])]);
        check("--simulate --compression=false", &[("compression", &["false"]), ("simulate", &["true"])]);
        check("--messages-per-second -1", &[("messages_per_second", &["-1"])]);
        check("--admin-token-file /x", &[("admin_token_file", &["/x"])]);
    }

    #[test]
    fn every_flag_is_taken() {
        for key in KEYS {
            let Some(flag) = key.flag else { continue };
            let args = serve(&format!("throng serve --{flag}=true"));
            assert_eq!(args.flags.values, [(key, vec!["true".to_owned()])]);
        }
    }

    #[test]
    fn the_rest() {
        let args = serve("throng serve --config x.toml --print-config");
        assert_eq!((args.flags.file, args.print_config), (Some("x.toml".into()), true));
    }

    #[test]
    fn a_usage_error_is_one_line() {
        let check = |line: &str, expected: &str| {
            assert_eq!(run(line), Err(Stop::Usage(expected.to_owned())), "{line}");
        };
        check(
            "throng serve --prot 1",
            "unexpected argument '--prot' found (a similar argument exists: '--port'); see throng serve --help",
        );
        check("throng serve --xyzzy", "unexpected argument '--xyzzy' found; see throng serve --help");
        check("throng serve extra", "unexpected argument 'extra' found; see throng serve --help");
        check(
            "throng serve --port",
            "a value is required for '--port <PORT>' but none was supplied; see throng serve --help",
        );
        check(
            "throng serve --port 1 --port 2",
            "the argument '--port <PORT>' cannot be used multiple times; see throng serve --help",
        );
        check(
            "throng serve --admin-token x",
            "unexpected argument '--admin-token' found (a similar argument exists: '--admin-token-file'); \
             see throng serve --help",
        );
        check(
            "throng sevre",
            "unrecognized subcommand 'sevre' (a similar subcommand exists: 'serve'); see throng --help",
        );
        check(
            "throng",
            "'throng' requires a subcommand but one was not provided [subcommands: serve, client, health]; see throng --help",
        );
    }

    #[test]
    fn any_usage_error_is_one_line() {
        use std::os::unix::ffi::OsStringExt;
        let broken = OsString::from_vec(b"--port=\xff".to_vec());
        for args in
            [vec!["throng".into(), "serve".into(), broken], vec![], vec!["throng".into(), "--x\ny".into()]]
        {
            let Err(Stop::Usage(line)) = parse(args.clone()) else { panic!("{args:?}") };
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn help_teaches_every_flag() {
        let Err(Stop::Shown(help)) = run("throng serve --help") else { panic!("no help") };
        for key in KEYS {
            let Some(flag) = key.flag else { continue };
            assert!(help.contains(&format!("--{flag}")) && help.contains(&key.variable()), "{}", key.name);
        }
        assert!(help.contains(EXAMPLES));
        let Err(Stop::Shown(version)) = run("throng --version") else { panic!("no version") };
        assert_eq!(version, format!("throng {}\n", env!("CARGO_PKG_VERSION")));
    }
}
