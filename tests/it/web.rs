//! An HTTP client that shows what is on the wire.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::node::DEADLINE;

/// A connection, and what came on it and was not used yet.
pub(crate) struct Web {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
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

    /// A connection that was made already.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Web { stream, buffer: Vec::new() }
    }

    /// Writes bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends no more.
    pub(crate) fn shut(&mut self) {
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

    /// Waits for bytes; false at the end of the stream.
    pub(crate) fn read_more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing to read: {error}"),
        }
    }

    /// Waits for the end of the stream, before which nothing more may come.
    pub(crate) fn assert_ends(&mut self) {
        assert!(!self.read_more() && self.buffer.is_empty(), "{:?}", String::from_utf8_lossy(&self.buffer));
    }
}
