//! The arguments of a command that has a configuration: its flags are written
//! from its table of keys.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::config::{Flags, Key, Settings, Shape};

const CONFIG: &str = "config";
const PRINT_CONFIG: &str = "print-config";

/// The arguments of a command that has a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Configured<C: Settings> {
    /// The flags, as a layer of the configuration.
    pub flags: Flags<C>,
    /// Print the configuration instead of running.
    pub print_config: bool,
}

/// The subcommand of the settings `C`.
pub(super) fn command<C: Settings>(about: &'static str, examples: &'static str) -> clap::Command {
    let flags = C::sections()
        .iter()
        .flat_map(|section| section.keys.iter().filter_map(|key| arg(key, section.title)));
    clap::Command::new(C::COMMAND)
        .about(about)
        .after_help(examples)
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
        .args(flags)
}

/// The flag of a key. Any text is taken: `config` knows what is a value.
fn arg<C: Settings>(key: &'static Key<C>, heading: &'static str) -> Option<Arg> {
    let plain = key.plain_variable.map(|name| format!(", {name}")).unwrap_or_default();
    let help = format!("{} [env: {}{plain}] [default: {}]", key.doc, key.variable(), key.default_text());
    let arg = Arg::new(key.name)
        .long(key.flag?)
        .value_name(key.form)
        .help(help)
        .help_heading(heading)
        .allow_negative_numbers(true);
    Some(match key.shape {
        Shape::Scalar => arg.action(ArgAction::Set),
        Shape::List | Shape::SpacedList | Shape::Table => arg.action(ArgAction::Append),
        Shape::Switch => arg
            .value_parser(PossibleValuesParser::new(["true", "false"]))
            .hide_possible_values(true)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    })
}

/// What was given of them.
pub(super) fn args<C: Settings>(matches: &ArgMatches) -> Configured<C> {
    let given = |key: &'static Key<C>| {
        key.flag?;
        let parts = matches.get_many::<String>(key.name)?.cloned().collect();
        Some((key, parts))
    };
    Configured {
        flags: Flags {
            file: matches.get_one::<PathBuf>(CONFIG).cloned(),
            values: C::keys().filter_map(given).collect(),
        },
        print_config: matches.get_flag(PRINT_CONFIG),
    }
}
