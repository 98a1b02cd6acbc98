//! The row of a pair: a client's connection and, once it is picked, its
//! backend's.
//!
//! Owns: [`Pair`]. What is not needed while both sides are idle hangs off it in
//! boxes that are given back: [`Opening`] until the handshake is done, [`Held`]
//! while one side takes less than the other sends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;

use super::timers::{Millis, NEVER};
use crate::balancer::ended::Ended;
use crate::balancer::frames::Frames;
use crate::balancer::head::Asked;
use crate::balancer::roster::{Backend, BackendId};
use crate::reactor::conn_table::Row;
use crate::trace::TraceId;

/// What is missing of an answer that ends with its connection, and of a stream of frames.
pub(super) const UNTIL_CLOSE: u64 = u64::MAX;

/// One end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Backend,
}

impl Side {
    /// The end that is sent what comes from this one.
    pub(super) fn other(self) -> Side {
        match self {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        }
    }
}

/// What is known of one end's socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    /// More may be there to be read; edge-triggered readiness says so once.
    pub(super) readable: bool,
    /// The kernel said that the peer ended its direction; reading gets there.
    pub(super) closing: bool,
    /// The peer's direction was read to its end.
    pub(super) eof: bool,
    /// Our direction was shut.
    pub(super) shut: bool,
    /// What comes is thrown away.
    pub(super) ignored: bool,
}

/// Where a pair is in its life.
#[derive(Debug)]
pub(super) enum Stage {
    /// The client's request is read, a backend picked, its answer waited for.
    Opening(Box<Opening>),
    /// Bytes go both ways.
    Open,
    /// The client is owed nothing but what is held for it, perhaps a close
    /// frame, and an end of file.
    Parting,
    /// The backend is lost; the client is told when it is its turn.
    Bereft,
    /// The answer to a request of the API is being found out.
    Asking,
    /// Sent events as they happen.
    Listening,
    /// Over; the slot is freed at the end of the turn.
    Dead,
}

/// How far an opening pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A PROXY header is to come first.
    Proxy,
    /// The request is being read.
    Head,
    /// All backends are full.
    Queued,
    /// A connection to the backend is being made.
    Connecting,
    /// The backend has been sent the request.
    Answering,
}

/// What is needed until a pair is open.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) step: Step,
    /// The other end of the connection, by its socket or its PROXY header.
    pub(super) peer: SocketAddr,
    /// What the client has sent: the request and perhaps what follows.
    pub(super) request: Vec<u8>,
    /// What the backend is sent before TLS begins: a PROXY header, perhaps.
    pub(super) preface: Vec<u8>,
    /// What the backend is sent first.
    pub(super) forward: Vec<u8>,
    /// Bytes of body at its end.
    pub(super) follows: usize,
    /// What followed the request for a WebSocket, for a backend that agrees to it.
    pub(super) early: Box<[u8]>,
    /// Bytes of `forward` that it has taken.
    pub(super) forwarded: usize,
    /// What the backend has answered so far.
    pub(super) answer: Vec<u8>,
    /// Interim answers that were passed on.
    pub(super) interim_answers: u8,
    /// Backends that failed this client.
    pub(super) tried: Vec<BackendId>,
    /// The user, for picking.
    pub(super) user: Option<String>,
    /// What was asked for.
    pub(super) asked: Asked,
    /// Whether the request may be sent to another backend after it was sent to one.
    pub(super) is_repeatable: bool,
    /// Whether the client was told to send the body it holds back.
    pub(super) is_invited: bool,
    /// When the client is told that there is no backend, whatever step it is at.
    pub(super) queued_until: Millis,
}

impl Opening {
    fn new(step: Step, peer: SocketAddr) -> Box<Opening> {
        Box::new(Opening {
            step,
            peer,
            request: Vec::new(),
            preface: Vec::new(),
            forward: Vec::new(),
            follows: 0,
            early: Box::default(),
            forwarded: 0,
            answer: Vec::new(),
            interim_answers: 0,
            tried: Vec::new(),
            user: None,
            asked: Asked::Plain,
            is_repeatable: false,
            is_invited: false,
            queued_until: NEVER,
        })
    }
}

/// Bytes one side did not take yet, by the side they are for.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) to_client: Vec<u8>,
    pub(super) to_backend: Vec<u8>,
}

