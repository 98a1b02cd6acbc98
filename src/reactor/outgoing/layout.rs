//! The broadcasts of a turn as they stand one behind the other, once for a whole audience.
//!
//! Owns: [`Layout`], and how its frames move to the queue of a socket that did
//! not take them all. Never: whose they are, or what else they are owed.

use bytes::Bytes;

use super::{KEPT_ENTRIES, Piece};
use crate::limits::{OUTBOUND_COPY_BYTES, SHARED_BYTES};
use crate::reactor::outbound::Outbound;

/// The broadcasts of a turn for one audience.
#[derive(Default)]
pub(super) struct Layout {
    /// The frames.
    pub(super) bytes: Vec<u8>,
    /// Where each ends.
    pub(super) ends: Vec<usize>,
    /// The same bytes, reference counted; made when the first socket leaves
    /// so much over that sharing beats copying.
    pub(super) frozen: Option<Bytes>,
}

impl Layout {
    /// Lays out one more frame.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        self.frozen = None;
    }

    /// Where the frame of this number begins, or would.
    pub(super) fn start_of(&self, frame: u32) -> usize {
        match frame {
            0 => 0,
            frame => self.ends[frame as usize - 1],
        }
    }

    /// Moves the frames of `piece` behind its first `begun` bytes to the queue.
    /// A frame that was begun is always finished; others only while there is
    /// room. The number that found none.
    pub(super) fn enqueue(
        &mut self,
        piece: &Piece,
        begun: usize,
        outbound: &mut Outbound,
        bytes_max: usize,
    ) -> u32 {
        let (from, end) = (piece.start + begun, piece.start + piece.len);
        let first = self.ends.partition_point(|&frame_end| frame_end <= from);
        let last = self.ends.partition_point(|&frame_end| frame_end <= end);
        let room_end = from + bytes_max.saturating_sub(outbound.bytes());
        let fitting = self.ends[first..last].partition_point(|&frame_end| frame_end <= room_end);
        let must = usize::from(self.start_of(first as u32) < from);
        let taken = fitting.max(must);
        if taken > 0 {
            self.move_to(outbound, from, self.ends[first + taken - 1]);
        }
        (last - first - taken) as u32
    }

    fn move_to(&mut self, outbound: &mut Outbound, from: usize, to: usize) {
        if to - from <= OUTBOUND_COPY_BYTES {
            return outbound.copy(&self.bytes[from..to]);
        }
        let frozen = self.frozen.get_or_insert_with(|| Bytes::copy_from_slice(&self.bytes));
        outbound.share(frozen.slice(from..to));
    }

    /// Forgets the turn.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.frozen = None;
    }

    /// Gives back what an unusual turn needed.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to(SHARED_BYTES);
        self.ends.shrink_to(KEPT_ENTRIES);
    }
}
