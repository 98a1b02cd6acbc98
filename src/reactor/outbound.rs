//! Bytes owed to one connection that its socket would not take.
//!
//! Owns: [`Outbound`], which exists only while something is owed. What is
//! small is copied and packed together; what is large is shared by reference.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

use crate::limits::{IOVECS_MAX, OUTBOUND_COPY_BYTES};

enum Chunk {
    Copied { bytes: Vec<u8>, sent: usize },
    Shared(Bytes),
}

impl Chunk {
    fn rest(&self) -> &[u8] {
        match self {
            Chunk::Copied { bytes, sent } => &bytes[*sent..],
            Chunk::Shared(bytes) => bytes,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Chunk::Copied { sent, .. } => *sent += count,
            Chunk::Shared(bytes) => bytes.advance(count),
        }
    }
}

/// A queue of bytes in the order they are to be sent.
#[derive(Default)]
pub struct Outbound {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Outbound {
    /// Bytes owed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends a copy.
    pub fn copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        if let Some(Chunk::Copied { bytes: last, .. }) = self.chunks.back_mut()
            && last.len() + bytes.len() <= 4 * OUTBOUND_COPY_BYTES
        {
            last.extend_from_slice(bytes);
            return;
        }
        self.chunks.push_back(Chunk::Copied { bytes: bytes.to_vec(), sent: 0 });
    }

    /// Appends by reference, or a copy when so little must not pin the whole buffer.
    pub fn share(&mut self, bytes: Bytes) {
        if bytes.len() <= OUTBOUND_COPY_BYTES {
            return self.copy(&bytes);
        }
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk::Shared(bytes));
    }

    /// Writes until all is written or the socket takes no more; the bytes written.
    ///
    /// # Errors
    /// Whatever the socket says, `WouldBlock` and `Interrupted` excepted.
    pub fn write_to(&mut self, socket: &mut impl Write) -> io::Result<usize> {
        let mut written = 0;
        while !self.is_empty() {
            match self.write_once(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    self.consume(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn write_once(&self, socket: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); IOVECS_MAX];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk.rest());
            count += 1;
        }
        socket.write_vectored(&slices[..count])
    }

    fn consume(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(chunk) = self.chunks.front_mut() {
            let rest = chunk.rest().len();
            if count < rest {
                return chunk.advance(count);
            }
            count -= rest;
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `step` bytes per call, `room` in all.
    struct Socket {
        taken: Vec<u8>,
        step: usize,
        room: usize,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.step).min(self.room - self.taken.len());
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let first = slices.iter().find(|slice| !slice.is_empty());
            first.map_or(Ok(0), |slice| self.write(slice))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_leave_in_order_however_the_socket_takes_them() {
        for step in [1, 7, 4096, 100_000] {
            for room in [0, 1, 5_000, 30_000] {
                let mut queue = Outbound::default();
                let mut expected = Vec::new();
                for part in 0..40_u8 {
                    let bytes = vec![part; usize::from(part) * 37];
                    expected.extend_from_slice(&bytes);
                    queue.copy(&bytes);
                    let large = Bytes::from(vec![part ^ 0xff; 5000]);
                    if part % 10 == 0 {
                        expected.extend_from_slice(&large);
                        queue.share(large);
                    }
                }
                assert_eq!(queue.bytes(), expected.len());
                let mut socket = Socket { taken: Vec::new(), step, room };
                let first = queue.write_to(&mut socket).unwrap();
                assert_eq!(first, room.min(expected.len()));
                assert_eq!(queue.bytes(), expected.len() - first);
                socket.room = usize::MAX;
                queue.write_to(&mut socket).unwrap();
                assert!(queue.is_empty() && queue.chunks.is_empty());
                assert!(socket.taken == expected, "step {step}, room {room}");
            }
        }
    }

    #[test]
    fn small_parts_share_a_chunk_and_never_pin_a_large_buffer() {
        let mut queue = Outbound::default();
        let large = Bytes::from(vec![0; 1 << 20]);
        for start in 0..100 {
            queue.share(large.slice(start..start + 10));
        }
        assert_eq!(queue.chunks.len(), 1);
        drop(queue);
        assert!(large.is_unique());
    }
}
