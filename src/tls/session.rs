//! One TLS connection without a socket: sealed bytes in, plain bytes out, and
//! the other way round.
//!
//! Owns: [`Session`]. It holds no buffer while nothing is under way: what comes
//! in is decrypted in the caller's buffers, and only an unfinished record, or
//! bytes the socket did not take, have a place of their own, given back when
//! empty. Never: which certificate, or when to read.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::EncryptError;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};

use super::steps::{Step, Wish, Work, take_step};
use crate::http::Response;
use crate::limits::TLS_KEPT_BYTES;

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum TlsError {
    /// The peer broke the protocol, or was not who it should be.
    Protocol(rustls::Error),
    /// It sent a record or a handshake larger than is taken.
    TooLarge,
    /// It speaks HTTP as it is; it was told so in the same way.
    NotTls,
    /// Its keys are used up, or there are none yet.
    NoKeys,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Protocol(error) => error.fmt(f),
            TlsError::TooLarge => write!(f, "more than {TLS_KEPT_BYTES} bytes without an end"),
            TlsError::NotTls => f.write_str("it speaks plain HTTP"),
            TlsError::NoKeys => f.write_str("there are no keys to write with"),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        TlsError::Protocol(error)
    }
}

impl From<EncryptError> for TlsError {
    fn from(_: EncryptError) -> Self {
        // The buffer is made as large as is asked for.
        TlsError::NoKeys
    }
}

/// What sealed bytes came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Plain bytes, at the front of the buffer for them.
    pub plain: usize,
    /// The peer will send no more (RFC 8446, section 6.1).
    pub closed: bool,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// One TLS connection. Not thread-safe: it belongs to one reactor.
pub struct Session {
    side: Side,
    /// A record or a handshake message that is not whole yet.
    kept: Vec<u8>,
    /// Sealed bytes for the peer that the socket has not taken.
    unsent: Vec<u8>,
    /// Something has come in.
    has_begun: bool,
    /// The peer said that it will send no more.
    peer_closed: bool,
    /// We said so.
    closed: bool,
    /// The socket took less than it was offered, and no event has said since that it takes more.
    full: bool,
}

impl Session {
    /// The server's end of a new connection.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Session, TlsError> {
        Ok(Session::new(Side::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// The client's end of a new connection to `name`. Its first bytes are to be sent at once.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, TlsError> {
        let mut session = Session::new(Side::Client(UnbufferedClientConnection::new(config, name)?));
        session.open(&mut [], &mut [])?;
        Ok(session)
    }

    fn new(side: Side) -> Session {
        Session {
            side,
            kept: Vec::new(),
            unsent: Vec::new(),
            has_begun: false,
            peer_closed: false,
            closed: false,
            full: false,
        }
    }

    /// Whether the handshake is over.
    pub fn is_established(&self) -> bool {
        match &self.side {
            Side::Server(server) => !server.is_handshaking(),
            Side::Client(client) => !client.is_handshaking(),
        }
    }

    /// Whether the peer said that it will send no more.
    pub fn peer_has_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether the keys come from an earlier connection.
    pub fn is_resumed(&self) -> bool {
        let kind = match &self.side {
            Side::Server(server) => server.handshake_kind(),
            Side::Client(client) => client.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// Bytes that came in and could not be used yet: they go before the next
    /// that are handed to [`Session::open`]. At most [`TLS_KEPT_BYTES`].
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// How many sealed bytes wait for the socket.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Takes what waits for the socket.
    pub fn take_unsent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unsent)
    }

    /// What the socket did not take of what it was offered.
    pub fn leave_unsent(&mut self, rest: &[u8]) {
        debug_assert!(self.unsent.is_empty());
        self.unsent = rest.to_vec();
        self.full = !rest.is_empty();
    }

    /// Whether the socket is full: nothing is to be offered to it.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// An event says that the socket takes bytes again.
    pub fn has_room(&mut self) {
        self.full = false;
    }

    /// Opens `sealed`, which begins with [`Session::kept`]. What is decrypted is
    /// written to `plain`, which is at least as long; what is to be answered is
    /// left unsent, also when an error is returned.
    ///
    /// # Errors
    /// The connection cannot go on; what is unsent tells the peer why.
    pub fn open(&mut self, sealed: &mut [u8], plain: &mut [u8]) -> Result<Opened, TlsError> {
        debug_assert!(sealed.starts_with(&self.kept) && plain.len() >= sealed.len());
        if !self.has_begun && !sealed.is_empty() {
            self.has_begun = true;
            self.refuse_http(sealed[0])?;
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        let mut work = Work { wish: Wish::Nothing, plain, filled: 0, out: &mut unsent, peer_closed: false };
        let used = self.advance(sealed, &mut work);
        let (plain, peer_closed) = (work.filled, work.peer_closed);
        self.unsent = unsent;
        self.peer_closed |= peer_closed;
        self.keep(&sealed[used?..])?;
        Ok(Opened { plain, closed: self.peer_closed })
    }

    /// Whoever speaks HTTP to this port by mistake is told what is wrong in a
    /// way that they can read. No record begins with a letter (RFC 8446, section 5.1).
    fn refuse_http(&mut self, first: u8) -> Result<(), TlsError> {
        match &self.side {
            Side::Server(_) if first.is_ascii_uppercase() => {
                let refusal = Response::error(400, "this port speaks TLS; use https:// or wss://");
                refusal.write_to(&mut self.unsent, false, false);
                Err(TlsError::NotTls)
            }
            _ => Ok(()),
        }
    }

    /// Seals `plain` and appends it to `out`, behind what the protocol itself has to say.
    ///
    /// # Errors
    /// There are no keys: the handshake is not over, or the connection is.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.grant(Wish::Seal(plain), out)
    }

    /// Appends to what is unsent that we will send no more; once is enough.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        // Without keys there is nobody to tell it to.
        let _ = self.grant(Wish::Close, &mut unsent);
        self.unsent = unsent;
    }

