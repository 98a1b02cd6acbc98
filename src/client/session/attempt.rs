//! Getting open: TCP, TLS and the opening handshake, address after address.

use std::io;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use mio::Interest;
use mio::net::TcpStream;
use tungstenite::handshake::client::{ClientHandshake, Request, generate_key};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::{WebSocket, WebSocketConfig};

use super::link::Link;
use super::open::Open;
use super::{Context, Phase, Session};
use crate::client::event::What;
use crate::client::options::Options;
use crate::client::refusal::{Failure, Outlook, judge, judge_io};

/// Read at once from a socket, and kept for it.
const READ_BYTES: usize = 4 * 1024;

/// Room for what is sent beside the program's messages: business, pongs, a close frame.
const OWN_BYTES_MAX: usize = 1 << 20;

/// An attempt at one of the server's addresses.
pub(super) struct Attempt {
    address: SocketAddr,
    /// Addresses that are left to try.
    rest: Vec<SocketAddr>,
    step: Step,
    pub(super) until: Instant,
}

enum Step {
    Connecting(TcpStream),
    Handshaking(MidHandshake<ClientHandshake<Link>>),
}

/// How far a step came.
enum Progress {
    Underway(Step),
    Open(WebSocket<Link>),
}

impl Session {
    /// Tries to get open at the first of `addresses`, which are not none.
    pub(in crate::client) fn begin(&mut self, context: &mut Context<'_>, addresses: &[SocketAddr]) {
        self.attempts = self.attempts.saturating_add(1);
        self.ledger.attempt();
        let turn = self.number.wrapping_add(self.attempts) as usize;
        let mut rest = in_turn(addresses, turn);
        rest.reverse();
        self.try_next(context, rest, Failure::passing("the name has no address"));
    }

    /// Tries the last of `rest`; the failure is that of the address before.
    fn try_next(&mut self, context: &mut Context<'_>, mut rest: Vec<SocketAddr>, mut failure: Failure) {
        while let Some(address) = rest.pop() {
            match connect(context, address) {
                Ok(stream) => {
                    let until = context.now + context.options.connect_timeout;
                    let step = Step::Connecting(stream);
                    self.phase = Phase::Underway(Box::new(Attempt { address, rest, step, until }));
                    return;
                }
                Err(error) => failure = at(address, judge_io(&error)),
            }
        }
        self.fail(context, failure);
    }

    /// Goes on with the attempt as far as the socket lets it.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Queued);
        let Phase::Underway(attempt) = phase else {
            self.phase = phase;
            return;
        };
        let Attempt { address, rest, step, until } = *attempt;
        match step.advance(context, &self.path, self.number) {
            Ok(Progress::Underway(step)) => {
                self.phase = Phase::Underway(Box::new(Attempt { address, rest, step, until }));
            }
            Ok(Progress::Open(socket)) => self.opened(context, socket, address),
            // What the server itself refuses another address would, too.
            Err(failure) if matches!(failure.outlook, Outlook::Unauthorized | Outlook::Lasting) => {
                self.fail(context, at(address, failure));
            }
            Err(failure) => self.try_next(context, rest, at(address, failure)),
        }
    }

    pub(super) fn attempt_timed_out(&mut self, context: &mut Context<'_>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Queued);
        if let Phase::Underway(attempt) = phase {
            let what = match attempt.step {
                Step::Connecting(_) => "no connection in time",
                Step::Handshaking(_) => "no answer to the handshake in time",
            };
            self.try_next(context, attempt.rest, at(attempt.address, Failure::passing(what)));
        }
    }

    fn opened(&mut self, context: &mut Context<'_>, socket: WebSocket<Link>, address: SocketAddr) {
        let away = self.ledger.opened(context.now);
        self.phase = Phase::Open(Box::new(Open::new(socket, context)));
        context.gate.set_open(true);
        let attempts = std::mem::take(&mut self.attempts);
        self.tell(context, What::Connected { address, attempts, away });
        self.begin_business(context);
    }
}

