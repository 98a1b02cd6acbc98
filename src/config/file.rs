//! The configuration file: TOML with one key a line, every key at most once.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::Shape;
use super::{ConfigError, Key, Settings, Source, commands, key};
use crate::small_file;

const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the file says about one key.
#[derive(Debug)]
pub(super) struct Entry<C: Settings> {
    pub(super) key: &'static Key<C>,
    pub(super) parts: Vec<String>,
    pub(super) line: usize,
}

/// Reads and parses the file at `path`.
pub(super) fn read<C: Settings>(path: &Path) -> Result<Vec<Entry<C>>, ConfigError> {
    let text =
        read_text(path, FILE_BYTES_MAX).map_err(|wrong| ConfigError::new(path.to_string_lossy(), wrong))?;
    parse(&text, path)
}

/// The text of a small regular file, links followed; the error is one line
/// without the path. A pipe is refused: at a reload it would be waited for, or
/// found empty, which is a configuration too.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    let bytes = small_file::read(path, bytes_max).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

fn parse<C: Settings>(text: &str, path: &Path) -> Result<Vec<Entry<C>>, ConfigError> {
    let line = |span: Range<usize>| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
    let place = |line: usize| format!("{}:{line}", path.display());
    let table = DeTable::parse(text).map_err(|error| {
        ConfigError::new(
            place(line(error.span().unwrap_or(0..0))),
            format_args!("is not TOML: {}", error.message()),
        )
    })?;
    let mut entries = Vec::with_capacity(table.get_ref().len());
    for (name, value) in table.get_ref() {
        let line = line(name.span());
        let key = known(name.get_ref()).map_err(|wrong| ConfigError::new(place(line), wrong))?;
        let source = || Source::File { path: path.to_owned(), line };
        let parts =
            parts(key, value).map_err(|wrong| ConfigError::key(key.name, wrong).at(source().place(key)))?;
        entries.push(Entry { key, parts, line });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn known<C: Settings>(name: &str) -> Result<&'static Key<C>, String> {
    match key::find::<C>(name) {
        Some(key) if key.in_file => Ok(key),
        Some(key) => Err(format!("{name} is not taken from the file; use {} or {name}_file", key.variable())),
        None => Err(unknown::<C>(name)),
    }
}

fn unknown<C: Settings>(name: &str) -> String {
    match (commands::with_key(name), key::nearest::<C>(name)) {
        (Some(other), _) => format!("{name} is a key of throng {other}, not of throng {}", C::COMMAND),
        (None, Some(key)) => format!("unknown key {name:?}; did you mean {}?", key.name),
        (None, None) => format!("unknown key {name:?}"),
    }
}

/// The parts of a value, as text.
fn parts<C>(key: &Key<C>, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    match (key.shape, value.get_ref()) {
        (Shape::List | Shape::SpacedList, DeValue::Array(items)) => {
            items.iter().map(|item| scalar(item.get_ref())).collect()
        }
        (Shape::List | Shape::SpacedList, _) => Err(format!("takes an array, such as [\"{}\"]", key.form)),
        (Shape::Table, DeValue::Table(pairs)) => {
            pairs.iter().map(|(name, value)| pair(name.get_ref(), value)).collect()
        }
        (Shape::Table, _) => Err("takes a table, such as { region = \"eu\" }".to_owned()),
        (Shape::Scalar | Shape::Switch, value) => Ok(vec![scalar(value)?]),
    }
}

fn pair(name: &str, value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    if name.contains('=') {
        return Err(format!("{name:?} has a = in its name"));
    }
    Ok(format!("{name}={}", scalar(value.get_ref())?))
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(on) => Ok(on.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| format!("{number} is too large a number")),
        other => Err(format!("takes one value, not {} {}", article(other), other.type_str())),
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    if value.is_array() { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Parses `text`: `name@line=part|part` for each entry, or the error.
    fn check(text: &str, expected: &str) {
        let shown = match parse::<Config>(text, Path::new("t.toml")) {
            Err(error) => error.to_string(),
            Ok(entries) => entries
                .iter()
                .map(|entry| format!("{}@{}={}", entry.key.name, entry.line, entry.parts.join("|")))
                .collect::<Vec<_>>()
                .join(" "),
        };
        assert_eq!(shown, expected, "{text:?}");
    }

    #[test]
    fn values_of_every_shape() {
        check("", "");
        check("# nothing\n\nport = 0x50\ncompression = false", "port@3=80 compression@4=false");
        check("allowed_origins = ['https://a', \"null\"]", "allowed_origins@1=https://a|null");
        check("trusted_proxies = []", "trusted_proxies@1=");
        check("labels = { b = 'x', a = 1 }", "labels@1=a=1|b=x");
        check("port = 1\n[labels]\nregion = 'eu=1'", "port@1=1 labels@2=region=eu=1");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        check("port = 1\nprot = 2", "t.toml:2: unknown key \"prot\"; did you mean port?");
        check("[server]\nport = 1", "t.toml:1: unknown key \"server\"");
        check("xyzzy = 1", "t.toml:1: unknown key \"xyzzy\"");
        check("port = [1]", "t.toml:1: port: takes one value, not an array");
        check("\nport = 1.5", "t.toml:2: port: takes one value, not a float");
        check("port = 99999999999999999999", "t.toml:1: port: 99999999999999999999 is too large a number");
        check("allowed_origins = 'x'", "t.toml:1: allowed_origins: takes an array, such as [\"ORIGIN\"]");
        check("labels = ['a=b']", "t.toml:1: labels: takes a table, such as { region = \"eu\" }");
        check("labels = { 'a=b' = 1 }", "t.toml:1: labels: \"a=b\" has a = in its name");
        check(
            "admin_token = 'x'",
            "t.toml:1: admin_token is not taken from the file; use THRONG_ADMIN_TOKEN or admin_token_file",
        );
    }

    #[test]
    fn what_is_not_toml() {
        for text in ["port = 1\nport = 2", "port = 1\nport", "port = 1\n= 2"] {
            let error = parse::<Config>(text, Path::new("t.toml")).expect_err(text).to_string();
            assert!(error.starts_with("t.toml:2: is not TOML: ") && error.lines().count() == 1, "{error}");
        }
    }
}
