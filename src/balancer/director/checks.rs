//! Checks of backends: one small HTTP request each, without blocking.
//!
//! Owns: [`Checks`], the connections of the checks that are under way, their
//! deadlines and what they found. Never: when to check, what a finding means.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConnection, StreamOwned};

use super::plan::Plan;
use crate::balancer::health::Checked;
use crate::balancer::roster::{BackendId, CheckOrder};
use crate::reactor::door::is_exhausted;
use crate::tls::Peers;

/// Checks under way at once.
const CHECKS_MAX: usize = 64;

/// An answer's head and the interim answers before it; the rest of an answer is not read.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Header lines in an answer.
const HEADERS_MAX: usize = 64;

/// A PROXY protocol header, version 2, for a connection that nobody's behind:
/// signature, version and command LOCAL, family unspecified, no addresses.
const PROXY_LOCAL: &[u8; 16] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// What a check found and how long it took.
pub(super) type Found = (BackendId, Checked, Duration);

pub(super) struct Checks {
    registry: Registry,
    running: HashMap<Token, Check>,
    last_token: usize,
    found: Vec<Found>,
}

struct Check {
    id: BackendId,
    /// As in [`CheckOrder::name`].
    name: String,
    wire: Wire,
    /// Who it has to be, if TLS is to be spoken and is not yet.
    peers: Option<Peers>,
    /// Sent before that.
    preface: &'static [u8],
    began: Instant,
    connected: bool,
    connect_timeout: Duration,
    timeout: Duration,
    unsent: Vec<u8>,
    answer: Vec<u8>,
}

impl Checks {
    /// `registry` is of the poll whose events are passed on. Tokens up to
    /// `last_token` are others'.
    pub(super) fn new(registry: Registry, last_token: usize) -> Checks {
        Checks { registry, running: HashMap::new(), last_token, found: Vec::new() }
    }

    /// Whether another check can be started.
    pub(super) fn has_room(&self) -> bool {
        self.running.len() < CHECKS_MAX
    }

    /// Begins a check. Its finding comes later, also when it fails at once.
    pub(super) fn start(&mut self, order: &CheckOrder, plan: &Plan, now: Instant) {
        // Never given twice, so that a late event is nobody else's.
        self.last_token += 1;
        let token = Token(self.last_token);
        match self.open(order, token) {
            Ok(stream) => {
                let check = Check {
                    id: order.id,
                    name: order.name.clone(),
                    wire: Wire::Plain(stream),
                    peers: plan.peers.clone(),
                    preface: if plan.send_proxy_header { PROXY_LOCAL } else { &[] },
                    began: now,
                    connected: false,
                    connect_timeout: plan.connect_timeout(),
                    timeout: plan.health_timeout(),
                    unsent: request(&order.name, plan),
                    answer: Vec::new(),
                };
                self.running.insert(token, check);
            }
            Err(error) => self.found.push((order.id, failure(&error), Duration::ZERO)),
        }
    }

    fn open(&self, order: &CheckOrder, token: Token) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(order.address)?;
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(stream)
    }

    /// Something can be done for the check of that token, if it is one's.
    pub(super) fn handle_event(&mut self, token: Token, now: Instant) {
        let Some(check) = self.running.get_mut(&token) else { return };
        if let Some(checked) = check.proceed() {
            self.end(token, checked, now);
        }
    }

    /// Ends the checks whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let over = |check: &Check| check.deadline() <= now;
        while let Some(token) = self.running.iter().find(|(_, check)| over(check)).map(|(token, _)| *token) {
            let late = self.running[&token].late();
            self.end(token, Checked::Failed(late), now);
        }
    }

    /// When the next check's time is over.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.running.values().map(Check::deadline).min()
    }

    /// What checks have found.
    pub(super) fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    fn end(&mut self, token: Token, checked: Checked, now: Instant) {
        // Closing the socket takes it from the poll.
        let Some(check) = self.running.remove(&token) else { return };
        self.found.push((check.id, checked, now.saturating_duration_since(check.began)));
    }
}

impl Check {
    fn deadline(&self) -> Instant {
        self.began + if self.connected { self.timeout } else { self.connect_timeout }
    }

    fn late(&self) -> String {
        match self.connected {
            true => format!("no answer within {}", humantime::format_duration(self.timeout)),
            false => format!("no connection within {}", humantime::format_duration(self.connect_timeout)),
        }
    }

    /// Goes as far as the socket lets it; a finding ends it.
    fn proceed(&mut self) -> Option<Checked> {
        match self.exchange() {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(failure(&error)),
        }
    }

    fn exchange(&mut self) -> io::Result<Option<Checked>> {
        if !self.connected && !self.is_connected()? {
            return Ok(None);
        }
        self.connected = true;
        self.begin()?;
        while !self.unsent.is_empty() {
            let sent = retry(|| self.wire.write(&self.unsent))?;
            self.unsent.drain(..sent);
        }
        let mut buffer = [0; 2048];
        loop {
            let count = retry(|| self.wire.read(&mut buffer))?;
            self.answer.extend_from_slice(&buffer[..count]);
            if let Some(checked) = read_answer(&self.answer, count == 0) {
                return Ok(Some(checked));
            }
        }
    }

