//! How many descriptors the process may have.
//!
//! Service managers and container runtimes give a program a low limit, 1024,
//! which it may raise up to a high one: programs that use `select(2)` would break
//! beyond. Who holds a descriptor per connection has to ask; in a pod nobody else
//! can. Never opens or closes one.

use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a table holds beside connections: listeners, epolls, wakers, Redis, the
/// log, files while they are read.
const BESIDES: u64 = 64;

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

/// Says in the log what came of raising the limit where that is less than `wanted`
/// connections in one descriptor table take.
pub fn report(raised: io::Result<()>, wanted: u64) {
    if let Err(error) = raised {
        log::warn!("the limit on open files could not be raised: {error}");
    }
    // None is no limit.
    let Some(most) = getrlimit(Resource::Nofile).current else { return };
    if most < wanted.saturating_add(BESIDES) {
        log::warn!(
            "{most} files may be open, but as many connections as are allowed take {wanted}: those beyond are \
             refused. Raise LimitNOFILE= of the unit, --ulimit nofile= of the container or ulimit -Hn, or lower \
             max_connections"
        );
    }
}
