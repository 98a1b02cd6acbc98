//! The slots of a Redis Cluster: which one a command belongs to, and which
//! master owns it. Pure.

use std::net::Ipv6Addr;

use redis::{Arg, Cmd, Value};

use super::Address;

/// Slots of every Redis Cluster.
const SLOTS: usize = 16384;
/// No master owns the slot.
const NOBODY: u16 = u16::MAX;

/// Which masters a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The one that owns this slot.
    Slot(u16),
    /// Any one: the command has no key.
    Any,
    /// Each: what it does is not replicated, such as `SCRIPT LOAD`.
    All,
}

/// Which master owns which slot, as one of them saw it.
pub(super) struct Slots {
    /// For every slot the index of its owner, or [`NOBODY`].
    owners: Box<[u16]>,
    masters: Vec<Address>,
}

impl Slots {
    /// Reads the reply to `CLUSTER SLOTS` of `asked`, whose host stands where
    /// the reply has none. `None`: it is no such reply.
    pub(super) fn read(reply: &Value, asked: &Address) -> Option<Slots> {
        let Value::Array(ranges) = reply else { return None };
        let mut slots = Slots { owners: vec![NOBODY; SLOTS].into_boxed_slice(), masters: Vec::new() };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..] else {
                return None;
            };
            let first = usize::try_from(*first).ok()?;
            let last = usize::try_from(*last).ok().filter(|last| *last < SLOTS && first <= *last)?;
            let owner = slots.index(address(master, asked)?)?;
            slots.owners[first..=last].fill(owner);
        }
        Some(slots)
    }

    /// The masters that own slots.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// The master that owns `slot`, as an index of [`Slots::masters`].
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        let owner = *self.owners.get(usize::from(slot))?;
        (owner != NOBODY).then_some(usize::from(owner))
    }

    /// Takes a server's word that `slot` is now `master`'s.
    pub(super) fn moved(&mut self, slot: u16, master: Address) {
        if let (Some(owner), Some(of_slot)) = (self.index(master), self.owners.get_mut(usize::from(slot))) {
            *of_slot = owner;
        }
    }

    fn index(&mut self, master: Address) -> Option<u16> {
        let found = self.masters.iter().position(|known| *known == master);
        let index = found.unwrap_or_else(|| {
            self.masters.push(master);
            self.masters.len() - 1
        });
        u16::try_from(index).ok().filter(|index| *index != NOBODY)
    }
}

fn address(server: &[Value], asked: &Address) -> Option<Address> {
    let [host, Value::Int(port), ..] = server else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    // A server that does not know its own address sends none, and ? for a
    // host name that is not set.
    let host = if host.is_empty() || host == "?" { &asked.host } else { host };
    Some(Address { host: host.to_owned(), port: u16::try_from(*port).ok()? })
}

/// Reads the `slot host:port` of a redirection. `asked` stands for no host.
pub(super) fn redirection(detail: &str, asked: &Address) -> Option<Address> {
    let (host, port) = detail.split_whitespace().nth(1)?.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let known = host.parse::<Ipv6Addr>().is_ok() || !host.contains(':');
    let host = if host.is_empty() { &asked.host } else { host };
    Some(Address { host: host.to_owned(), port: port.parse().ok()? }).filter(|_| known)
}

/// Where a command belongs. The first key decides: it is the first argument,
/// or for a script or function the one after the number of keys.
pub(super) fn route(command: &Cmd) -> Route {
    let mut words = command.args_iter().filter_map(|word| match word {
        Arg::Simple(word) => Some(word),
        _ => None,
    });
    let name = words.next().unwrap_or_default();
    let is = |names: &[&str]| names.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes()));
    let key = if is(&["SCRIPT", "FUNCTION"]) {
        return Route::All;
    } else if is(&["PING", "TIME", "ROLE", "INFO", "CLUSTER", "CLIENT", "CONFIG", "PUBLISH", "ECHO"]) {
        None
    } else if is(&["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"]) {
        let keys = words.nth(1).unwrap_or_default();
        if keys == b"0" { None } else { words.next() }
    } else {
        words.next()
    };
    key.map_or(Route::Any, |key| Route::Slot(slot(key)))
}

