//! The file with the keys of clients' tokens: read at the start, and again
//! whenever it changes or a reload is asked for.
//!
//! Owns: [`TokenKeys`], where they are, and [`KeyWatch`], the thread that looks.
//! A new file that cannot be used is said to be so, and the old keys stay in
//! force. Never: what a key means, which is [`crate::auth`]'s.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::auth::Keys;
use crate::config::{Auth, Config, ConfigError};
use crate::limits::KEY_FILE_BYTES;
use crate::metrics::Counter;
use crate::reactor::shared::Shared;
use crate::small_file::{self, Stamp};

/// How often the file is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Reads the content of the file.
type Parse = fn(&[u8]) -> Result<Keys, String>;

/// Where the keys are, and what the file was like when it was last read.
pub(super) struct TokenKeys {
    path: PathBuf,
    parse: Parse,
    seen: Option<Stamp>,
}

impl TokenKeys {
    /// As configured, with the keys that are there now; `None` if no token is asked for.
    pub(super) fn load(config: &Config) -> Result<Option<(TokenKeys, Keys)>, ConfigError> {
        let (key, path, parse): (_, _, Parse) = match (&config.jwt_key_file, &config.jwt_jwks_file) {
            _ if config.auth == Auth::None => return Ok(None),
            (Some(path), _) => ("jwt_key_file", path, Keys::from_key_file),
            (None, Some(path)) => ("jwt_jwks_file", path, Keys::from_jwks),
            // A configuration that was validated does not come here.
            (None, None) => return Err(ConfigError::key("auth", "is jwt, but there is no file with keys")),
        };
        let mut source = TokenKeys { path: path.clone(), parse, seen: None };
        let keys = source.read().map_err(|wrong| ConfigError::key(key, wrong))?;
        if !keys.serve(&config.jwt_algorithms) {
            let message = format!("lists none that there is a key for: {} has {keys}", source.path.display());
            return Err(ConfigError::key("jwt_algorithms", message));
        }
        Ok(Some((source, keys)))
    }

    /// Reads the file; the error begins with its name and has nothing of its content.
    fn read(&mut self) -> Result<Keys, String> {
        // Taken first: what is written meanwhile shows at the next look.
        self.seen = Stamp::of(&self.path);
        let named = |wrong: String| format!("{} {wrong}", self.path.display());
        let bytes = small_file::read(&self.path, KEY_FILE_BYTES as u64)
            .map_err(|error| named(format!("cannot be read: {error}")))?;
        (self.parse)(&bytes).map_err(named)
    }

    /// Whether it is another file, or was written to, since it was read.
    fn has_changed(&self) -> bool {
        Stamp::of(&self.path) != self.seen
    }
}

/// The thread that looks at the file.
pub(super) struct KeyWatch {
    wishes: Sender<()>,
    thread: JoinHandle<()>,
}

impl KeyWatch {
    /// Begins to look.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(source: TokenKeys, shared: Arc<Shared>) -> io::Result<KeyWatch> {
        let (wishes, wished) = bounded(1);
        let watch = Watch { source, shared };
        let thread =
            thread::Builder::new().name("throng-keys".to_owned()).spawn(move || watch.run(&wished))?;
        Ok(KeyWatch { wishes, thread })
    }

    /// Has the file read again now, changed or not.
    pub(super) fn read_again(&self) {
        // One wish that waits is as good as two.
        let _ = self.wishes.try_send(());
    }

    /// Ends it.
    pub(super) fn stop(self) {
        drop(self.wishes);
        if self.thread.join().is_err() {
            log::error!("the thread that watches the keys of tokens panicked");
        }
    }
}

struct Watch {
    source: TokenKeys,
    shared: Arc<Shared>,
}

impl Watch {
    fn run(mut self, wished: &Receiver<()>) {
        loop {
            match wished.recv_timeout(LOOK_AGAIN) {
                Ok(()) => self.take_over(),
                Err(RecvTimeoutError::Timeout) if self.source.has_changed() => self.take_over(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take_over(&mut self) {
        let Some(ring) = &self.shared.token_keys else { return };
        let counters = self.shared.metrics.node();
        match self.source.read() {
            Ok(keys) => {
                ring.replace(keys);
                counters.add(Counter::KeysTakenOver, 1);
                // Who reads it may rely on it.
                log_keys(&self.source, &ring.keys());
            }
            Err(wrong) => {
                counters.add(Counter::KeysRefused, 1);
                log::error!("the keys of tokens stay as they were: {wrong}");
            }
        }
    }
}

fn log_keys(source: &TokenKeys, keys: &Keys) {
    log::info!("tokens of clients are checked with {keys} of {}", source.path.display());
    if !keys.passed_over().is_empty() {
        log::info!("keys that are passed over: {}", keys.passed_over().join("; "));
    }
}

/// Says how clients show who they are.
pub(super) fn log_start(config: &Config, loaded: Option<&(TokenKeys, Keys)>) {
    let Some((source, keys)) = loaded else {
        log::info!("auth is none: whoever connects is believed to be the user_id it names");
        return;
    };
    log_keys(source, keys);
    if config.jwt_audience.is_none() {
        log::warn!("jwt_audience is not set: a token for another service of the same issuer serves here too");
    }
    if !config.jwt_require_exp {
        log::warn!("jwt_require_exp is false: a token without exp is good until its key is gone");
    }
}
