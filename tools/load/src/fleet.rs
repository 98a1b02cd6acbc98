//! Many client connections on one thread: opens them, reads and writes them, hands messages to a load.
//! Owns every socket. Never interprets a data message: the load does.

use crate::cli::Common;
use crate::frame::{self, Parsed};
use crate::handshake::{close_reason, handshake_end, request};
use crate::target::{self, Target};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Descriptors that are not connections: standard streams, epoll, the files of /proc while they are read.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Size of the one read buffer, unless a message is larger.
const READ_BYTES: usize = 256 * 1024;
/// The largest message of a server that is taken in.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Different reasons for failures that are kept apart.
const REASONS_MAX: usize = 16;

/// What is done with messages.
pub(crate) trait Load {
    /// A data message arrived on connection `from`; `now` is in nanoseconds since the fleet began.
    fn message(&mut self, from: usize, opcode: u8, payload: &[u8], now: u64);
    /// All messages of one read have been handed over: what is put in the outbox is sent.
    fn read_done(&mut self, from: usize, now: u64, outbox: &mut Outbox);
    /// When something is to be sent that does not follow from what arrived; `None` for never.
    fn next_send(&self) -> Option<u64> {
        None
    }
    /// That time has come: what is put in the outbox is sent.
    fn send_due(&mut self, _now: u64, _outbox: &mut Outbox) {}
    /// Connection `index` is open; `welcome` is the first message if one is awaited. What is put in the outbox is sent.
    fn opened(&mut self, _index: usize, _welcome: &[u8], _now: u64, _outbox: &mut Outbox) {}
    /// Connection `index` has ended, or could not be opened. Told by a fleet that reopens; in it, silence is no fault.
    fn ended(&mut self, _index: usize, _reason: &str, _now: u64) {}
    /// A connection to open, by its number, and its path. Asked of a fleet that reopens, until there is none.
    fn next_open(&mut self, _now: u64) -> Option<(usize, String)> {
        None
    }
    /// When there will be one although nothing happened; `None` for never.
    fn next_open_at(&self) -> Option<u64> {
        None
    }
    /// Nothing more is expected.
    fn is_done(&self) -> bool {
        false
    }
}

/// The load while connections are opened: whatever arrives is dropped.
struct Ignore;

impl Load for Ignore {
    fn message(&mut self, _: usize, _: u8, _: &[u8], _: u64) {}
    fn read_done(&mut self, _: usize, _: u64, _: &mut Outbox) {}
}

/// Bytes to send on one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Connection that is written to; the one that was read unless the load says otherwise.
    pub(crate) target: usize,
    /// Whole frames.
    pub(crate) bytes: Vec<u8>,
}

/// Why `Fleet::run` came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The time was up.
    Deadline,
    /// The load was done.
    Done,
    /// Nothing arrived for the stall timeout.
    Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Handshaking,
    AwaitingWelcome,
    Ready,
}

struct Member {
    /// None once the connection has ended.
    stream: Option<TcpStream>,
    phase: Phase,
    /// Start of a frame whose end has not arrived.
    partial: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

/// The connections and everything they share.
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    requests: Vec<Vec<u8>>,
    /// Servers; connections go to each in turn.
    targets: Vec<Target>,
    /// A second server, and which connections go there.
    peer: Option<(Target, Vec<bool>)>,
    buffer: Vec<u8>,
    outbox: Outbox,
    began: Instant,
    last_message_at: u64,
    stall_timeout: Duration,
    opening: usize,
    welcome: bool,
    /// Connections made so far; each has a source of its own.
    made: usize,
    /// Connections that end are told to the load, which may have them opened again, and are not counted as lost.
    reopens: bool,
    /// Those it has not been told of yet, and why they ended.
    ended: Vec<(usize, String)>,
    /// Connections that are open and have had their welcome.
    pub(crate) ready: usize,
    /// Connections that never got that far.
    pub(crate) refused: u64,
    /// Connections that ended after they had.
    pub(crate) lost: u64,
    /// What became of refused and lost connections, and how often.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// Seconds from the first connect to the last handshake.
    pub(crate) open_seconds: f64,
}

impl Fleet {
    /// Prepares for `connections` connections; an error if this process may not have that many descriptors.
    pub(crate) fn new(common: &Common, connections: usize) -> Result<Fleet, String> {
        raise_descriptor_limit(connections)?;
        let failed = |error: io::Error| format!("epoll: {error}");
        Ok(Fleet {
            poll: Poll::new().map_err(failed)?,
            events: Events::with_capacity(1024),
            members: Vec::with_capacity(connections),
            requests: Vec::new(),
            targets: common.urls.iter().map(|url| Target::parse(url)).collect::<Result<_, String>>()?,
            peer: None,
            buffer: vec![0; READ_BYTES],
            outbox: Outbox::default(),
            began: Instant::now(),
            last_message_at: 0,
            stall_timeout: Duration::from_secs(common.stall_timeout),
            opening: 0,
            welcome: false,
            made: 0,
            reopens: false,
            ended: Vec::new(),
            ready: 0,
            refused: 0,
            lost: 0,
            reasons: BTreeMap::new(),
            open_seconds: 0.0,
        })
    }

