//! Real Redis servers for tests: one alone, a Cluster, one with a Sentinel.
//!
//! Each is a process on 127.0.0.1 with a folder of its own; both are gone when
//! its value is dropped. Whoever starts one gets it when it answers.

// Every test binary uses a part of this.
#![allow(dead_code)]

mod cluster;
mod folder;
mod sentinel;
mod tls;

use std::cell::Cell;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use redis::{FromRedisValue, RedisResult, TlsCertificates};

pub(crate) use cluster::Cluster;
pub(crate) use folder::Folder;
pub(crate) use sentinel::Sentinel;
pub(crate) use tls::Authority;

/// How long anything may take before its test has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at a condition that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks at a condition until it holds; a deadline passed fails the test.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::sleep(LOOK_AGAIN);
    }
}

/// A port nobody listens on. It is below those the kernel gives to outgoing
/// connections, so that a server killed on it finds it free when it comes back.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = std::process::id() as u16;
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + spread.wrapping_mul(97).wrapping_add(next) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1");
}

/// How a server is to be started.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// TLS only, with a certificate that this authority signed.
    pub(crate) tls: Option<Authority>,
    /// Only this user, with this password, may do anything.
    pub(crate) user: Option<(String, String)>,
    /// Further lines of its configuration.
    pub(crate) lines: Vec<String>,
}

impl Options {
    /// With TLS and a private certificate authority.
    pub(crate) fn tls(mut self) -> Options {
        self.tls = Some(Authority::new());
        self
    }

    /// With an ACL user beside whom nobody is let in. It may use keys and
    /// channels that begin with `throng:`.
    pub(crate) fn user(mut self, name: &str, password: &str) -> Options {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// With a line of configuration, such as `maxclients 10`.
    pub(crate) fn line(mut self, line: impl Into<String>) -> Options {
        self.lines.push(line.into());
        self
    }

    fn configuration(&self, port: u16, folder: &Path) -> String {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.display()),
            "logfile redis.log".to_owned(),
            "daemonize no".to_owned(),
            "save \"\"".to_owned(),
            "appendonly no".to_owned(),
        ];
        match &self.tls {
            None => lines.push(format!("port {port}")),
            Some(authority) => {
                lines.extend(["port 0".to_owned(), format!("tls-port {port}")]);
                lines.push("tls-auth-clients no".to_owned());
                lines.push(format!("tls-cert-file {}", authority.certificate().display()));
                lines.push(format!("tls-key-file {}", authority.key().display()));
                lines.push(format!("tls-ca-cert-file {}", authority.ca_file().display()));
            }
        }
        if let Some((name, password)) = &self.user {
            lines.push(format!("user {name} on >{password} ~throng:* &throng:* +@all"));
            lines.push("user default off".to_owned());
        }
        lines.extend_from_slice(&self.lines);
        lines.join("\n")
    }
}

/// A redis-server, or a redis-sentinel.
pub(crate) struct Redis {
    program: &'static str,
    port: u16,
    options: Options,
    folder: Folder,
    process: Child,
    is_paused: Cell<bool>,
}

impl Redis {
    /// Starts an empty server without TLS and users.
    pub(crate) fn start() -> Redis {
        Redis::with(Options::default())
    }

    /// Starts an empty server.
    pub(crate) fn with(options: Options) -> Redis {
        Redis::start_program("redis-server", options)
    }

    fn start_program(program: &'static str, options: Options) -> Redis {
        let folder = Folder::new();
        let port = free_port();
        fs::write(folder.path().join("redis.conf"), options.configuration(port, folder.path()))
            .expect("a configuration file");
        let process = spawn(program, folder.path());
        let mut redis = Redis { program, port, options, folder, process, is_paused: Cell::new(false) };
        redis.await_answer();
        redis
    }

    /// Where it listens on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `redis://` or `rediss://`, with user and password if it wants them.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "rediss" } else { "redis" };
        let user = self.options.user.as_ref().map(|(name, password)| format!("{name}:{password}@"));
        format!("{scheme}://{}127.0.0.1:{}", user.unwrap_or_default(), self.port)
    }

    /// Certificate of the private authority, in a server with TLS.
    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        self.options.tls.as_ref().map(Authority::ca_file)
    }

    /// A new connection. Fails the test if it cannot be had.
    pub(crate) fn connection(&self) -> Connection {
        self.connect().unwrap_or_else(|error| panic!("{}: {error}", self.url()))
    }

    fn connect(&self) -> RedisResult<Connection> {
        let info = self.url().into_connection_info()?;
        let client = match &self.options.tls {
            None => Client::open(info)?,
            Some(authority) => client_with_ca(info, authority)?,
        };
        client.get_connection_with_timeout(DEADLINE)
    }

    /// The answer to a command on a connection of its own.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        ask(&mut self.connection(), command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// A field of `INFO`; empty if there is none, or no answer at this moment:
    /// a Sentinel ends all connections of whom it promotes.
    pub(crate) fn info(&self, field: &str) -> String {
        let answer = self.connect().and_then(|mut connection| ask(&mut connection, &["INFO", "everything"]));
        let info: String = answer.unwrap_or_default();
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }

    /// Waits until a replica of it has all that was written before.
    pub(crate) fn await_replica(&self, replica: &Redis) {
        let offset = |server: &Redis| server.info("master_repl_offset").parse::<u64>().unwrap_or(0);
        let written = offset(self);
        wait_until("a replica is in step", || offset(replica) >= written);
    }

    /// Stops it in its tracks: connections stay open and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        self.is_paused.set(true);
    }

    /// Lets a paused server go on.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
        self.is_paused.set(false);
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.is_paused.set(false);
    }

    /// Starts it again on its port, after a [`kill`](Redis::kill) or in place
    /// of one. It keeps no data, so it is empty; a Cluster's member remembers
    /// its place.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.program, self.folder.path());
        self.await_answer();
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("the command kill").success(), "SIG{name} to {}", self.pid());
    }

    fn await_answer(&mut self) {
        wait_until(self.program, || {
            if let Some(status) = self.process.try_wait().expect("a child's status") {
                let log = fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default();
                panic!("{} ended with {status}:\n{log}", self.program);
            }
            self.connect().is_ok_and(|mut connection| ask::<String>(&mut connection, &["PING"]).is_ok())
        });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The answer to a command.
pub(crate) fn ask<T: FromRedisValue>(connection: &mut Connection, command: &[&str]) -> RedisResult<T> {
    redis::cmd(command[0]).arg(&command[1..]).query(connection)
}

fn client_with_ca(info: ConnectionInfo, authority: &Authority) -> RedisResult<Client> {
    let ca = fs::read(authority.ca_file()).expect("the authority's certificate");
    debug_assert!(matches!(info.addr(), ConnectionAddr::TcpTls { .. }));
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(ca) })
}

fn spawn(program: &str, folder: &Path) -> Child {
    let mut command = Command::new(program);
    command.arg(folder.join("redis.conf")).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => {
            panic!(
                "this test needs {program}: apt-get install redis-server redis-sentinel, or run tools/test"
            )
        }
        _ => panic!("{program}: {error}"),
    })
}
