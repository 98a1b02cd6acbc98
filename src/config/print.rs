//! The configuration in words: `--print-config` and the manual, both written
//! from the table of keys.

use std::fmt::Write;

use super::value::Shape;
use super::{Key, Settings, Source, Sources, commands};

/// Lines of comments are wrapped here.
const WIDTH: usize = 96;

/// The effective configuration as TOML, with every key's documentation,
/// default and source. It is a valid configuration file; secrets are masked,
/// in a comment.
pub fn print<C: Settings>(settings: &C, sources: &Sources) -> String {
    let mut out = String::new();
    let command = C::COMMAND;
    push(
        &mut out,
        format_args!("# The configuration in effect, written by throng {command} --print-config.\n"),
    );
    for section in C::sections() {
        push(&mut out, format_args!("\n# ---- {} ----\n", section.title));
        for key in section.keys {
            out.push('\n');
            comment(&mut out, key.doc);
            let (default, changes) = (key.default_text(), key.changes());
            let source = source_text(sources.of(key.name));
            comment(&mut out, &format!("Default: {default}. Changes {changes}. {source}"));
            line(&mut out, key, settings);
        }
    }
    out
}

/// The reference of all keys of all commands, in Markdown: `docs/configuration.md`.
pub fn manual() -> String {
    let mut out = String::from(INTRODUCTION);
    commands::describe(&mut out);
    out
}

/// The reference of one command's keys, in Markdown.
pub(super) fn describe<C: Settings>(out: &mut String) {
    push(out, format_args!("\n## throng {}\n", C::COMMAND));
    for section in C::sections() {
        push(out, format_args!("\n### {}\n", section.title));
        for key in section.keys {
            describe_key(out, key);
        }
    }
}

fn describe_key<C: Settings>(out: &mut String, key: &Key<C>) {
    push(out, format_args!("\n#### `{}`\n\n{}\n\n", key.name, key.doc));
    if let Some(flag) = flag_text(key) {
        push(out, format_args!("- Flag: `{flag}`\n"));
    }
    let plain = key.plain_variable.map(|name| format!(", or `{name}`")).unwrap_or_default();
    push(out, format_args!("- Variable: `{}`{plain}\n", key.variable()));
    if !key.in_file {
        out.push_str("- Not taken from the file\n");
    }
    push(out, format_args!("- Default: `{}`\n- Changes: {}\n", key.default_text(), key.changes()));
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Written from the tables of keys: src/config/serve/keys.rs and src/balancer/config/keys.rs. A test keeps it equal. -->

`throng serve` and `throng balance` are configured in the same way, each by keys of its own. Every key can be given in up
to four places. The first that has it wins, and a list is replaced as a whole:

1. a flag: `throng serve --port 9000`
2. the environment: `THRONG_PORT=9000`; for some keys a plain name too, such as `PORT`, which `THRONG_PORT` overrides
3. the file named by `--config FILE` or `THRONG_CONFIG`
4. the default

`throng serve --print-config` and `throng balance --print-config` print what is in effect and where each value came from;
their output is itself a configuration file. An unknown key, flag or `THRONG_` variable, a value out of its bounds and a
contradiction between keys are errors: one line on stderr and exit status 2. A variable that is empty counts as not set.
The variables that Kubernetes sets for a Service called `throng` or `throng-…` are passed over, and so are those that are
keys of the other command.

SIGHUP reads the file again. Keys that change by a reload take effect at once; the others are named in the log and wait
for a restart. A drain that has begun keeps its times. A configuration with an error is refused as a whole, and the old
one stays. The file is a regular one, not a pipe, as it is read more than once.

How values are written:

| | flag and variable | file |
|---|---|---|
| duration | `500ms`, `30s`, `2m` | `\"30s\"` |
| size | `512B`, `64KiB`, `1MiB` | `\"64KiB\"`, or a number of bytes |
| yes or no | flag: `--simulate`, `--simulate=false`; variable: `true`, `false` | `true`, `false` |
| list | flag: repeated; variable: separated by commas | `[\"a\", \"b\"]` |
| backends | flag: `--backend node-1:8080,weight=2`, repeated; variable: separated by blanks or semicolons | `[\"node-1:8080,weight=2\", \"node-2:8080\"]` |
| labels | flag: `--label region=eu`, repeated; variable: `region=eu,tier=free` | `labels = { region = \"eu\" }` |
";

/// How the flag is written, with its value.
fn flag_text<C>(key: &Key<C>) -> Option<String> {
    let flag = key.flag?;
    Some(match key.shape {
        Shape::Switch => format!("--{flag}[=true|false]"),
        Shape::Scalar => format!("--{flag} {}", key.form),
        Shape::List | Shape::SpacedList | Shape::Table => format!("--{flag} {} …", key.form),
    })
}

fn line<C: Settings>(out: &mut String, key: &Key<C>, settings: &C) {
    match key.write(settings) {
        Some(value) => push(out, format_args!("{} = {value}\n", key.name)),
        None if key.secret && !key.is_same(settings, &C::default()) => {
            push(out, format_args!("# {} = \"***\"\n", key.name));
        }
        None => push(out, format_args!("# {} is not set\n", key.name)),
    }
}

fn source_text(source: &Source) -> String {
    match source {
        Source::Default => "From the default.".to_owned(),
        Source::File { path, line } => format!("From the file {}, line {line}.", path.display()),
        Source::Environment(name) => format!("From the variable {name}."),
        Source::Flag(name) => format!("From the flag --{name}."),
    }
}

/// Writes `text` as comment lines. A line break in it (a file's name may have
/// one) must not end the comment.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width == 0 || width + 1 + length > WIDTH {
            out.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        out.push(' ');
        out.extend(word.chars().filter(|c| !c.is_control()));
        width += 1 + length;
    }
    out.push('\n');
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}