    /// Has the connections for which `is_there` is true opened to another server.
    pub(crate) fn set_peer(&mut self, url: &str, is_there: Vec<bool>) -> Result<(), String> {
        self.peer = Some((Target::parse(url)?, is_there));
        Ok(())
    }

    /// From now on the load is told of ends and says what is opened again.
    pub(crate) fn reopen(&mut self, common: &Common, path: &str) {
        self.reopens = true;
        self.welcome = awaits_welcome(common, path);
    }

    /// Where the `index`-th connection goes.
    fn target_of(&self, index: usize) -> &Target {
        match &self.peer {
            Some((peer, is_there)) if is_there.get(index) == Some(&true) => peer,
            _ => &self.targets[index % self.targets.len()],
        }
    }

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
            self.requests.push(request(&self.target_of(self.requests.len()).host, &path)?);
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

    /// Serves the connections until the deadline, until the load is done or until nothing arrives any more.
    pub(crate) fn run(&mut self, load: &mut impl Load, deadline: Instant) -> Result<Outcome, String> {
        self.last_message_at = self.now();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if load.is_done() {
                return Ok(Outcome::Done);
            } else if left.is_zero() {
                return Ok(Outcome::Deadline);
            } else if !self.reopens
                && self.now() - self.last_message_at > self.stall_timeout.as_nanos() as u64
            {
                return Ok(Outcome::Stalled);
            }
            let due = self.send_due(load).map_or(left, |due| due.min(left));
            self.open_again(load)?;
            let open_at = load.next_open_at().map(|at| Duration::from_nanos(at.saturating_sub(self.now())));
            let timeout = open_at.map_or(due, |open| open.min(due));
            self.turn(load, timeout.min(Duration::from_millis(100)))?;
        }
    }

    /// Tells the load of connections that have ended and opens those it asks for. Between turns: no event of this one
    /// can be for a connection that took the place of another.
    fn open_again(&mut self, load: &mut impl Load) -> Result<(), String> {
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
                self.requests[index] = request(&self.target_of(index).host, &path)?;
                self.connect(index);
            }
            // A connect that failed at once is told at once, but what fails every time must not keep us here.
            if self.ended.is_empty() || round > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Sends all that is due; how long until there is more.
    fn send_due(&mut self, load: &mut impl Load) -> Option<Duration> {
        let mut outbox = std::mem::take(&mut self.outbox);
        let next = loop {
            let now = self.now();
            match load.next_send() {
                Some(due) if due <= now => load.send_due(now, &mut outbox),
                next => break next.map(|due| Duration::from_nanos(due - now)),
            }
            self.send(outbox.target, &outbox.bytes);
            outbox.bytes.clear();
        };
        self.outbox = outbox;
        next
    }

    /// Serves the connections for a time in which nothing is expected.
    pub(crate) fn idle(&mut self, time: Duration) -> Result<(), String> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(&mut Ignore, left)?;
        }
    }

    /// Sends whole frames on a connection; what the socket does not take now follows when it can.
    pub(crate) fn send(&mut self, index: usize, bytes: &[u8]) {
        let Some(member) = self.members.get_mut(index) else { return };
        let Some(stream) = &mut member.stream else { return };
        let mut rest = bytes;
        while member.unsent.is_empty() && !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return self.end(index, format!("write: {error}")),
            }
        }
        member.unsent.extend_from_slice(rest);
    }

    /// Nanoseconds since the fleet began.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Connections that are open.
    pub(crate) fn open_indexes(&self) -> Vec<usize> {
        let open = |index: &usize| self.members[*index].stream.is_some();
        (0..self.members.len()).filter(open).collect()
    }

    /// The commonest reasons for failures, as the tail of a sentence.
    fn explain(&self) -> String {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown: Vec<_> =
            reasons.iter().take(3).map(|(reason, count)| format!("{count} × {reason}")).collect();
        if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
    }

    fn turn(&mut self, load: &mut impl Load, timeout: Duration) -> Result<(), String> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(format!("epoll: {error}")),
            Ok(()) => {}
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(index) = event.token();
            if event.is_writable() {
                self.writable(index);
            }
            if event.is_readable() || event.is_read_closed() {
                self.readable(index, event.is_read_closed(), load);
            }
        }
        self.events = events;
        Ok(())
    }

    /// Begins to open connection `index`: a new one, or one that has ended.
    fn connect(&mut self, index: usize) {
        self.opening += 1;
        let mut member =
            Member { stream: None, phase: Phase::Connecting, partial: Vec::new(), unsent: Vec::new() };
        let made = self.made;
        self.made += 1;
        let connected = connecting(self.target_of(index), made).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index), interest)?;
            Ok(stream)
        });
        let failed = match connected {
            Ok(stream) => {
                member.stream = Some(stream);
                None
            }
            Err(error) => Some(format!("connect: {error}")),
        };
        match self.members.get_mut(index) {
            Some(place) => *place = member,
            None => self.members.push(member),
        }
        if let Some(reason) = failed {
            self.end(index, reason);
        }
    }

    fn writable(&mut self, index: usize) {
        let Some(member) = self.members.get_mut(index) else { return };
        if member.phase == Phase::Connecting {
            let Some(stream) = &member.stream else { return };
            match stream.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return self.end(index, format!("connect: {error}")),
            }
            member.phase = Phase::Handshaking;
            let request = std::mem::take(&mut self.requests[index]);
            return self.send(index, &request);
        }
        if !member.unsent.is_empty() {
            let bytes = std::mem::take(&mut member.unsent);
            self.send(index, &bytes);
        }
    }

    fn readable(&mut self, index: usize, to_the_end: bool, load: &mut impl Load) {
        loop {
            let Some(member) = self.members.get_mut(index) else { return };
            let Some(stream) = &mut member.stream else { return };
            let kept = member.partial.len();
            self.buffer[..kept].copy_from_slice(&member.partial);
            match stream.read(&mut self.buffer[kept..]) {
                Ok(0) => return self.end(index, "ended by the server without a close frame".into()),
                Ok(read) => {
                    member.partial.clear();
                    let filled = kept + read;
                    let drained = filled < self.buffer.len();
                    if let Err(reason) = self.take_in(index, filled, load) {
                        return self.end(index, reason);
                    }
                    if drained && !to_the_end {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.end(index, format!("read: {error}")),
            }
        }
    }

    /// Takes in the first `filled` bytes of the buffer; an unfinished frame is kept for the next read.
    fn take_in(&mut self, index: usize, filled: usize, load: &mut impl Load) -> Result<(), String> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.target = index;
        let now = self.now();
        let taken = self.take_frames(index, &buffer[..filled], now, load, &mut outbox);
        self.buffer = buffer;
        if !outbox.bytes.is_empty() {
            self.send(outbox.target, &outbox.bytes);
            outbox.bytes.clear();
        }
        self.outbox = outbox;
        let (consumed, need) = taken?;
        if need > self.buffer.len() {
            self.buffer.resize(need + READ_BYTES, 0);
        }
        if consumed < filled {
            self.members[index].partial = self.buffer[consumed..filled].to_vec();
        }
        Ok(())
    }

    /// Answers how much was consumed and how large a buffer the next frame needs.
    fn take_frames(
        &mut self,
        index: usize,
        input: &[u8],
        now: u64,
        load: &mut impl Load,
        outbox: &mut Outbox,
    ) -> Result<(usize, usize), String> {
        let mut at = 0;
        if self.members[index].phase == Phase::Handshaking {
            match handshake_end(input)? {
                Some(end) => at = end,
                None => return Ok((0, 0)),
            }
            self.members[index].phase = Phase::AwaitingWelcome;
            if !self.welcome {
                self.now_ready(index);
                load.opened(index, &[], now, outbox);
            }
        }
        let mut messages = 0u32;
        let need = loop {
            let (fin, opcode, payload, len) = match frame::parse(&input[at..])? {
                Parsed::Frame { fin, opcode, payload, len } => (fin, opcode, payload, len),
                Parsed::Partial(need) => break need,
            };
            at += len;
            match opcode {
                frame::PING => frame::write(&mut outbox.bytes, frame::PONG, payload),
                frame::PONG => {}
                frame::CLOSE => return Err(close_reason(payload)),
                frame::TEXT | frame::BINARY if fin => {
                    if self.members[index].phase == Phase::AwaitingWelcome {
                        self.now_ready(index);
                        load.opened(index, payload, now, outbox);
                    } else {
                        messages += 1;
                        load.message(index, opcode, payload, now);
                    }
                }
                _ => return Err("the server sent a fragmented message or an unknown opcode".into()),
            }
        };
        if messages > 0 {
            self.last_message_at = now;
            load.read_done(index, now, outbox);
        }
        if need > MESSAGE_BYTES_MAX {
            return Err(format!("the server sent a message of {need} bytes"));
        }
        Ok((at, need))
    }

    fn now_ready(&mut self, index: usize) {
        self.members[index].phase = Phase::Ready;
        self.opening -= 1;
        self.ready += 1;
    }

    fn end(&mut self, index: usize, reason: String) {
        let member = &mut self.members[index];
        member.stream = None;
        let was_ready = member.phase == Phase::Ready;
        if was_ready {
            self.ready -= 1;
        } else {
            self.opening -= 1;
        }
        match (self.reopens, was_ready) {
            (true, _) => return self.ended.push((index, reason)),
            (false, true) => self.lost += 1,
            (false, false) => self.refused += 1,
        }
        note(&mut self.reasons, reason);
    }
}

/// Counts a reason; when there are many, new ones are put together.
pub(crate) fn note(reasons: &mut BTreeMap<String, u64>, reason: String) {
    let known = reasons.len() < REASONS_MAX || reasons.contains_key(&reason);
    *reasons.entry(if known { reason } else { "other reasons".into() }).or_insert(0) += 1;
}

/// Raises the soft limit of descriptors to the hard one and checks that it is enough.
fn raise_descriptor_limit(connections: usize) -> Result<(), String> {
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
fn awaits_welcome(common: &Common, path: &str) -> bool {
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