impl Held {
    pub(super) fn of(&mut self, side: Side) -> &mut Vec<u8> {
        match side {
            Side::Client => &mut self.to_client,
            Side::Backend => &mut self.to_backend,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.to_client.is_empty() && self.to_backend.is_empty()
    }
}

/// Who a client is, as far as it said.
#[derive(Debug)]
pub(super) struct Client {
    /// Where it connects from, behind trusted proxies.
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    /// The trace its request belongs to, if it said so.
    pub(super) trace: Option<TraceId>,
    /// When it connected, milliseconds since the Unix epoch.
    pub(super) since: u64,
    /// `client_id`, else `user_id`, else `name` of its query; `None`: its
    /// connection names it.
    pub(super) id: Option<Box<str>>,
    /// `user_id`, if that is not its id.
    pub(super) user_id: Option<Box<str>>,
    /// `name`, if that is not its id.
    pub(super) name: Option<Box<str>>,
    /// Which of the three the id is.
    pub(super) known_by: KnownBy,
}

impl Client {
    /// Where it connects from.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// What a client's id was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownBy {
    ClientId,
    UserId,
    Name,
    Connection,
}

/// One row of a reactor's table.
pub(super) struct Pair {
    pub(super) client: TcpStream,
    pub(super) backend: Option<TcpStream>,
    /// The backend where a place is taken.
    pub(super) at: Option<Arc<Backend>>,
    /// `None` before the request was read.
    pub(super) info: Option<Box<Client>>,
    pub(super) stage: Stage,
    pub(super) held: Option<Box<Held>>,
    /// Where the frames of the backend's stream end.
    pub(super) frames: Frames,
    pub(super) client_end: End,
    pub(super) backend_end: End,
    /// Bytes passed on.
    pub(super) to_backend: u64,
    pub(super) to_client: u64,
    /// When it is to be looked at.
    pub(super) due: Millis,
    /// When anything was last passed on, for the idle timeout.
    pub(super) active_at: Millis,
    pub(super) generation: u32,
    /// Bytes the client may still send of a plain request.
    pub(super) body_left: u32,
    /// Bytes that are missing of the body of an answer; not 0 for what is no answer.
    pub(super) answer_left: u64,
    /// Whether a WebSocket is spoken.
    pub(super) is_websocket: bool,
    /// It is to be closed as soon as the backend's stream is between two frames.
    pub(super) is_due: bool,
    /// What it will have ended of, while it is parting.
    pub(super) parting: Ended,
    /// It stands in the list of pairs to go on with in the next turn.
    pub(super) is_waiting: bool,
}

impl Pair {
    pub(super) fn accepted(client: TcpStream, step: Step, peer: SocketAddr) -> Pair {
        Pair {
            client,
            backend: None,
            at: None,
            info: None,
            stage: Stage::Opening(Opening::new(step, peer)),
            held: None,
            frames: Frames::default(),
            client_end: End::default(),
            backend_end: End::default(),
            to_backend: 0,
            to_client: 0,
            due: NEVER,
            active_at: 0,
            generation: 0,
            body_left: 0,
            answer_left: UNTIL_CLOSE,
            is_websocket: false,
            is_due: false,
            parting: Ended::Answered,
            is_waiting: false,
        }
    }

    /// What of these bytes of the backend's belongs to its answer.
    pub(super) fn take_of_answer<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.answer_left == UNTIL_CLOSE {
            return bytes;
        }
        let count = usize::try_from(self.answer_left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.answer_left -= count as u64;
        &bytes[..count]
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client_end,
            Side::Backend => &mut self.backend_end,
        }
    }

    /// The socket of a side.
    pub(super) fn stream(&mut self, side: Side) -> Option<&mut TcpStream> {
        match side {
            Side::Client => Some(&mut self.client),
            Side::Backend => self.backend.as_mut(),
        }
    }

    /// What a side has not taken yet.
    pub(super) fn holds(&self, side: Side) -> bool {
        self.held.as_ref().is_some_and(|held| match side {
            Side::Client => !held.to_client.is_empty(),
            Side::Backend => !held.to_backend.is_empty(),
        })
    }

    /// The opening pair's step; `None` when it is past that.
    pub(super) fn step(&self) -> Option<Step> {
        match &self.stage {
            Stage::Opening(opening) => Some(opening.step),
            _ => None,
        }
    }

    pub(super) fn opening(&mut self) -> Option<&mut Opening> {
        match &mut self.stage {
            Stage::Opening(opening) => Some(opening),
            _ => None,
        }
    }
}

impl Row for Pair {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn is_dead(&self) -> bool {
        matches!(self.stage, Stage::Dead)
    }

    fn bury(&mut self) {
        self.stage = Stage::Dead;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle pair costs of the process's memory is this, what its client
    /// said of itself, and its two entries in the kernel.
    #[test]
    fn a_row_is_small() {
        assert!(size_of::<Pair>() <= 176, "{}", size_of::<Pair>());
        assert!(size_of::<Client>() <= 96, "{}", size_of::<Client>());
    }
}
