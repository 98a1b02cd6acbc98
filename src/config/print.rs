//! The configuration in words: `--print-config` and the manual, both written
//! from the table of keys.

use std::fmt::Write;

use super::keys::{KEYS, Key};
use super::value::Shape;
use super::{Config, Source, Sources};

/// Lines of comments are wrapped here.
const WIDTH: usize = 96;

/// The effective configuration as TOML, with every key's documentation,
/// default and source. It is a valid configuration file; secrets are masked,
/// in a comment.
pub fn print(config: &Config, sources: &Sources) -> String {
    let mut out = String::from("# The configuration in effect, written by throng serve --print-config.\n");
    for (index, key) in KEYS.iter().enumerate() {
        heading(&mut out, index, |section| format!("\n# ---- {section} ----\n"));
        out.push('\n');
        comment(&mut out, key.doc);
        let changes = if key.live { "by a reload" } else { "at a restart" };
        let source = source_text(sources.of(key.name));
        comment(&mut out, &format!("Default: {}. Changes {changes}. {source}", key.default_text()));
        line(&mut out, key, config);
    }
    out
}

/// The reference of all keys, in Markdown: `docs/configuration.md`.
pub fn manual() -> String {
    let mut out = String::from(INTRODUCTION);
    for (index, key) in KEYS.iter().enumerate() {
        heading(&mut out, index, |section| format!("\n## {section}\n"));
        push(&mut out, format_args!("\n### `{}`\n\n{}\n\n", key.name, key.doc));
        if let Some(flag) = flag_text(key) {
            push(&mut out, format_args!("- Flag: `{flag}`\n"));
        }
        let plain = key.plain_variable.map(|name| format!(", or `{name}`")).unwrap_or_default();
        push(&mut out, format_args!("- Variable: `{}`{plain}\n", key.variable()));
        if !key.in_file {
            out.push_str("- Not taken from the file\n");
        }
        push(&mut out, format_args!("- Default: `{}`\n", key.default_text()));
        push(
            &mut out,
            format_args!("- Changes: {}\n", if key.live { "by a reload" } else { "at a restart" }),
        );
    }
    out
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Written from the table of keys in src/config/keys.rs; a test keeps it equal. -->

Every key can be given in up to four places. The first that has it wins, and a list is replaced as a whole:

1. a flag: `throng serve --port 9000`
2. the environment: `THRONG_PORT=9000`; for some keys a plain name too, such as `PORT`, which `THRONG_PORT` overrides
3. the file named by `--config FILE` or `THRONG_CONFIG`
4. the default

`throng serve --print-config` prints what is in effect and where each value came from; its output is itself a
configuration file. An unknown key, flag or `THRONG_` variable, a value out of its bounds and a contradiction between
keys are errors: one line on stderr and exit status 2. A variable that is empty counts as not set, and the variables
that Kubernetes sets for a Service called `throng` or `throng-…` are passed over.

SIGHUP reads the file again. Keys that change by a reload take effect at once; the others are named in the log and wait
for a restart. A configuration with an error is refused as a whole, and the old one stays.

How values are written:

| | flag and variable | file |
|---|---|---|
| duration | `500ms`, `30s`, `2m` | `\"30s\"` |
| size | `512B`, `64KiB`, `1MiB` | `\"64KiB\"`, or a number of bytes |
| yes or no | flag: `--simulate`, `--simulate=false`; variable: `true`, `false` | `true`, `false` |
| list | flag: repeated; variable: separated by commas | `[\"a\", \"b\"]` |
| labels | flag: `--label region=eu`, repeated; variable: `region=eu,tier=free` | `labels = { region = \"eu\" }` |
";

/// How the flag is written, with its value.
fn flag_text(key: &Key) -> Option<String> {
    let flag = key.flag?;
    Some(match key.shape {
        Shape::Switch => format!("--{flag}[=true|false]"),
        Shape::Scalar => format!("--{flag} {}", key.form),
        Shape::List | Shape::Table => format!("--{flag} {} …", key.form),
    })
}

/// Writes the section's heading before its first key.
fn heading(out: &mut String, index: usize, text: impl Fn(&str) -> String) {
    if index == 0 || KEYS[index - 1].section != KEYS[index].section {
        out.push_str(&text(KEYS[index].section));
    }
}

fn line(out: &mut String, key: &Key, config: &Config) {
    match key.write(config) {
        Some(value) => push(out, format_args!("{} = {value}\n", key.name)),
        None => match masked(key, config) {
            Some(shown) => push(out, format_args!("# {} = \"{shown}\"\n", key.name)),
            None => push(out, format_args!("# {} is not set\n", key.name)),
        },
    }
}

/// What is shown of a value that is secret.
fn masked(key: &Key, config: &Config) -> Option<String> {
    match key.name {
        "admin_token" => config.admin_token.as_ref().map(|_| "***".to_owned()),
        "redis_url" => config.redis_url.as_ref().map(ToString::to_string),
        _ => None,
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
