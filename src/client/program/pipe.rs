//! Lines that are piped in: held back until there is room for them, none lost,
//! and the end when all are answered.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, never};

use super::{Program, Source};
use crate::client::gate::SendError;

/// Between two tries to send a piped line for which there is no room.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// How far what is piped in has come.
pub(super) struct Pipe {
    /// A line, and the connections it is still to be sent on.
    pub(super) waiting: Option<(String, VecDeque<u32>)>,
    /// When it is tried again if nothing happens.
    pub(super) try_again: Receiver<Instant>,
    /// There are no more lines.
    pub(super) ended: bool,
    /// Connections that have not yet said that they took everything in.
    pub(super) unprobed: BTreeSet<u32>,
    /// When the last answers have had their time.
    pub(super) linger: Receiver<Instant>,
}

impl Pipe {
    /// Nothing has come yet for so many connections.
    pub(super) fn new(connections: u32) -> Self {
        Pipe {
            waiting: None,
            try_again: never(),
            ended: false,
            unprobed: (1..=connections).collect(),
            linger: never(),
        }
    }
}

impl Program {
    pub(super) fn input_ended(&mut self) {
        self.input = never();
        if self.settings.source != Source::Pipe {
            return self.begin_close();
        }
        self.pipe.ended = true;
        for connection in self.pipe.unprobed.clone() {
            self.probe(connection);
        }
        self.linger_if_probed();
    }

    /// Sends the line that waits on the connections that have room for it.
    pub(super) fn send_waiting(&mut self) {
        let Some((line, mut connections)) = self.pipe.waiting.take() else { return };
        for _ in 0..connections.len() {
            let Some(connection) = connections.pop_front() else { break };
            match self.client.send_text(connection, &line) {
                // One that is refused for good has no gate that opens.
                Err(SendError::NotConnected) if !self.pipe.unprobed.contains(&connection) => {}
                Err(SendError::NotConnected | SendError::Full) => connections.push_back(connection),
                Err(error) => self.say(&format!("not sent: {error}")),
                Ok(()) => {}
            }
        }
        let waits = !connections.is_empty();
        self.pipe.waiting = waits.then_some((line, connections));
        self.pipe.try_again = if waits { after(TRY_AGAIN) } else { never() };
    }

    /// One that is not connected is asked when it is.
    pub(super) fn probe(&self, connection: u32) {
        let _ = self.client.probe(connection);
    }

    pub(super) fn probed(&mut self, connection: u32) {
        self.pipe.unprobed.remove(&connection);
        self.linger_if_probed();
    }

    fn linger_if_probed(&mut self) {
        if self.pipe.ended && self.pipe.unprobed.is_empty() {
            self.pipe.linger = after(self.settings.linger);
        }
    }
}
