//! What a command's configuration is to the machinery that reads, layers,
//! prints and reloads it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, Key, LogFormat, Secret, Section};
use crate::descriptors::Need;

/// The configuration of one command.
pub trait Settings: Clone + Debug + Default + PartialEq + Send + Sync + 'static {
    /// The command, as it is called after `throng`.
    const COMMAND: &'static str;

    /// Every key, in the order of the documentation.
    fn sections() -> &'static [Section<Self>];

    /// Checks every bound and every relation between keys.
    ///
    /// # Errors
    /// The first key, in the order of the documentation, that is out of its
    /// bounds or contradicts another.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Where the token of the admin calls is kept.
    fn admin_token(&mut self) -> AdminToken<'_>;

    /// How and what the process logs.
    fn logging(&self) -> (LogFormat, &str);

    /// The longest that a drain may take, from its beginning to the cut.
    fn longest_drain(&self) -> Duration;

    /// Files that are read again when they change.
    fn watched_files(&self) -> Vec<PathBuf>;

    /// What as many connections as are allowed take, if they are spread evenly.
    fn descriptors(&self) -> Need;

    /// Allows no more connections than this, whatever was asked for.
    fn cap_connections(&mut self, max: usize);

    /// The keys of all sections.
    fn keys() -> impl Iterator<Item = &'static Key<Self>> {
        Self::sections().iter().flat_map(|section| section.keys)
    }

    /// These settings with the keys of `new` that can change while the process
    /// runs; the names of those that did; and the names of those that differ
    /// but need a restart. Where a live key contradicts one that waits, all wait.
    #[must_use]
    fn with_live_changes(&self, new: &Self) -> (Self, Vec<&'static str>, Vec<&'static str>) {
        let mut settings = self.clone();
        let differ = || Self::keys().filter(|key| !key.is_same(self, new));
        for key in differ().filter(|key| key.live) {
            key.copy(&mut settings, new);
        }
        if settings.validate().is_err() {
            return (self.clone(), Vec::new(), differ().map(|key| key.name).collect());
        }
        let names = |live| differ().filter(|key| key.live == live).map(|key| key.name).collect();
        (settings, names(true), names(false))
    }
}

/// The keys `admin_token` and `admin_token_file`: the second, if it is in
/// effect, is read into the first.
pub struct AdminToken<'a> {
    /// The token.
    pub token: &'a mut Option<Secret>,
    /// The file it is read from.
    pub file: &'a mut Option<PathBuf>,
}
