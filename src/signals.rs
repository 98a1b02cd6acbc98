//! Signals as values: SIGTERM and SIGINT drain, SIGHUP reloads.
//!
//! The handlers of `signal-hook` write to a pipe; a thread reads it and sends
//! on. Nothing else runs in a handler.

use std::ffi::c_int;
use std::io;
use std::thread;

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// End gracefully, or at once if it was asked before.
    Drain {
        /// How many times it has been asked, from 1.
        count: u32,
    },
    /// Read the configuration again.
    Reload,
}

/// Catches the signals from now on and sends each to `to`, from a thread of
/// its own. If nobody takes them (the queue is full, or its receiver gone), a
/// signal that ends a process by default does so.
///
/// # Errors
/// The handlers cannot be installed or the thread cannot be started.
pub fn forward(to: Sender<Signal>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut drains = 0;
        for number in signals.forever() {
            let signal = signal(number, &mut drains);
            if to.try_send(signal).is_err() && signal != Signal::Reload {
                // It fails only for signals that cannot be emulated.
                let _ = emulate_default_handler(number);
            }
        }
    })?;
    Ok(())
}

fn signal(number: c_int, drains: &mut u32) -> Signal {
    if number == SIGHUP {
        return Signal::Reload;
    }
    *drains = drains.saturating_add(1);
    Signal::Drain { count: *drains }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::bounded;
    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn drains_are_counted_together() {
        let mut drains = 0;
        let seen = [SIGTERM, SIGHUP, SIGINT].map(|number| signal(number, &mut drains));
        assert_eq!(seen, [Signal::Drain { count: 1 }, Signal::Reload, Signal::Drain { count: 2 }]);
    }

    #[test]
    fn real_signals_arrive() {
        let (to, signals) = bounded(8);
        forward(to).expect("installed");
        for (number, expected) in [
            (SIGHUP, Signal::Reload),
            (SIGTERM, Signal::Drain { count: 1 }),
            (SIGINT, Signal::Drain { count: 2 }),
        ] {
            raise(number).expect("raised");
            assert_eq!(signals.recv_timeout(Duration::from_secs(30)), Ok(expected));
        }
    }
}
