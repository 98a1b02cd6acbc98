//! A session together with its socket: what a reactor reads from and writes to.
//!
//! Owns: [`Channel`], which a reactor puts together for one call, and
//! [`Scratch`], the buffers that all its connections share. A channel takes as
//! many plain bytes as are offered until the socket is full: then what it has
//! sealed and the socket has not taken stays with the session, and an event
//! says when there is room again.

use std::io::{self, IoSlice, Write};

use super::session::Session;
use crate::limits::{READ_BUFFER_BYTES, TLS_KEPT_BYTES, TLS_SEAL_BYTES};

/// The buffers for sealed bytes of one reactor. Empty until there is a session.
#[derive(Default)]
pub struct Scratch {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    gathered: Vec<u8>,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Plain bytes in the buffer.
    pub count: usize,
    /// Whether the socket may hold more although no event will say so.
    pub more: bool,
    /// The peer will send no more.
    pub closed: bool,
}

/// One connection's session, its socket, and the buffers to work in.
pub struct Channel<'a, S> {
    /// The session.
    pub session: &'a mut Session,
    /// The socket; it does not block.
    pub socket: &'a mut S,
    /// The reactor's buffers.
    pub scratch: &'a mut Scratch,
}

impl<S: io::Read + Write> Channel<'_, S> {
    /// Reads once from the socket, and decrypts into `plain`, which has room
    /// for at least [`READ_BUFFER_BYTES`]. What the protocol answers is left
    /// with the session, unsent.
    ///
    /// # Errors
    /// Whatever the socket says; `InvalidData` when the peer broke the protocol.
    pub fn read(&mut self, plain: &mut [u8]) -> io::Result<Read> {
        if self.session.peer_has_closed() {
            return Ok(Read { count: 0, more: false, closed: true });
        }
        debug_assert!(plain.len() >= READ_BUFFER_BYTES);
        let incoming = &mut self.scratch.incoming;
        incoming.resize(TLS_KEPT_BYTES + READ_BUFFER_BYTES, 0);
        let kept = self.session.kept().len();
        let room = plain.len().min(incoming.len()) - kept;
        let count = self.socket.read(&mut incoming[kept..kept + room])?;
        if count == 0 {
            // Without a word of farewell: whoever needs to know has lengths of its own.
            return Ok(Read { count: 0, more: false, closed: true });
        }
        incoming[..kept].copy_from_slice(self.session.kept());
        let opened = self.session.open(&mut incoming[..kept + count], plain);
        let opened = opened.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Read { count: opened.plain, more: count == room, closed: opened.closed })
    }

    /// Sends what is unsent, unless the socket is full; whether all of it is sent.
    ///
    /// # Errors
    /// Whatever the socket says, `WouldBlock` and `Interrupted` excepted.
    pub fn send_unsent(&mut self) -> io::Result<bool> {
        if self.session.unsent_bytes() > 0 && !self.session.is_full() {
            self.begin();
            self.send()?;
        }
        Ok(self.session.unsent_bytes() == 0)
    }

    /// Says that we will send no more; whether that is sent.
    ///
    /// # Errors
    /// As [`Channel::send_unsent`].
    pub fn close(&mut self) -> io::Result<bool> {
        self.session.close();
        self.send_unsent()
    }

    /// What is unsent goes before anything else.
    fn begin(&mut self) {
        self.scratch.outgoing.clear();
        self.scratch.outgoing.append(&mut self.session.take_unsent());
    }

    /// One system call. What the socket does not take is unsent, and the socket full.
    fn send(&mut self) -> io::Result<()> {
        let outgoing = &self.scratch.outgoing;
        let sent = loop {
            match self.socket.write(outgoing) {
                Ok(sent) => break sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        self.session.leave_unsent(&outgoing[sent..]);
        Ok(())
    }

    /// Seals and sends chunks, several at once while they fit, until the socket is full.
    fn take<'b>(&mut self, chunks: impl Iterator<Item = &'b [u8]>) -> io::Result<usize> {
        let mut chunks = chunks.filter(|chunk| !chunk.is_empty()).peekable();
        let mut taken = 0;
        while !self.session.is_full() && chunks.peek().is_some() {
            self.begin();
            let fits = |room: usize, chunk: &&[u8]| room == 0 || room + chunk.len() <= TLS_SEAL_BYTES;
            while let Some(chunk) = chunks.next_if(|chunk| fits(self.scratch.outgoing.len(), chunk)) {
                let sealed = self.session.seal(chunk, &mut self.scratch.outgoing);
                sealed.map_err(|error| io::Error::new(io::ErrorKind::NotConnected, error))?;
                taken += chunk.len();
            }
            self.send()?;
        }
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}

impl<S: io::Read + Write> Write for Channel<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes.chunks(TLS_SEAL_BYTES))
    }

    /// Little is gathered first: a record for each slice would cost more than the copy.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total > TLS_SEAL_BYTES || slices.len() == 1 {
            return self.take(slices.iter().flat_map(|slice| slice.chunks(TLS_SEAL_BYTES)));
        }
        let mut gathered = std::mem::take(&mut self.scratch.gathered);
        gathered.clear();
        slices.iter().for_each(|slice| gathered.extend_from_slice(slice));
        let taken = self.take(std::iter::once(&gathered[..]));
        self.scratch.gathered = gathered;
        taken
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
