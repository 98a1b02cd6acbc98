//! Connections to the host: `/health`, and WebSockets as far as their welcome. Never judges.

use crate::frame::{self, Parsed};
use crate::handshake::{close_reason, handshake_end, head_end, request};
use crate::wire::Wire;
use crate::{Access, Cli};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a stack that opens connections.
const STACK_BYTES: usize = 256 * 1024;
/// Normal closure (RFC 6455, section 7.4.1).
const CLOSE_NORMAL: [u8; 2] = 1000u16.to_be_bytes();

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) display_name: String,
}

/// What became of a connection: who answered after how many milliseconds, or why nobody did.
pub(crate) type Answer = Result<(Instance, f64), String>;

/// What `/health` answered.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// Connects within `timeout`, to whichever address of the host answers, from an address if one is given.
pub(crate) fn connect(
    host: &str,
    port: u16,
    source: Option<Ipv4Addr>,
    timeout: Duration,
) -> Result<TcpStream, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let mut why = format!("{host} has no address");
    for address in addresses {
        match connect_from(source, address, timeout) {
            Ok(stream) => {
                return stream.set_nodelay(true).map(|()| stream).map_err(|error| error.to_string());
            }
            Err(error) => why = format!("connect to {address}: {error}"),
        }
    }
    Err(why)
}

fn connect_from(source: Option<Ipv4Addr>, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect_timeout(&address, timeout) };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&address.into(), timeout)?;
    Ok(socket.into())
}

/// The address that connection `index` comes from when there are `sources` of them: 127.1.0.1 and on.
fn source(sources: u32, index: u32) -> Ipv4Addr {
    let number = index % sources;
    Ipv4Addr::new(127, 1 + (number / 62_500) as u8, (number / 250 % 250) as u8, 1 + (number % 250) as u8)
}

/// Asks `/health`. An answer other than 200 is an error: whoever cannot serve need not be tried.
pub(crate) fn health(cli: &Cli, access: &Access, timeout: Duration) -> Result<Health, String> {
    let (host, port, scheme) = (&cli.host, cli.http_port, cli.scheme("http"));
    let failed = |why: String| format!("GET {scheme}://{host}:{port}/health: {why}");
    let socket = connect(host, port, None, timeout)?;
    let mut stream = Wire::over(socket, access.tls.as_ref(), Instant::now() + timeout).map_err(failed)?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    stream.write(request.as_bytes()).map_err(failed)?;
    let mut input = Vec::new();
    while whole_response(&input).is_none() && stream.read(&mut input).map_err(failed)? > 0 {}
    let health = parse_health(&input).ok_or_else(|| failed("not an HTTP answer".to_owned()))?;
    match health.status {
        200 => Ok(health),
        status => Err(failed(format!("status {status}, {}", brief(&health.body)))),
    }
}

/// What is to be opened, and how far that has come.
struct Work<'a> {
    cli: &'a Cli,
    access: &'a Access,
    port: u16,
    path: &'a str,
    next: AtomicU32,
}

/// Opens the connections, as many at a time as the command line says, and holds them until all have been tried. Each
/// answer is told in the order of the connections.
pub(crate) fn open(
    cli: &Cli,
    access: &Access,
    port: u16,
    path: &str,
    mut tell: impl FnMut(usize, &Answer),
) -> Vec<Answer> {
    let work = Work { cli, access, port, path, next: AtomicU32::new(0) };
    let mut answers: Vec<Option<Answer>> = (0..cli.connections).map(|_| None).collect();
    thread::scope(|scope| {
        let (sender, receiver) = channel();
        let start = |sender| {
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, || work.run(sender)).ok()
        };
        let count = cli.concurrency.min(cli.connections);
        let workers: Vec<_> = (0..count).filter_map(|_| start(sender.clone())).collect();
        drop(sender);
        let mut told = 0;
        for (index, answer) in receiver {
            answers[index] = Some(answer);
            while let Some(Some(answer)) = answers.get(told) {
                tell(told, answer);
                told += 1;
            }
        }
        let held = workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default());
        held.collect::<Vec<Wire>>().into_iter().for_each(close);
    });
    let missing = || Err("was not tried: no thread could be started".to_owned());
    answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
}

impl Work<'_> {
    /// Opens one connection after the other until there are enough; those that it holds.
    fn run(&self, answers: Sender<(usize, Answer)>) -> Vec<Wire> {
        let mut held = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.cli.connections {
                return held;
            }
            let opened = self.welcome(index);
            let answer = opened.map(|(stream, instance, ms)| {
                held.push(stream);
                (instance, ms)
            });
            if answers.send((index as usize, answer)).is_err() {
                return held;
            }
        }
    }
    /// Opens one connection and waits for its welcome.
    fn welcome(&self, index: u32) -> Result<(Wire, Instance, f64), String> {
        let Work { cli, access, port, .. } = self;
        let started = Instant::now();
        let timeout = Duration::from_secs(cli.timeout);
        let from = cli.sources.map(|sources| source(sources, index));
        let token = access.token.as_ref().map(|token| token.header(index + 1)).transpose()?;
        let path = self.path.replace("%n", &(index + 1).to_string());
        let asked = request(&format!("{}:{port}", cli.host), &path, token.as_deref().unwrap_or_default())?;
        let socket = connect(&cli.host, *port, from, timeout)?;
        let mut stream = Wire::over(socket, access.tls.as_ref(), started + timeout)?;
        stream.write(&asked)?;
        let mut input = Vec::new();
        let end = loop {
            match handshake_end(&input)? {
                Some(end) => break end,
                None if stream.read(&mut input)? == 0 => return Err("ended before an answer".to_owned()),
                None => {}
            }
        };
        input.drain(..end);
        let instance = loop {
            match first_message(&input)? {
                Some(text) => break instance_of(&text)?,
                None if stream.read(&mut input)? == 0 => return Err("ended before a welcome".to_owned()),
                None => {}
            }
        };
        Ok((stream, instance, started.elapsed().as_secs_f64() * 1000.0))
    }
}

