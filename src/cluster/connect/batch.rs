//! Commands packed one after another, and where each belongs in a Redis Cluster.

use redis::Cmd;

use super::slots::{self, Route};

/// Commands in the form in which they are sent.
#[derive(Default)]
pub(super) struct Batch {
    packed: Vec<u8>,
    /// Where each command ends in `packed`.
    ends: Vec<usize>,
    routes: Vec<Route>,
}

impl Batch {
    /// Packs commands.
    pub(super) fn of(commands: &[Cmd]) -> Batch {
        let mut batch = Batch::default();
        for command in commands {
            command.write_packed_command(&mut batch.packed);
            batch.close(slots::route(command));
        }
        batch
    }

    /// Packs `PUBLISH`, or `SPUBLISH` if `sharded`, for each channel and payload.
    pub(super) fn publishing<C: AsRef<str>, P: AsRef<[u8]>>(messages: &[(C, P)], sharded: bool) -> Batch {
        let bytes = messages.iter().map(|(channel, payload)| channel.as_ref().len() + payload.as_ref().len());
        let mut batch = Batch::default();
        batch.packed.reserve(bytes.sum::<usize>() + messages.len() * 64);
        let name: &[u8] = if sharded { b"SPUBLISH" } else { b"PUBLISH" };
        for (channel, payload) in messages {
            batch.packed.extend_from_slice(b"*3\r\n");
            batch.word(name);
            batch.word(channel.as_ref().as_bytes());
            batch.word(payload.as_ref());
            batch.close(Route::Slot(slots::slot(channel.as_ref().as_bytes())));
        }
        batch
    }

    /// How many commands there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// All commands, packed.
    pub(super) fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// One command, packed.
    pub(super) fn command(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.packed[start..self.ends[index]]
    }

    /// Where a command belongs.
    pub(super) fn route(&self, index: usize) -> Route {
        self.routes[index]
    }

    fn word(&mut self, word: &[u8]) {
        self.packed.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        self.packed.extend_from_slice(word);
        self.packed.extend_from_slice(b"\r\n");
    }

    fn close(&mut self, route: Route) {
        self.ends.push(self.packed.len());
        self.routes.push(route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_packed_as_the_crate_would() {
        for (sharded, name) in [(false, "PUBLISH"), (true, "SPUBLISH")] {
            let messages = [("a", &b"one"[..]), ("b{c}", b"\r\n\0"), ("", b"")];
            let batch = Batch::publishing(&messages, sharded);
            assert_eq!(batch.len(), 3);
            for (index, (channel, payload)) in messages.iter().enumerate() {
                let expected = redis::cmd(name).arg(*channel).arg(*payload).get_packed_command();
                assert_eq!(batch.command(index), expected);
            }
        }
    }

    #[test]
    fn commands_follow_one_another() {
        let commands = [redis::cmd("PING"), redis::cmd("GET").arg("k").clone()];
        let batch = Batch::of(&commands);
        assert_eq!(batch.packed(), [batch.command(0), batch.command(1)].concat());
        assert_eq!(batch.command(1), commands[1].get_packed_command());
        assert_eq!((batch.route(0), batch.route(1)), (Route::Any, Route::Slot(slots::slot(b"k"))));
    }
}
