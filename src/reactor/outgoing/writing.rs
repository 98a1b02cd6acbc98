//! What a connection is owed, once listed, on its way to the socket: in as few
//! system calls as it takes, and what is left over to the connection's queue.
//!
//! Never: which pieces are listed.

use std::io::{self, IoSlice, Write};

use super::{Outgoing, Piece, Source};
use crate::limits::IOVECS_MAX;
use crate::reactor::outbound::Outbound;

/// How far into the listed pieces writing has come.
#[derive(Clone, Copy, Default)]
struct Place {
    piece: usize,
    begun: usize,
}

impl Outgoing {
    /// Bytes of all that is listed.
    pub(super) fn listed_bytes(&self) -> usize {
        self.owed.iter().map(|piece| piece.len).sum()
    }

    fn bytes(&self, piece: &Piece) -> &[u8] {
        let all: &[u8] = match piece.source {
            Source::Arena => &self.arena,
            Source::Held(index) => &self.held[index as usize],
            Source::Plain => &self.plain.bytes,
            Source::Deflated => &self.deflated.bytes,
        };
        &all[piece.start..piece.start + piece.len]
    }

    /// Writes what is listed until it is written or the socket is full; the bytes written.
    pub(super) fn write<S: Write>(&self, socket: &mut S) -> io::Result<usize> {
        let mut written = 0;
        let mut at = Place::default();
        while at.piece < self.owed.len() {
            let (taken, wanted) = self.write_once(at, socket)?;
            written += taken;
            if taken < wanted {
                break;
            }
            at = self.advance(at, taken);
        }
        Ok(written)
    }

    /// One system call: bytes taken (0 when the socket is full) and bytes offered.
    /// A stream socket that takes less than offered is full.
    fn write_once<S: Write>(&self, at: Place, socket: &mut S) -> io::Result<(usize, usize)> {
        // One piece is the usual case, and spares clearing the list of slices.
        if let [piece] = &self.owed[at.piece..] {
            let bytes = &self.bytes(piece)[at.begun..];
            return Ok((take(|| socket.write(bytes))?, bytes.len()));
        }
        let mut slices = [IoSlice::new(&[]); IOVECS_MAX];
        let mut count = 0;
        let mut wanted = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.owed[at.piece..]) {
            let bytes = self.bytes(piece);
            *slice = IoSlice::new(if count == 0 { &bytes[at.begun..] } else { bytes });
            wanted += slice.len();
            count += 1;
        }
        Ok((take(|| socket.write_vectored(&slices[..count]))?, wanted))
    }

    fn advance(&self, mut at: Place, mut count: usize) -> Place {
        while let Some(piece) = self.owed.get(at.piece) {
            let rest = piece.len - at.begun;
            if count < rest {
                at.begun += count;
                break;
            }
            count -= rest;
            at = Place { piece: at.piece + 1, begun: 0 };
        }
        at
    }

    /// Moves all that is listed behind the first `written` bytes to the queue;
    /// the broadcast frames that found no room.
    pub(super) fn enqueue(&mut self, written: usize, outbound: &mut Outbound, bytes_max: usize) -> u32 {
        let mut dropped = 0;
        let mut at = self.advance(Place::default(), written);
        while let Some(&piece) = self.owed.get(at.piece) {
            match piece.source {
                // Whether there is room was asked before these were laid out.
                Source::Arena => outbound.copy(&self.bytes(&piece)[at.begun..]),
                Source::Held(index) => outbound.share(self.held[index as usize].slice(at.begun..)),
                Source::Plain => dropped += self.plain.enqueue(&piece, at.begun, outbound, bytes_max),
                Source::Deflated => dropped += self.deflated.enqueue(&piece, at.begun, outbound, bytes_max),
            }
            at = Place { piece: at.piece + 1, begun: 0 };
        }
        dropped
    }
}

/// Bytes a socket took; 0 when it is full.
fn take(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => return Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
