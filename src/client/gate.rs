//! What is underway from the program to one connection, so that a send is
//! answered at once and nothing queues without bound.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No connection has this number.
    NoSuchConnection,
    /// The connection is not open just now.
    NotConnected,
    /// As much as may wait to be sent is waiting.
    Full,
    /// The message is longer than any may be.
    TooBig,
    /// The client has ended.
    Ended,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SendError::NoSuchConnection => "no connection has this number",
            SendError::NotConnected => "not connected",
            SendError::Full => "too much is waiting to be sent",
            SendError::TooBig => "the message is too long",
            SendError::Ended => "the client has ended",
        })
    }
}

impl std::error::Error for SendError {}

/// Shared by the program's threads, which take, and the client's, which gives back.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicBool,
    bytes: AtomicUsize,
}

impl Gate {
    /// The connection is, or is no longer, open to messages.
    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// Takes room for a message of `bytes` of the `bytes_max` there is. A
    /// message beyond the bound finds room when nothing else waits.
    pub(super) fn take(&self, bytes: usize, bytes_max: usize) -> Result<(), SendError> {
        if !self.open.load(Ordering::Acquire) {
            return Err(SendError::NotConnected);
        }
        let fits = |waiting: usize| {
            let sum = waiting.checked_add(bytes)?;
            (waiting == 0 || sum <= bytes_max).then_some(sum)
        };
        match self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(SendError::Full),
        }
    }

    /// Gives room back.
    pub(super) fn give_back(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "{before} bytes were taken, {bytes} given back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_and_given_back() {
        let gate = Gate::default();
        assert_eq!(gate.take(1, 100), Err(SendError::NotConnected));
        gate.set_open(true);
        assert_eq!(gate.take(60, 100), Ok(()));
        assert_eq!(gate.take(60, 100), Err(SendError::Full));
        assert_eq!(gate.take(40, 100), Ok(()));
        gate.give_back(100);
        assert_eq!(gate.take(1000, 100), Ok(()), "it fits where nothing else waits");
        assert_eq!(gate.take(0, 100), Err(SendError::Full));
    }
}