    fn grant(&mut self, wish: Wish<'_>, out: &mut Vec<u8>) -> Result<(), TlsError> {
        // The protocol has seen what is kept, and is to see it again.
        let mut kept = std::mem::take(&mut self.kept);
        let mut work = Work { wish, plain: &mut [], filled: 0, out, peer_closed: false };
        let used = self.advance(&mut kept, &mut work);
        self.peer_closed |= work.peer_closed;
        kept.drain(..used?);
        self.kept = kept;
        Ok(())
    }

    /// Lets the protocol do what it can; how many of `bytes` it has used.
    fn advance(&mut self, bytes: &mut [u8], work: &mut Work<'_>) -> Result<usize, TlsError> {
        let mut at = 0;
        loop {
            let step = match &mut self.side {
                Side::Server(server) => {
                    take_step(server.process_tls_records(&mut bytes[at..]), &mut at, work)
                }
                Side::Client(client) => {
                    take_step(client.process_tls_records(&mut bytes[at..]), &mut at, work)
                }
            };
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Done) => return Ok(at),
                Err(error) => {
                    self.collect_alert(&mut bytes[at..], work.out);
                    return Err(error);
                }
            }
        }
    }

    /// After an error the protocol says why to the peer, behind what it had begun to say. It may not be asked for
    /// more than that: the bytes it failed at are still there.
    fn collect_alert(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) {
        let (mut at, mut plain) = (0, []);
        let mut work = Work { wish: Wish::Nothing, plain: &mut plain, filled: 0, out, peer_closed: false };
        while self.has_to_say() {
            let step = match &mut self.side {
                Side::Server(server) => take_step(server.process_tls_records(bytes), &mut at, &mut work),
                Side::Client(client) => take_step(client.process_tls_records(bytes), &mut at, &mut work),
            };
            if step.is_err() {
                return;
            }
        }
    }

    /// Whether the protocol holds records that it has not handed over.
    fn has_to_say(&self) -> bool {
        match &self.side {
            Side::Server(server) => server.wants_write(),
            Side::Client(client) => client.wants_write(),
        }
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), TlsError> {
        if rest.len() > TLS_KEPT_BYTES {
            return Err(TlsError::TooLarge);
        }
        // Of an empty one nothing is allocated, and what there was is given back.
        self.kept = rest.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
