//! A TCP stream with or without TLS, that counts what it reads and lets one turn read but so much.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use rustls::{ClientConnection, StreamOwned};

use crate::client::tls::Tls;

/// What a WebSocket is spoken over.
pub(super) struct Link {
    io: Io,
    /// Bytes read so far.
    pub(super) received: u64,
    /// Bytes that may be read until the next turn.
    allowance: usize,
}

enum Io {
    Plain(TcpStream),
    // Thousands of plain ones need not have room for it.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    /// A link over a connected stream; nothing is sent yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn new(stream: TcpStream, tls: Option<&Tls>) -> io::Result<Link> {
        let io = match tls {
            None => Io::Plain(stream),
            Some(tls) => {
                let connection = ClientConnection::new(tls.config.clone(), tls.server.clone());
                Io::Tls(Box::new(StreamOwned::new(connection.map_err(io::Error::other)?, stream)))
            }
        };
        Ok(Link { io, received: 0, allowance: usize::MAX })
    }

    /// A new turn: so many bytes may be read in it. A server can send frames
    /// without an end that make no message, for which a reader would go on for ever.
    pub(super) fn allow(&mut self, bytes: usize) {
        self.allowance = bytes;
    }

    /// Whether it said "later" although more may be there.
    pub(super) fn is_spent(&self) -> bool {
        self.allowance == 0
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_spent() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = match &mut self.io {
            Io::Plain(stream) => stream.read(buffer),
            Io::Tls(stream) => stream.read(buffer),
        }?;
        self.received += count as u64;
        self.allowance = self.allowance.saturating_sub(count);
        Ok(count)
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.io {
            Io::Plain(stream) => stream.write(bytes),
            Io::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.io {
            Io::Plain(stream) => stream.flush(),
            Io::Tls(stream) => stream.flush(),
        }
    }
}
