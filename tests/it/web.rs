//! An HTTP client that shows what is on the wire, or what TLS hands over.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::node::DEADLINE;

/// A connection, and what came on it and was not used yet.
pub(crate) struct Web {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
    /// What everything goes through, on a connection that speaks TLS.
    pub(crate) tls: Option<Box<ClientConnection>>,
}

/// A response as it stood on the wire.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Web {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// A connection whose kernel holds no more than about `bytes` in either direction.
    pub(crate) fn connect_narrow(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        // The receiving window is agreed on at the start.
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.set_send_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    /// A connection from this address of the loopback.
    pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    /// A connection that was made already.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Web { stream, buffer: Vec::new(), tls: None }
    }

    /// The same connection, on which TLS is spoken from now on.
    pub(crate) fn secure(mut self, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(config.clone(), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// Writes bytes as they are, or through TLS.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).unwrap();
    }

    /// As [`Web::send`], where the peer may not take them any more.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.tls.as_deref_mut() {
            None => self.stream.write_all(bytes),
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).write_all(bytes),
        }
    }

    /// Sends no more.
    pub(crate) fn shut(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            tls.write_tls(&mut self.stream).unwrap();
        }
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a request with further header lines, each ended, and reads the response.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let length = body.len();
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: node\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ));
        if method == "HEAD" { self.head() } else { self.response() }
    }

    /// The next response with its body.
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.head();
        let length: usize = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            assert!(self.read_more(), "the body is cut short");
        }
        response.body = self.buffer.drain(..length).collect();
        response
    }

    /// The next response as far as its head.
    pub(crate) fn head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            assert!(self.read_more(), "no response: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        });
        Response { status: status[..3].parse().unwrap(), headers: headers.collect(), body: Vec::new() }
    }

    /// Waits for bytes; false at the end of the stream, of which TLS has to be told.
    pub(crate) fn read_more(&mut self) -> bool {
        match self.try_read_more() {
            Ok(has_more) => has_more,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing to read: {error}"),
        }
    }

    /// As [`Web::read_more`], and how the stream broke if it did.
    pub(crate) fn try_read_more(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        let count = loop {
            let count = match self.tls.as_deref_mut() {
                None => self.stream.read(&mut bytes),
                Some(tls) => rustls::Stream::new(tls, &mut self.stream).read(&mut bytes),
            };
            // A read with a timeout ends so when its process was frozen for a while.
            if !count.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
                break count?;
            }
        };
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// Waits for the end of the stream, before which nothing more may come.
    pub(crate) fn assert_ends(&mut self) {
        assert!(!self.read_more() && self.buffer.is_empty(), "{:?}", String::from_utf8_lossy(&self.buffer));
    }
}
