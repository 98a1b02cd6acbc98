//! The row of a connection: everything an idle one costs.
//!
//! Owns: [`Connection`], 64 bytes. What is not needed while idle hangs off it
//! in a box that is given back: [`Input`] and [`Outbound`].

use std::sync::Arc;

use mio::net::TcpStream;

use super::conn_table::Row;
use super::outbound::Outbound;
use crate::clock::Tick;
use crate::ws::assembler::Unfinished;
use crate::ws::close::CloseReason;
use crate::ws::deflate::Deflate;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Speaking HTTP; may ask for an upgrade.
    Http,
    /// A WebSocket in both directions.
    Open,
    /// We sent a close frame and wait for the peer's.
    CloseSent,
    /// Nothing more is read; it closes when the bytes owed are written.
    Flushing,
    /// All is written and our direction is shut; we wait for the peer's end of
    /// file, so that a reset cannot overtake the last bytes.
    Lingering,
    /// Over; the slot is freed at the end of the turn.
    Dead,
}

/// What a WebSocket connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// JSON messages, users, broadcasts: `/ws`.
    Hub,
    /// What comes in goes out: `/echo`.
    Echo,
}

/// Which layout of this turn's broadcasts a connection is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Broadcasts are not for it, or reach it in batches.
    None,
    /// Plain frames.
    Plain,
    /// Frames compressed once for all, with the full window.
    Deflated,
}

/// Bytes a connection has sent and we could not use yet.
#[derive(Default)]
pub struct Input {
    /// An unfinished request, or bytes behind one that waits for its answer,
    /// or frames left for later because the peer does not read our replies.
    pub bytes: Vec<u8>,
    /// Bytes the unfinished request will have, once its head says so; else 0.
    pub wanted: usize,
    /// An unfinished WebSocket frame or message.
    pub unfinished: Option<Box<Unfinished>>,
}

/// Messages counted in the present second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    second: u16,
    count: u16,
}

impl Rate {
    /// Counts one message; false when it is more than `max` in this second.
    /// 0 means no bound.
    pub fn admit(&mut self, now: Tick, max: u32) -> bool {
        if max == 0 {
            return true;
        }
        let second = (now.0 / (1000 / Tick::MS)) as u16;
        if second != self.second {
            *self = Rate { second, count: 0 };
        }
        // Looked at before it is counted: a bound may be all that fits the count.
        let admitted = u32::from(self.count) < max;
        self.count = self.count.saturating_add(u16::from(admitted));
        admitted
    }
}

/// One row of a reactor's table. `S` is the socket; benches and tests use others.
pub struct Connection<S = TcpStream> {
    /// The socket.
    pub stream: S,
    /// In `Open` the last sign of life; else when the phase began.
    pub mark: Tick,
    /// The user's id; `None` for HTTP, for `/echo` and for the anonymous, whose id follows from the row.
    pub user: Option<Arc<str>>,
    /// `None` while idle.
    pub input: Option<Box<Input>>,
    /// `None` while nothing is owed.
    pub outbound: Option<Box<Outbound>>,
    /// Place in this turn's list of debtors, or [`Connection::CLEAN`].
    pub debt: u32,
    /// Which use of the slot this is.
    pub generation: u32,
    /// Business messages sent in simulation mode.
    pub sequence: u32,
    /// For `messages_per_second`.
    pub rate: Rate,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it speaks once it is open.
    pub endpoint: Endpoint,
    /// How broadcasts reach it.
    pub audience: Audience,
    /// Pings sent since the last sign of life.
    pub pings: u8,
    /// What was negotiated by RFC 7692: 0 for nothing, else the server's window bits.
    deflate_bits: u8,
    /// See the constants.
    flags: u16,
    /// Why it is being closed, once it is.
    pub ending: Option<CloseReason>,
}

