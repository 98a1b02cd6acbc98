//! How many descriptors the process may have.
//!
//! Service managers and container runtimes give a program a low limit, 1024,
//! which it may raise up to a high one: programs that use `select(2)` would break
//! beyond. Who holds a descriptor per connection has to ask; in a pod nobody else
//! can. Never opens or closes one.

use std::fmt;

use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Makes the limit in force the highest there is. It counts for each table of the
/// process, and for what it starts.
///
/// # Errors
/// Whatever the kernel says.
pub fn raise() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

/// What the limit in force lacks of what connections need.
pub fn shortage(need: Need) -> Option<Shortage> {
    // None is no limit.
    getrlimit(Resource::Nofile).current.and_then(|limit| need.shortage(limit))
}

/// Descriptors that a table needs beside those of connections: listeners,
/// epoll, wakers, the log, links to other machines, and HTTP connections, of
/// which probes are some.
const OTHERS: u64 = 128;

/// Of a limit that is small altogether no more than this part is kept for others.
const OTHERS_SHARE: u64 = 4;

/// What connections need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Connections there may be at once.
    pub connections: u64,
    /// Descriptors each of them takes.
    pub each: u64,
    /// Tables they are spread over; the limit is that of each.
    pub tables: u64,
}

/// There may be fewer descriptors than are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    need: Need,
    limit: u64,
}

impl Need {
    /// Descriptors in the fullest table.
    fn descriptors(&self) -> u64 {
        self.connections.div_ceil(self.tables.max(1)).saturating_mul(self.each).saturating_add(OTHERS)
    }

    /// `None` when `limit` descriptors in a table are enough.
    pub fn shortage(self, limit: u64) -> Option<Shortage> {
        (limit < self.descriptors()).then_some(Shortage { need: self, limit })
    }
}

impl Shortage {
    /// Connections that there are descriptors for, at least one.
    pub fn possible(&self) -> u64 {
        let Shortage { need, limit } = self;
        let free = limit - OTHERS.min(limit / OTHERS_SHARE);
        (free / need.each.max(1)).saturating_mul(need.tables.max(1)).clamp(1, need.connections.max(1))
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { need, limit } = self;
        write!(f, "only {limit} descriptors may be open")?;
        if need.tables > 1 {
            write!(f, " in each of {} tables", need.tables)?;
        }
        write!(
            f,
            ", {} connections need {}: no more than {} are let in. Raise LimitNOFILE= of the unit, \
             --ulimit nofile= of the container or ulimit -Hn, or lower max_connections",
            need.connections,
            need.descriptors(),
            self.possible(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_that_of_the_fullest_table() {
        let check = |connections, each, tables, needed: u64| {
            let need = Need { connections, each, tables };
            assert_eq!(need.shortage(needed), None, "{need:?}");
            assert_eq!(need.shortage(needed - 1), Some(Shortage { need, limit: needed - 1 }));
        };
        check(1000, 1, 1, 1000 + OTHERS);
        check(1000, 2, 1, 2000 + OTHERS);
        check(1000, 1, 3, 334 + OTHERS);
        check(1000, 2, 4, 500 + OTHERS);
        let endless = Need { connections: u64::MAX, each: 2, tables: 0 };
        assert!(endless.shortage(u64::MAX - 1).is_some());
    }

    #[test]
    fn what_to_do_is_said() {
        let said = |need: Need, limit| need.shortage(limit).map(|shortage| shortage.to_string());
        let one = said(Need { connections: 100_000, each: 1, tables: 1 }, 1024).unwrap();
        assert!(
            one.starts_with("only 1024 descriptors may be open, 100000 connections need 100128"),
            "{one}"
        );
        assert!(one.contains("no more than 896 are let in") && one.contains("LimitNOFILE="), "{one}");
        let many = said(Need { connections: 100_000, each: 2, tables: 4 }, 1128).unwrap();
        assert!(many.starts_with("only 1128 descriptors may be open in each of 4 tables"), "{many}");
        assert!(many.contains("need 50128: no more than 2000 are let in"), "{many}");
        let few = said(Need { connections: 10, each: 1, tables: 1 }, 3).unwrap();
        assert!(few.contains("no more than 3 are let in"), "{few}");
    }

    #[test]
    fn a_part_is_kept_for_others_and_somebody_is_let_in() {
        let check = |connections, each, tables, limit, possible| {
            let need = Need { connections, each, tables };
            assert_eq!(
                need.shortage(limit).map(|shortage| shortage.possible()),
                possible,
                "{need:?} {limit}"
            );
        };
        check(1000, 1, 1, 1128, None);
        check(1000, 1, 1, 1127, Some(999));
        check(1000, 2, 1, 1128, Some(500));
        check(1000, 2, 3, 328, Some(369));
        check(1000, 1, 1, 512, Some(384));
        check(1000, 1, 1, 200, Some(150));
        check(1000, 2, 1, 0, Some(1));
        check(2, 1, 1, 100, Some(2));
        check(u64::MAX, 1, 2, u64::MAX / 4, Some(u64::MAX / 4 * 2 - 256));
    }
}
