//! Opening connections: all at once before a load begins, and again while it runs.

use super::{Fleet, Ignore, Load, Member, Phase};
use crate::cli::Common;
use crate::handshake::request;
use crate::target::{self, Target};
use crate::tls::Session;
use mio::net::TcpStream;
use mio::{Interest, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Descriptors that are not connections: standard streams, epoll, the files of /proc while they are read.
const DESCRIPTORS_RESERVED: u64 = 64;

impl Fleet {
    /// Opens one connection per path, `open_window` at a time, and comes back when each is ready or refused. Says
    /// how far it is every second on stderr.
    pub(crate) fn open(
        &mut self,
        common: &Common,
        paths: impl Iterator<Item = String>,
    ) -> Result<(), String> {
        self.open_for(common, paths, &mut Ignore)
    }

    /// As `open`, with a load that sees the welcomes.
    fn open_for(
        &mut self,
        common: &Common,
        paths: impl Iterator<Item = String>,
        load: &mut impl Load,
    ) -> Result<(), String> {
        for path in paths {
            self.welcome |= awaits_welcome(common, &path);
            self.requests.push(request(&self.target_of(self.requests.len()).host, &path, "")?);
        }
        let started = Instant::now();
        let deadline = started + Duration::from_secs(common.open_timeout);
        let mut said_at = started;
        while self.ready + (self.refused + self.lost) as usize != self.requests.len() {
            while self.opening < common.open_window as usize && self.members.len() < self.requests.len() {
                self.connect(self.members.len());
            }
            self.turn(load, Duration::from_millis(100))?;
            if said_at.elapsed() >= Duration::from_secs(1) {
                said_at = Instant::now();
                eprintln!("opened {} of {}", self.ready, self.requests.len());
            }
            if Instant::now() > deadline {
                let (ready, all) = (self.ready, self.requests.len());
                return Err(format!("only {ready} of {all} connections opened in time{}", self.explain()));
            }
            if self.ready == 0 && self.refused > 100 {
                break;
            }
        }
        self.open_seconds = started.elapsed().as_secs_f64();
        self.requests = Vec::new();
        match self.ready {
            0 => {
                Err(format!("no connection could be opened to {}{}", self.targets[0].address, self.explain()))
            }
            _ => Ok(()),
        }
    }

    /// As `open`, but a single refused connection is an error: a rate measured on fewer would mislead.
    pub(crate) fn open_all(
        &mut self,
        common: &Common,
        paths: impl Iterator<Item = String>,
    ) -> Result<(), String> {
        self.open_all_for(common, paths, &mut Ignore)
    }

    /// As `open_all`, with a load that sees the welcomes.
    pub(crate) fn open_all_for(
        &mut self,
        common: &Common,
        paths: impl Iterator<Item = String>,
        load: &mut impl Load,
    ) -> Result<(), String> {
        self.open_for(common, paths, load)?;
        if self.refused + self.lost > 0 {
            return Err(format!("{} connections were refused{}", self.refused + self.lost, self.explain()));
        }
        Ok(())
    }

    /// Tells the load of connections that have ended and opens those it asks for. Between turns: no event of this one
    /// can be for a connection that took the place of another.
    pub(super) fn open_again(&mut self, load: &mut impl Load) -> Result<(), String> {
        if !self.reopens {
            return Ok(());
        }
        for round in 0.. {
            let now = self.now();
            for (index, reason) in std::mem::take(&mut self.ended) {
                load.ended(index, &reason, now);
            }
            while let Some((index, path)) = load.next_open(now) {
                if self.requests.len() <= index {
                    self.requests.resize_with(index + 1, Vec::new);
                }
                self.requests[index] = request(&self.target_of(index).host, &path, "")?;
                self.connect(index);
            }
            // A connect that failed at once is told at once, but what fails every time must not keep us here.
            if self.ended.is_empty() || round > 0 {
                break;
            }
        }
        Ok(())
    }

    /// The commonest reasons for failures, as the tail of a sentence.
    fn explain(&self) -> String {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown: Vec<_> =
            reasons.iter().take(3).map(|(reason, count)| format!("{count} × {reason}")).collect();
        if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
    }

    /// Begins to open connection `index`: a new one, or one that has ended.
    fn connect(&mut self, index: usize) {
        self.opening += 1;
        let mut member = Member {
            stream: None,
            phase: Phase::Connecting,
            tls: None,
            partial: Vec::new(),
            unsent: Vec::new(),
        };
        let made = self.made;
        self.made += 1;
        let failed = self.begin(&mut member, index, made).err();
        match self.members.get_mut(index) {
            Some(place) => *place = member,
            None => self.members.push(member),
        }
        if let Some(reason) = failed {
            self.end(index, reason);
        }
    }

    /// Begins to connect, and has the socket watched.
    fn begin(&self, member: &mut Member, index: usize, made: usize) -> Result<(), String> {
        let target = self.target_of(index);
        if let (Some(server), Some(config)) = (&target.tls, &self.tls) {
            member.tls = Some(Box::new(Session::new(config, server)?));
        }
        let failed = |error: io::Error| format!("connect: {error}");
        let mut stream = connecting(target, made).map_err(failed)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest).map_err(failed)?;
        member.stream = Some(stream);
        Ok(())
    }
}

/// Raises the soft limit of descriptors to the hard one and checks that it is enough.
pub(super) fn raise_descriptor_limit(connections: usize) -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
            .map_err(|error| format!("raising the descriptor limit: {error}"))?;
    }
    match maximum {
        Some(limit) if connections as u64 + DESCRIPTORS_RESERVED > limit => Err(format!(
            "{connections} connections need more descriptors than the hard limit of {limit} allows \
             (ulimit -Hn): at most {} connections per process",
            limit.saturating_sub(DESCRIPTORS_RESERVED)
        )),
        _ => Ok(()),
    }
}

/// Whether a server sends a message before any of ours on this path.
pub(super) fn awaits_welcome(common: &Common, path: &str) -> bool {
    path.starts_with("/ws") && !common.no_welcome
}

/// Begins the `made`-th connect of this process.
fn connecting(target: &Target, made: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = target.source(std::process::id(), made) {
        // A port of our own choice: to look for a free one takes the kernel long when thousands are in use.
        let port = target::port(made);
        let bound = socket.bind(&SocketAddr::new(source, port).into());
        bound.or_else(|_| socket.bind(&SocketAddr::new(source, 0).into()))?;
    }
    match socket.connect(&target.address.into()) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        other => other?,
    }
    Ok(TcpStream::from_std(socket.into()))
}
