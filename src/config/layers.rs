//! Layering: flags over environment over file over defaults, and where each
//! value came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::environment::{self, Variable};
use super::{AdminToken, ConfigError, Key, Secret, Settings, file, key};

const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where a value came from; later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
    /// This environment variable.
    Environment(String),
    /// This flag, without its dashes.
    Flag(&'static str),
}

impl Source {
    /// How an error names the value of `key` from here.
    pub(super) fn place<C>(&self, key: &Key<C>) -> String {
        match self {
            Source::Default => key.name.to_owned(),
            Source::File { path, line } => format!("{}:{line}: {}", path.display(), key.name),
            Source::Environment(name) => name.clone(),
            Source::Flag(name) => format!("--{name}"),
        }
    }
}

/// Where each value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<&'static str, Source>);

impl Sources {
    /// Where the value of the key called `name` came from.
    pub fn of(&self, name: &str) -> &Source {
        self.0.get(name).unwrap_or(&Source::Default)
    }
}

/// What the command line says about the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Flags<C: Settings> {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Keys given as flags, with their parts.
    pub values: Vec<(&'static Key<C>, Vec<String>)>,
}

impl<C: Settings> Default for Flags<C> {
    fn default() -> Self {
        Flags { file: None, values: Vec::new() }
    }
}

/// Reads all layers, at the start and again at every reload. It holds the
/// environment, which may have the token in it, and so has no `Debug`.
#[derive(Clone)]
pub struct Loader<C: Settings> {
    flags: Flags<C>,
    environment: Vec<(OsString, OsString)>,
}

impl<C: Settings> Loader<C> {
    /// Remembers the layers that do not change while the process runs. Only
    /// the variables that concern throng are kept.
    pub fn new(flags: Flags<C>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let environment =
            environment.into_iter().filter(|(name, _)| environment::concerns_us::<C>(name)).collect();
        Loader { flags, environment }
    }

    /// Reads the file again and layers everything.
    ///
    /// # Errors
    /// The first unknown key, unreadable file, bad value or contradiction, with
    /// the place it came from.
    pub fn load(&self) -> Result<(C, Sources), ConfigError> {
        let variables = environment::variables::<C>(&self.environment)?;
        let mut layers = Layers { config: C::default(), sources: Sources::default() };
        if let Some(path) = self.flags.file.as_ref().or(variables.file.as_ref()) {
            for entry in file::read(path)? {
                let source = Source::File { path: path.clone(), line: entry.line };
                layers.set(entry.key, &entry.parts, source)?;
            }
        }
        for Variable { key, name, parts } in variables.values {
            layers.set(key, &parts, Source::Environment(name))?;
        }
        for (key, parts) in &self.flags.values {
            layers.set(key, parts, Source::Flag(key.flag.unwrap_or(key.name)))?;
        }
        layers.read_token()?;
        let Layers { config, sources } = layers;
        config.validate().map_err(|error| placed::<C>(error, &sources))?;
        Ok((config, sources))
    }
}

/// The configuration so far.
struct Layers<C> {
    config: C,
    sources: Sources,
}

impl<C: Settings> Layers<C> {
    fn set(&mut self, key: &'static Key<C>, parts: &[String], source: Source) -> Result<(), ConfigError> {
        key.read(&mut self.config, parts)
            .map_err(|wrong| ConfigError::key(key.name, wrong).at(source.place(key)))?;
        self.sources.0.insert(key.name, source);
        Ok(())
    }

    /// Reads `admin_token_file`, unless a higher layer gives the token itself:
    /// then the file is not in effect and is forgotten.
    fn read_token(&mut self) -> Result<(), ConfigError> {
        let AdminToken { token, file: place } = self.config.admin_token();
        let Some(path) = place else { return Ok(()) };
        let source = self.sources.of("admin_token_file").clone();
        let refuse =
            |message: String| Err(placed::<C>(ConfigError::key("admin_token_file", message), &self.sources));
        match (self.sources.of("admin_token"), &source) {
            (Source::Environment(_), Source::Environment(_)) => {
                return refuse("is set beside THRONG_ADMIN_TOKEN; set one of them".to_owned());
            }
            (given, file) if given > file => {
                *place = None;
                self.sources.0.remove("admin_token_file");
                return Ok(());
            }
            _ => {}
        }
        let text = match file::read_text(path, TOKEN_FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(wrong) => return refuse(format!("{} {wrong}", path.display())),
        };
        if text.trim().is_empty() {
            return refuse(format!("{} is empty", path.display()));
        }
        *token = Some(Secret::new(text.trim()));
        self.sources.0.insert("admin_token", source);
        Ok(())
    }
}

/// The error at the place its key's value came from.
fn placed<C: Settings>(error: ConfigError, sources: &Sources) -> ConfigError {
    match error.key_name().and_then(key::find::<C>) {
        Some(key) => error.at(sources.of(key.name).place(key)),
        None => error,
    }
}