/// Facts about a connection that are true or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Flag {
    /// WRITABLE is armed.
    WritableArmed = 1,
    /// Its input is left unread until it has read our replies.
    ReadPaused = 2,
    /// An HTTP request waits for other reactors.
    Awaiting = 4,
    /// It asked for batches.
    Batching = 8,
    /// It is in the list of those to be read again in the next turn.
    ReadAgain = 16,
    /// The listener it came in by speaks WebSocket on any path.
    AnyPath = 32,
    /// An HTTP connection that has answered a request before.
    KeptAlive = 64,
    /// The peer sends no more: its close frame or its end of file was seen.
    PeerDone = 128,
    /// It became a WebSocket.
    WebSocket = 256,
    /// Its token does not let it send to everybody.
    BroadcastDenied = 1 << 14,
    /// Its token says to whom it may send.
    SendLimited = 1 << 15,
}

impl<S> Row for Connection<S> {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn is_dead(&self) -> bool {
        self.phase == Phase::Dead
    }

    fn bury(&mut self) {
        self.phase = Phase::Dead;
    }
}

impl<S> Connection<S> {
    /// The value of `debt` for a connection that owes nothing this turn.
    pub const CLEAN: u32 = u32::MAX;

    /// A connection that was just accepted.
    pub fn accepted(stream: S, now: Tick, any_path: bool) -> Self {
        Connection {
            stream,
            mark: now,
            user: None,
            input: None,
            outbound: None,
            debt: Self::CLEAN,
            generation: 0,
            sequence: 0,
            rate: Rate::default(),
            phase: Phase::Http,
            endpoint: Endpoint::Hub,
            audience: Audience::None,
            pings: 0,
            deflate_bits: 0,
            flags: if any_path { Flag::AnyPath as u16 } else { 0 },
            ending: None,
        }
    }

    /// Whether the fact holds.
    pub fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }

    /// States the fact.
    pub fn set(&mut self, flag: Flag, value: bool) {
        if value {
            self.flags |= flag as u16;
        } else {
            self.flags &= !(flag as u16);
        }
    }

    /// The server's window, when compression was agreed.
    pub fn deflate_bits(&self) -> Option<u8> {
        (self.deflate_bits != 0).then_some(self.deflate_bits)
    }

    /// Remembers what was agreed.
    pub fn agree_deflate(&mut self, agreed: Deflate) {
        self.deflate_bits = agreed.server_window_bits;
    }

    /// Bytes in its outbound queue.
    pub fn outbound_bytes(&self) -> usize {
        self.outbound.as_ref().map_or(0, |outbound| outbound.bytes())
    }

    /// Whether frames can still be queued for it.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The place where unusable bytes are kept, made when first needed.
    pub fn input_mut(&mut self) -> &mut Input {
        self.input.get_or_insert_default()
    }

    /// A sign of life.
    pub fn seen(&mut self, now: Tick) {
        self.mark = now;
        self.pings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_sixty_four_bytes() {
        // mio's stream is a descriptor, to which debug builds add bookkeeping of their own.
        type Row = Connection<std::os::fd::OwnedFd>;
        assert_eq!(size_of::<Row>(), 64);
        assert_eq!(size_of::<Option<Row>>(), 64, "the slab's vacant entries fit the row's niche");
    }

    #[test]
    fn the_rate_is_counted_per_second() {
        let mut rate = Rate::default();
        let admitted = |rate: &mut Rate, tick| (0..5).filter(|_| rate.admit(Tick(tick), 3)).count();
        assert_eq!(admitted(&mut rate, 100), 3);
        assert_eq!(admitted(&mut rate, 199), 0);
        assert_eq!(admitted(&mut rate, 200), 3);
        assert_eq!((0..100_000).filter(|_| rate.admit(Tick(300), 0)).count(), 100_000);
        assert_eq!(
            (0..100_000).filter(|_| rate.admit(Tick(400), 65_535)).count(),
            65_535,
            "the highest bound"
        );
    }
}
