//! Configuration: every key with its type, default and bounds.
//!
//! Owns what an operator may change and how it is layered: flags over
//! environment over file over defaults, the same for every command that has
//! [`Settings`]. Never acts on a value; what is fixed is in [`crate::limits`].

pub(crate) mod bounds;
mod commands;
mod environment;
mod error;
mod file;
pub(crate) mod key;
mod layers;
mod print;
mod serve;
mod settings;
pub(crate) mod text;
mod types;
pub(crate) mod value;

#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use key::{Key, Section};
pub use layers::{Flags, Loader, Source, Sources};
pub use print::{manual, print};
pub use serve::Config;
pub use settings::{AdminToken, Settings};
pub use text::log_levels;
pub(crate) use types::words;
pub use types::{AddressRate, Auth, LogFormat, Permission, Secret, SlowConsumer, TlsListener};
pub use value::Shape;
