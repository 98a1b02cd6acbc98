//! One key of a table: its name, documentation, default and codec stand in one
//! row, and everything that is said of it is written from there.

use super::Settings;
use super::value::{Codec, Shape};

/// Keys that are documented under one heading.
pub struct Section<C: 'static> {
    /// The heading.
    pub title: &'static str,
    /// The keys, in the order of the documentation.
    pub keys: &'static [Key<C>],
}

/// One configuration key of the settings `C`.
pub struct Key<C> {
    /// Name in the file; `THRONG_` and it in capitals is the variable.
    pub name: &'static str,
    /// What it does, for operators; sentences.
    pub doc: &'static str,
    /// Name of the flag without its dashes; `None`: it is no flag.
    pub flag: Option<&'static str>,
    /// A variable without prefix that is read too, below `THRONG_…`.
    pub plain_variable: Option<&'static str>,
    /// Whether it may be given in the file.
    pub in_file: bool,
    /// Whether a reload changes it; otherwise only a restart does.
    pub live: bool,
    /// Stands for a value in `--help`.
    pub form: &'static str,
    /// How many parts a value has.
    pub shape: Shape,
    /// Whether its value is never shown.
    pub secret: bool,
    /// Stands for the default where its value would mislead.
    pub(crate) default: Option<&'static str>,
    pub(crate) access: Access<C>,
}

/// What a row does with its field.
pub(crate) struct Access<C> {
    pub(crate) read: fn(&mut C, &[String]) -> Result<(), String>,
    pub(crate) write: fn(&C) -> Option<String>,
    pub(crate) same: fn(&C, &C) -> bool,
    pub(crate) copy: fn(&mut C, &C),
}

impl<C> Key<C> {
    /// A row as most are: a flag, taken from the file, no plain variable.
    pub(crate) const fn row<T>(
        name: &'static str,
        flag: &'static str,
        live: bool,
        doc: &'static str,
        codec: &Codec<T>,
        access: Access<C>,
    ) -> Key<C> {
        Key {
            name,
            doc,
            flag: Some(flag),
            plain_variable: None,
            in_file: true,
            live,
            form: codec.form,
            shape: codec.shape,
            secret: codec.secret,
            default: None,
            access,
        }
    }

    /// The key's environment variable.
    pub fn variable(&self) -> String {
        format!("THRONG_{}", self.name.to_ascii_uppercase())
    }

    /// When a change takes effect, as documentation says it.
    pub(super) fn changes(&self) -> &'static str {
        if self.live { "by a reload" } else { "at a restart" }
    }

    /// Reads a value into `settings`; the error says what was expected.
    pub(super) fn read(&self, settings: &mut C, parts: &[String]) -> Result<(), String> {
        (self.access.read)(settings, parts)
    }

    /// The value in TOML; `None` when it is not set or secret.
    pub(super) fn write(&self, settings: &C) -> Option<String> {
        (self.access.write)(settings)
    }

    pub(super) fn is_same(&self, one: &C, other: &C) -> bool {
        (self.access.same)(one, other)
    }

    pub(super) fn copy(&self, to: &mut C, from: &C) {
        (self.access.copy)(to, from);
    }
}

impl<C: Settings> Key<C> {
    /// The default as people read it, without TOML's quotes and brackets.
    pub fn default_text(&self) -> String {
        if let Some(text) = self.default {
            return text.to_owned();
        }
        match self.write(&C::default()).as_deref() {
            None => "not set".to_owned(),
            Some("[]" | "{}") => "none".to_owned(),
            Some(text) => text.trim_matches('"').to_owned(),
        }
    }
}

impl<C> PartialEq for Key<C> {
    fn eq(&self, other: &Key<C>) -> bool {
        self.name == other.name
    }
}

impl<C> std::fmt::Debug for Key<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The key called `name` in the file.
pub(super) fn find<C: Settings>(name: &str) -> Option<&'static Key<C>> {
    C::keys().find(|key| key.name == name)
}

/// The key nearest to a mistyped name, if one is near.
pub(super) fn nearest<C: Settings>(name: &str) -> Option<&'static Key<C>> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let likeness = |key: &&Key<C>| strsim::normalized_damerau_levenshtein(key.name, &name);
    C::keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|key| likeness(key) >= 0.6)
}

/// A reload changes the key.
pub(crate) const LIVE: bool = true;
/// Only a restart changes the key.
pub(crate) const RESTART: bool = false;

/// Writes a row of a table: field, codec, when it changes, flag, documentation.
/// The types of the field and of the codec must agree; what differs from the
/// usual row stands at the end.
macro_rules! key {
    ($field:ident: $codec:ident, $live:ident, $flag:literal, $doc:literal $(, $other:ident: $value:expr)* $(,)?) => {
        $crate::config::Key {
            $($other: $value,)*
            ..$crate::config::Key::row(
                stringify!($field),
                $flag,
                $live,
                $doc,
                &$codec,
                $crate::config::key::Access {
                    read: |settings, parts| {
                        settings.$field = ($codec.read)(parts)?;
                        Ok(())
                    },
                    write: |settings| ($codec.write)(&settings.$field),
                    same: |one, other| one.$field == other.$field,
                    copy: |to, from| to.$field.clone_from(&from.$field),
                },
            )
        }
    };
}
pub(crate) use key;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::balancer::config::BalanceConfig;
    use crate::config::Config;

    #[test]
    fn every_field_has_one_row() {
        fn check<C: Settings>() {
            let fields = format!("{:#?}", C::default());
            let is_field = |line: &&str| line.starts_with("    ") && line.as_bytes()[4].is_ascii_lowercase();
            let fields = fields.lines().filter(is_field).filter_map(|line| line.trim().split_once(':'));
            let fields: BTreeSet<_> = fields.map(|(name, _)| name).collect();
            assert_eq!(fields, C::keys().map(|key| key.name).collect());
            assert_eq!(fields.len(), C::keys().count());
        }
        check::<Config>();
        check::<BalanceConfig>();
    }

    #[test]
    fn flags_are_the_names_in_the_singular() {
        fn check<C: Settings>() {
            for key in C::keys() {
                let Some(flag) = key.flag else { continue };
                let name = key.name.replace('_', "-");
                let list = !matches!(key.shape, Shape::Scalar | Shape::Switch);
                let singular = name.strip_suffix("ies").map(|stem| format!("{stem}y"));
                let singular = singular.or_else(|| name.strip_suffix('s').map(str::to_owned));
                assert_eq!(flag, if list { singular.expect("plural") } else { name });
            }
        }
        check::<Config>();
        check::<BalanceConfig>();
    }

    #[test]
    fn documentation_is_sentences() {
        fn check<C: Settings>() {
            for key in C::keys() {
                assert!(key.doc.ends_with('.') && !key.doc.contains("  "), "{}", key.name);
            }
        }
        check::<Config>();
        check::<BalanceConfig>();
    }

    #[test]
    fn mistyped_names() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest::<Config>(name).map(|key| key.name), expected, "{name}");
        };
        check("prot", Some("port"));
        check("MAX_CONNECTION", Some("max_connections"));
        check("heartbeat-intervall", Some("heartbeat_interval"));
        check("trusted_proxy", Some("trusted_proxies"));
        check("xyzzy", None);
        assert_eq!(nearest::<BalanceConfig>("backend").map(|key| key.name), Some("backends"));
    }
}