/// The slot of a key or of a sharded channel. If it has a part in braces, only
/// that part counts.
pub(super) fn slot(key: &[u8]) -> u16 {
    let position = |text: &[u8], wanted: u8| text.iter().position(|byte| *byte == wanted);
    let tag = position(key, b'{').map(|open| &key[open + 1..]);
    let tag =
        tag.and_then(|rest| position(rest, b'}').filter(|close| *close > 0).map(|close| &rest[..close]));
    crc16(tag.unwrap_or(key)) % SLOTS as u16
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    #[test]
    fn slots_of_keys() {
        let check = |key: &str, expected: u16| assert_eq!(slot(key.as_bytes()), expected, "{key}");
        // The check value of the algorithm, and what CLUSTER KEYSLOT answers.
        check("123456789", 0x31C3);
        check("", 0);
        check("foo", 12182);
        check("{foo}.bar", 12182);
        check("a{foo}{bar}", 12182);
        assert_ne!(slot(b"{}foo"), slot(b"{}bar"), "an empty tag is no tag");
        assert_ne!(slot(b"{foo"), slot(b"foo"), "an open tag is no tag");
    }

    #[test]
    fn routes() {
        let check = |words: &[&str], expected: Route| {
            let mut command = Cmd::new();
            command.arg(words);
            assert_eq!(route(&command), expected, "{words:?}");
        };
        let foo = Route::Slot(12182);
        check(&["GET", "foo"], foo);
        check(&["HSET", "foo", "bar", "x"], foo);
        check(&["SPUBLISH", "foo", "bar"], foo);
        check(&["evalsha", "hash", "2", "foo", "bar"], foo);
        check(&["EVALSHA", "hash", "0", "bar"], Route::Any);
        check(&["EVAL", "return 1"], Route::Any);
        check(&["TIME"], Route::Any);
        check(&["PUBLISH", "foo", "bar"], Route::Any);
        check(&["script", "load", "return 1"], Route::All);
        check(&[], Route::Any);
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let server =
            |host: Value| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".into())]);
        let replica = Value::BulkString(b"replica".into());
        Value::Array(vec![Value::Int(first), Value::Int(last), server(host), server(replica)])
    }

    #[test]
    fn owners() {
        let host = |name: &str| Value::BulkString(name.into());
        let reply = Value::Array(vec![
            range(0, 99, host("a"), 1),
            range(100, 100, Value::Nil, 2),
            range(102, 16383, host("a"), 1),
        ]);
        let mut slots = Slots::read(&reply, &address("asked", 9)).expect("slots");
        assert_eq!(slots.masters(), [address("a", 1), address("asked", 2)]);
        let owners = [0, 99, 100, 101, 102, 16383, 16384].map(|slot| slots.owner(slot));
        assert_eq!(owners, [Some(0), Some(0), Some(1), None, Some(0), Some(0), None]);

        slots.moved(99, address("asked", 2));
        slots.moved(100, address("c", 3));
        slots.moved(16384, address("c", 3));
        assert_eq!([98, 99, 100].map(|slot| slots.owner(slot)), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn replies_that_are_none() {
        let check = |reply: Value| assert!(Slots::read(&reply, &address("a", 1)).is_none(), "{reply:?}");
        let host = || Value::BulkString(b"a".into());
        check(Value::Nil);
        check(Value::Array(vec![Value::Int(1)]));
        check(Value::Array(vec![Value::Array(vec![Value::Int(1), Value::Int(2)])]));
        check(Value::Array(vec![range(0, 16384, host(), 1)]));
        check(Value::Array(vec![range(2, 1, host(), 1)]));
        check(Value::Array(vec![range(-1, 1, host(), 1)]));
        check(Value::Array(vec![range(0, 1, host(), 65536)]));
        check(Value::Array(vec![range(0, 1, Value::Int(1), 1)]));
    }

    #[test]
    fn redirections() {
        let asked = address("asked", 9);
        let check = |detail: &str, expected: Option<Address>| {
            assert_eq!(redirection(detail, &asked), expected, "{detail}");
        };
        check("12182 127.0.0.1:7001", Some(address("127.0.0.1", 7001)));
        check("12182 ::1:7001", Some(address("::1", 7001)));
        check("12182 [::1]:7001", Some(address("::1", 7001)));
        check("12182 :7001", Some(address("asked", 7001)));
        check("12182 a:b:7001", None);
        check("12182", None);
        check("12182 a:99999", None);
        check("", None);
    }
}