/// Ends a connection with a closing frame.
fn close(stream: Wire) {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, frame::CLOSE, &CLOSE_NORMAL);
    stream.close(&bytes);
}

/// The first data message; pings and pongs before it are passed over.
fn first_message(input: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut at = 0;
    loop {
        match frame::parse(&input[at..])? {
            Parsed::Partial(_) => return Ok(None),
            Parsed::Frame { opcode: frame::TEXT | frame::BINARY, payload, .. } => {
                return Ok(Some(payload.to_vec()));
            }
            Parsed::Frame { opcode: frame::CLOSE, payload, .. } => return Err(close_reason(payload)),
            Parsed::Frame { len, .. } => at += len,
        }
    }
}

/// Who sent this welcome.
fn instance_of(message: &[u8]) -> Result<Instance, String> {
    let shown = || String::from_utf8_lossy(&message[..message.len().min(80)]).into_owned();
    let message: Value = serde_json::from_slice(message)
        .map_err(|_| format!("the first message does not say who answered: {:?}", shown()))?;
    let identity = &message["service_identity"];
    let text = |name: &str| identity[name].as_str().map(str::to_owned);
    match text("instance_id") {
        Some(id) => Ok(Instance { display_name: text("display_name").unwrap_or_default(), id }),
        None => Err(format!("the first message does not say who answered: {}", brief(&message))),
    }
}

/// The start of a JSON value.
fn brief(value: &Value) -> String {
    value.to_string().chars().take(160).collect()
}

/// The body of a response that is there in whole, by its length; `None` if that is not known yet.
fn whole_response(input: &[u8]) -> Option<&[u8]> {
    let end = head_end(input)?;
    let head = String::from_utf8_lossy(&input[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())?;
    input.get(end..end.checked_add(length)?)
}

fn parse_health(input: &[u8]) -> Option<Health> {
    let end = head_end(input)?;
    let head = String::from_utf8_lossy(&input[..end]);
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = whole_response(input).unwrap_or(&input[end..]);
    let text = || Value::String(String::from_utf8_lossy(body).trim().to_owned());
    Some(Health { status, body: serde_json::from_slice(body).unwrap_or_else(|_| text()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(opcode: u8, payload: &[u8]) -> Vec<u8> {
        [&[0x80 | opcode, payload.len() as u8], payload].concat()
    }

    #[test]
    fn sources_are_different_addresses() {
        let all: std::collections::BTreeSet<Ipv4Addr> =
            (0..60_000).map(|index| source(60_000, index)).collect();
        assert_eq!(all.len(), 60_000);
        assert_eq!(
            (source(2, 0), source(2, 1), source(2, 2)),
            ([127, 1, 0, 1].into(), [127, 1, 0, 2].into(), [127, 1, 0, 1].into())
        );
    }

    #[test]
    fn the_first_message_is_found_behind_pings_in_any_pieces() {
        let welcome = br#"{"service_identity":{"instance_id":"a1","display_name":"n"}}"#;
        let wire = [served(frame::PING, b"x"), served(frame::TEXT, welcome)].concat();
        for cut in 0..wire.len() {
            assert_eq!(first_message(&wire[..cut]), Ok(None), "{cut}");
        }
        let message = first_message(&wire).unwrap().unwrap();
        let expected = Instance { id: "a1".into(), display_name: "n".into() };
        assert_eq!(instance_of(&message), Ok(expected));
        let bye = served(frame::CLOSE, &[0x03, 0xf4, b'x']);
        assert_eq!(first_message(&bye), Err("closed by the server: 1012 x".to_owned()));
    }

    #[test]
    fn a_first_message_of_somebody_else_is_shown() {
        for message in ["hello", r#"{"type":"welcome"}"#, r#"{"service_identity":{"instance_id":7}}"#] {
            assert!(instance_of(message.as_bytes()).unwrap_err().contains("does not say"), "{message}");
        }
    }

    #[test]
    fn health_is_read_with_and_without_a_length() {
        let check = |input: &str, status: u16, name: &str| {
            let health = parse_health(input.as_bytes()).unwrap();
            assert_eq!((health.status, health.body["status"].as_str()), (status, Some(name)), "{input}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"up\"}more", 200, "up");
        check("HTTP/1.0 503 No\r\n\r\n{\"status\":\"down\"}", 503, "down");
        assert!(parse_health(b"SSH-2.0-x\r\n\r\n").is_none());
        assert!(whole_response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").is_none());
    }
}
