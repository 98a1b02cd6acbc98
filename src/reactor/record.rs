//! What is kept of each connection for the one line that the log has about its
//! end: since when it was there, what it carried, who it was.
//!
//! Owns: [`Records`]. Rows exist only while ends are logged at level `debug`;
//! otherwise nothing is kept, and a look into the empty list is all it costs.
//! Never: what decides anything.

use std::net::IpAddr;

use crate::clock::Tick;
use crate::trace::TraceId;

/// One connection's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Which use of the slot it is about.
    generation: u32,
    /// When it was accepted.
    pub(super) opened: Tick,
    /// Bytes read from its socket.
    pub(super) received_bytes: u64,
    /// Bytes written to its socket.
    pub(super) sent_bytes: u64,
    /// Whose it is, where proxies are trusted as they say.
    pub(super) client: Option<IpAddr>,
    /// The trace its handshake belongs to (W3C Trace Context), if it said so.
    pub(super) trace: Option<TraceId>,
}

/// By slot; a slot may hold what an earlier connection left.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<Record>);

impl Records {
    /// A connection was accepted. With `wanted` its record begins, without it
    /// all there are are given back.
    pub(super) fn begin(&mut self, wanted: bool, slot: u32, generation: u32, now: Tick) {
        if !wanted {
            if !self.0.is_empty() {
                self.0 = Vec::new();
            }
            return;
        }
        let slot = slot as usize;
        if self.0.len() <= slot {
            self.0.resize(slot + 1, Record::default());
        }
        self.0[slot] = Record { generation, opened: now, ..Record::default() };
    }

    /// So many bytes were read.
    pub(super) fn received(&mut self, slot: u32, bytes: usize) {
        if let Some(record) = self.0.get_mut(slot as usize) {
            record.received_bytes += bytes as u64;
        }
    }

    /// So many bytes were written.
    pub(super) fn sent(&mut self, slot: u32, bytes: usize) {
        if let Some(record) = self.0.get_mut(slot as usize) {
            record.sent_bytes += bytes as u64;
        }
    }

    /// What its handshake said of it.
    pub(super) fn introduce(&mut self, slot: u32, client: IpAddr, trace: Option<&str>) {
        if let Some(record) = self.0.get_mut(slot as usize) {
            record.client = Some(client);
            record.trace = trace.and_then(TraceId::of);
        }
    }

    /// Takes the record of a connection, unless it began before records were kept.
    pub(super) fn take(&mut self, slot: u32, generation: u32) -> Option<Record> {
        let record = self.0.get_mut(slot as usize).filter(|record| record.generation == generation)?;
        Some(std::mem::take(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_that_of_one_connection() {
        let mut records = Records::default();
        records.begin(true, 3, 7, Tick(10));
        records.received(3, 5);
        records.sent(3, 6);
        records.sent(4, 100);
        assert_eq!(records.take(3, 8), None, "another use of the slot");
        let record = records.take(3, 7).expect("kept");
        assert_eq!((record.opened, record.received_bytes, record.sent_bytes), (Tick(10), 5, 6));
        assert_eq!(records.take(3, 7), None, "taken");
        records.begin(true, 3, 9, Tick(11));
        assert_eq!(records.take(3, 9).map(|record| record.received_bytes), Some(0));
    }

    #[test]
    fn nothing_is_kept_unless_it_is_wanted() {
        let mut records = Records::default();
        records.begin(false, 3, 7, Tick(0));
        records.received(3, 5);
        assert_eq!((records.0.capacity(), records.take(3, 7)), (0, None));
        records.begin(true, 3, 7, Tick(0));
        records.begin(false, 4, 8, Tick(0));
        assert_eq!((records.0.capacity(), records.take(3, 7)), (0, None), "given back");
    }
}
