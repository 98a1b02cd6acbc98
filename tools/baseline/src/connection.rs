//! One connection: a handshake, then tungstenite. Never knows other connections.

use mio::net::TcpStream;
use std::io::{self, Read, Write};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// The largest handshake request that is taken in.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What a text must begin with to go to everybody.
const BROADCAST: &str = r#"{"type":"broadcast""#;
/// First message on /ws.
const WELCOME: &str = r#"{"type":"welcome"}"#;

/// A connection of the table.
pub(crate) enum Connection {
    /// The request has not arrived whole. The stream is taken out when tungstenite gets it.
    Handshake { stream: Option<TcpStream>, head: Vec<u8> },
    /// Messages flow.
    Open(Box<WebSocket<TcpStream>>),
}

/// How a connection stands after it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It waits for the next event.
    Waiting,
    /// It is over.
    Ended,
}

impl Connection {
    /// Reads until nothing is left, answers each message, and flushes once. Broadcasts are appended to `broadcasts`.
    pub(crate) fn serve(&mut self, config: WebSocketConfig, broadcasts: &mut Vec<Message>) -> Standing {
        if let Connection::Handshake { stream, head } = self {
            let received = stream.as_mut().map(|stream| receive_head(stream, head));
            match (received, stream) {
                (Some(Ok(true)), stream) => match upgrade(stream, head, config) {
                    Some(open) => *self = open,
                    None => return Standing::Ended,
                },
                (Some(Ok(false)), _) => return Standing::Waiting,
                (Some(Err(_)) | None, _) => return Standing::Ended,
            }
        }
        let Connection::Open(socket) = self else { return Standing::Waiting };
        let read = loop {
            let message = match socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => message,
                Ok(_) => continue,
                Err(error) => break error,
            };
            if matches!(&message, Message::Text(text) if text.starts_with(BROADCAST)) {
                broadcasts.push(message);
            } else if let Err(error) = socket.write(message)
                && !would_block(&error)
            {
                return Standing::Ended;
            }
        };
        let flushed = self.flush();
        if would_block(&read) { flushed } else { Standing::Ended }
    }

    /// Queues a message for an open connection.
    pub(crate) fn queue(&mut self, message: Message) -> Standing {
        match self {
            Connection::Open(socket) => match socket.write(message) {
                Err(error) if !would_block(&error) => Standing::Ended,
                _ => Standing::Waiting,
            },
            Connection::Handshake { .. } => Standing::Waiting,
        }
    }

    /// Writes what is queued.
    pub(crate) fn flush(&mut self) -> Standing {
        match self {
            Connection::Open(socket) => match socket.flush() {
                Err(error) if !would_block(&error) => Standing::Ended,
                _ => Standing::Waiting,
            },
            Connection::Handshake { .. } => Standing::Waiting,
        }
    }

    /// The socket, to be registered with the poll or taken out of it.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut TcpStream> {
        match self {
            Connection::Handshake { stream, .. } => stream.as_mut(),
            Connection::Open(socket) => Some(socket.get_mut()),
        }
    }
}

/// Answers the request whose head has arrived; None if it is not an upgrade.
fn upgrade(stream: &mut Option<TcpStream>, head: &[u8], config: WebSocketConfig) -> Option<Connection> {
    let end = head_end(head)?;
    let text = std::str::from_utf8(&head[..end]).ok()?;
    let accept = derive_accept_key(header(text, "sec-websocket-key")?.as_bytes());
    let greeted = text.split(' ').nth(1)?.starts_with("/ws");
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let mut stream = stream.take()?;
    stream.write_all(answer.as_bytes()).ok()?;
    let rest = head[end..].to_vec();
    let mut socket = WebSocket::from_partially_read(stream, rest, Role::Server, Some(config));
    if greeted {
        socket.write(Message::text(WELCOME)).ok()?;
    }
    Some(Connection::Open(Box::new(socket)))
}

/// Reads what is there; true once the head of the request is whole.
fn receive_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 2048];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => head.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if head_end(head).is_some() {
            return Ok(true);
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// Where the head ends and frames begin.
fn head_end(head: &[u8]) -> Option<usize> {
    head.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header of the request.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_and_its_fields_read() {
        let request = "GET /ws HTTP/1.1\r\nHost: a\r\nSEC-WebSocket-Key: k \r\n\r\nrest";
        assert_eq!(head_end(request.as_bytes()), Some(request.len() - 4));
        assert_eq!(head_end(&request.as_bytes()[..30]), None);
        assert_eq!(header(request, "sec-websocket-key"), Some("k"));
        assert_eq!(header(request, "origin"), None);
    }
}
