//! A server that does what a test tells it, connection by connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::node::DEADLINE;

/// A listener that accepts when asked.
pub(super) struct Scripted {
    listener: TcpListener,
}

/// A connection on which the handshake was done.
pub(super) struct Peer {
    socket: WebSocket<TcpStream>,
}

impl Scripted {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Scripted { listener }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}/ws", self.address())
    }

    /// Waits for the next connection.
    pub(super) fn connection(&self) -> TcpStream {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(DEADLINE)).unwrap();
                    stream.set_write_timeout(Some(DEADLINE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    return stream;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "no connection in time");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Accepts the next connection and its handshake.
    pub(super) fn accept(&self) -> Peer {
        Peer { socket: tungstenite::accept(self.connection()).unwrap() }
    }

    /// Answers the next handshake with these lines.
    pub(super) fn refuse(&self, head: &str) {
        let mut stream = self.connection();
        let mut request = Vec::new();
        while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the request is cut short");
            request.extend_from_slice(&bytes[..count]);
        }
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

impl Peer {
    pub(super) fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// The next message; pings are answered on the way.
    pub(super) fn receive(&mut self) -> Message {
        loop {
            match self.socket.read().unwrap() {
                Message::Ping(_) => self.socket.flush().unwrap(),
                message => return message,
            }
        }
    }

    /// Closes with a handshake.
    pub(super) fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.socket.close(Some(frame)).unwrap();
        while self.socket.read().is_ok() {}
    }

    /// Waits for the client's close frame, and answers it or does not.
    pub(super) fn closed(&mut self, answer: bool) -> u16 {
        loop {
            if let Message::Close(frame) = self.socket.read().unwrap() {
                if answer {
                    // It says that the connection is closed.
                    let _ = self.socket.flush();
                    // The server is the first to end the connection (RFC 6455, section 7.1.1).
                    self.socket.get_ref().shutdown(Shutdown::Both).unwrap();
                }
                return frame.map_or(1005, |frame| frame.code.into());
            }
        }
    }

    /// Another handle of its stream, for bytes as they are. The stream ends when this peer is dropped.
    pub(super) fn another_end(&self) -> TcpStream {
        self.socket.get_ref().try_clone().unwrap()
    }

    /// Waits for a ping and answers it.
    pub(super) fn ping_is_answered(&mut self) {
        assert!(matches!(self.socket.read().unwrap(), Message::Ping(_)));
        self.socket.flush().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }
}