impl Step {
    fn advance(self, context: &Context<'_>, path: &str, number: u32) -> Result<Progress, Failure> {
        let mid = match self {
            Step::Handshaking(mid) => mid,
            Step::Connecting(stream) => {
                if let Some(error) = stream.take_error().map_err(|error| judge_io(&error))? {
                    return Err(judge_io(&error));
                }
                if let Err(error) = stream.peer_addr() {
                    return match error.kind() {
                        io::ErrorKind::NotConnected => Ok(Progress::Underway(Step::Connecting(stream))),
                        _ => Err(judge_io(&error)),
                    };
                }
                start(context, stream, path, number)?
            }
        };
        match mid.handshake() {
            Ok((socket, _)) => Ok(Progress::Open(socket)),
            Err(HandshakeError::Interrupted(mid)) => Ok(Progress::Underway(Step::Handshaking(mid))),
            Err(HandshakeError::Failure(error)) => Err(judge(&error, SystemTime::now())),
        }
    }
}

fn connect(context: &Context<'_>, address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    context.registry.register(&mut stream, context.token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

fn start(
    context: &Context<'_>,
    stream: TcpStream,
    path: &str,
    number: u32,
) -> Result<MidHandshake<ClientHandshake<Link>>, Failure> {
    let link = Link::new(stream, context.tls).map_err(|error| judge_io(&error))?;
    let target = &context.options.target;
    let scheme = if target.tls { "wss" } else { "ws" };
    let host = target.host_header();
    let mut request = Request::builder()
        .uri(format!("{scheme}://{host}{path}"))
        .header("Host", &host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("User-Agent", concat!("throng/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = &context.options.token {
        request = request.header("Authorization", token.authorization(number).map_err(Failure::passing)?);
    }
    let request = request.body(()).map_err(|error| Failure::permanent(error.to_string()))?;
    ClientHandshake::start(link, request, Some(config(context.options)))
        .map_err(|error| judge(&error, SystemTime::now()))
}

fn config(options: &Options) -> WebSocketConfig {
    // Writes happen when the turn flushes, so the buffer that is written at is
    // the whole of it.
    let waiting_max = options.outbound_bytes_max.saturating_add(options.message_bytes_max);
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(waiting_max.saturating_add(OWN_BYTES_MAX))
        .max_write_buffer_size(waiting_max.saturating_add(OWN_BYTES_MAX).saturating_add(1))
        .max_message_size(Some(options.message_bytes_max))
        .max_frame_size(Some(options.message_bytes_max))
}

/// The addresses in the order of preference they came in, but those of the
/// first family beginning at another one each turn, so that connections to a
/// name with many addresses are spread.
fn in_turn(addresses: &[SocketAddr], turn: usize) -> Vec<SocketAddr> {
    let mut ordered = addresses.to_vec();
    let first_is_ipv4 = ordered.first().is_some_and(SocketAddr::is_ipv4);
    let alike = ordered.iter().take_while(|address| address.is_ipv4() == first_is_ipv4).count();
    if alike > 0 {
        ordered[..alike].rotate_left(turn % alike);
    }
    ordered
}

fn at(address: SocketAddr, failure: Failure) -> Failure {
    Failure { why: format!("{address}: {}", failure.why), ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_within_the_preferred_family() {
        let parse = |text: &str| -> Vec<SocketAddr> {
            text.split(' ').map(|address| address.parse().unwrap()).collect()
        };
        let check =
            |from: &str, turn, expected: &str| assert_eq!(in_turn(&parse(from), turn), parse(expected));
        check("[::1]:1 1.1.1.1:1", 0, "[::1]:1 1.1.1.1:1");
        check("[::1]:1 1.1.1.1:1", 1, "[::1]:1 1.1.1.1:1");
        check("1.1.1.1:1 2.2.2.2:1 3.3.3.3:1 [::1]:1", 4, "2.2.2.2:1 3.3.3.3:1 1.1.1.1:1 [::1]:1");
        assert_eq!(in_turn(&[], 3), []);
    }
}