    fn is_connected(&self) -> io::Result<bool> {
        let Wire::Plain(stream) = &self.wire else { return Ok(true) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Check {
    /// Sends what goes before TLS, and begins to speak that, if it is to be spoken.
    fn begin(&mut self) -> io::Result<()> {
        if let Wire::Plain(stream) = &mut self.wire {
            while !self.preface.is_empty() {
                let sent = retry(|| stream.write(self.preface))?;
                self.preface = &self.preface[sent..];
            }
        }
        let Some(peers) = self.peers.take() else { return Ok(()) };
        let (config, name) = peers.of(&self.name).ok_or_else(|| {
            io::Error::new(
                ErrorKind::InvalidInput,
                "its host is no name for a certificate; set backend_tls_name",
            )
        })?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        if let Wire::Plain(stream) = std::mem::replace(&mut self.wire, Wire::None) {
            self.wire = Wire::Tls(Box::new(StreamOwned::new(connection, stream)));
        }
        Ok(())
    }
}

/// The connection of a check.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Between the two.
    None,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(buffer),
            // Who does not say farewell has ended all the same.
            Wire::Tls(stream) => match stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
            Wire::None => Ok(0),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
            Wire::None => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Tls(stream) => stream.flush(),
            Wire::Plain(_) | Wire::None => Ok(()),
        }
    }
}

fn retry<T>(mut run: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match run() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn failure(error: &io::Error) -> Checked {
    match error.kind() {
        ErrorKind::ConnectionRefused => Checked::Refused,
        _ if is_exhausted(error) => Checked::NotMade(format!("not checked: {error}")),
        _ => Checked::Failed(error.to_string()),
    }
}

fn request(name: &str, plan: &Plan) -> Vec<u8> {
    let text = format!(
        "GET {} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: throng-balance/{}\r\nConnection: close\r\n\r\n",
        plan.health_path,
        env!("CARGO_PKG_VERSION"),
    );
    text.into_bytes()
}

/// What an answer says, as soon as its head is whole.
fn read_answer(mut bytes: &[u8], ended: bool) -> Option<Checked> {
    let is_too_much = bytes.len() >= HEAD_BYTES_MAX;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes) {
            // An interim answer; the final one follows (RFC 9110, section 15.2).
            Ok(httparse::Status::Complete(len)) if response.code.is_some_and(|code| code < 200) => {
                bytes = &bytes[len..];
            }
            Ok(httparse::Status::Complete(_)) => return response.code.map(Checked::Status),
            Ok(httparse::Status::Partial) if ended => {
                return Some(Checked::Failed("closed without an answer".to_owned()));
            }
            Ok(httparse::Status::Partial) if is_too_much => {
                return Some(Checked::Failed("the answer's head is too large".to_owned()));
            }
            Ok(httparse::Status::Partial) => return None,
            Err(error) => return Some(Checked::Failed(format!("the answer is not HTTP: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, ended: bool, expected: Option<Checked>) {
        assert_eq!(read_answer(answer.as_bytes(), ended), expected, "{answer:?}");
        // No beginning of it may say anything else.
        for cut in 0..answer.len() {
            let early = read_answer(&answer.as_bytes()[..cut], false);
            assert!(early.is_none() || early == expected, "{answer:?} up to {cut}: {early:?}");
        }
    }

    #[test]
    fn answers() {
        let failed = |why: &str| Some(Checked::Failed(why.to_owned()));
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true, Some(Checked::Status(200)));
        check("HTTP/1.0 503 Service Unavailable\r\n\r\n", false, Some(Checked::Status(503)));
        check(
            "HTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.1 204 \r\n\r\n",
            false,
            Some(Checked::Status(204)),
        );
        check("HTTP/1.1 100 Continue\r\n\r\n", true, failed("closed without an answer"));
        check("HTTP/1.1 200 OK\r\n", false, None);
        check("HTTP/1.1 200 OK\r\n", true, failed("closed without an answer"));
        check("", true, failed("closed without an answer"));
        check("SSH-2.0-OpenSSH_9.2\r\n", false, failed("the answer is not HTTP: invalid HTTP version"));
    }

    #[test]
    fn a_head_without_an_end_is_given_up() {
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(HEAD_BYTES_MAX));
        let found = read_answer(endless.as_bytes(), false);
        assert_eq!(found, Some(Checked::Failed("the answer's head is too large".to_owned())));
    }

    #[test]
    fn interim_answers_without_an_end_are_given_up() {
        let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(HEAD_BYTES_MAX / 20);
        let found = read_answer(endless.as_bytes(), false);
        assert_eq!(found, Some(Checked::Failed("the answer's head is too large".to_owned())));
    }

    #[test]
    fn so_many_are_under_way_at_once_and_all_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let poll = mio::Poll::new().unwrap();
        let mut checks = Checks::new(poll.registry().try_clone().unwrap(), 0);
        let plan = crate::balancer::director::tests::plan(Vec::new());
        let (name, address) = ("silent".to_owned(), listener.local_addr().unwrap());
        let order = CheckOrder { id: BackendId(1), name, address };
        let now = Instant::now();
        for _ in 0..CHECKS_MAX {
            assert!(checks.has_room());
            checks.start(&order, &plan, now);
        }
        assert!(!checks.has_room());
        checks.handle_timeout(now);
        assert!(checks.take_found().is_empty() && checks.poll_timeout() == Some(now + plan.connect_timeout));
        checks.handle_timeout(now + plan.health_timeout);
        let found = checks.take_found();
        let late = Checked::Failed("no connection within 5s".to_owned());
        assert!(
            found.len() == CHECKS_MAX && found.iter().all(|(_, checked, _)| *checked == late),
            "{found:?}"
        );
        assert!(checks.has_room() && checks.poll_timeout().is_none());
    }
}
