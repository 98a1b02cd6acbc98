//! HTTP on a connection: from bytes to answers, in order, kept alive.

use std::sync::Arc;

use super::asks::Asked;
use super::connection::{Flag, Input, Phase};
use super::{Reactor, Reader};
use crate::admin::api::{self, Answer, Caller, ClusterView, Snapshot};
use crate::drain;
use crate::forwarded;
use crate::http::{self, Head, Parsed, Response};
use crate::limits::HTTP_HEAD_BYTES;
use crate::metrics::Counter;
use crate::trace::{TRACEPARENT, TraceId};
use crate::ws::close::CloseReason;
use crate::ws::deflate::Inflater;
use crate::ws::handshake;

/// What became of the bytes at hand.
enum Served {
    /// They are no whole request yet; it has so many bytes, if that is known.
    NeedMore(usize),
    /// One request of so many bytes was answered.
    Answered(usize),
    /// One request of so many bytes waits for other reactors.
    Awaiting(usize),
    /// One request of so many bytes made this a WebSocket.
    Upgraded(usize),
    /// The connection ends; what follows is not read.
    Over,
}

/// How far a connection's requests were served.
struct Progress {
    /// Bytes that are done with.
    consumed: usize,
    /// Bytes the next request has, if that is known.
    wanted: usize,
}

impl Reactor {
    /// Takes `count` bytes from the reader of a connection that speaks HTTP.
    pub(super) fn take_request(&mut self, slot: u32, reader: &mut Reader, count: usize) {
        let now = self.now;
        let Some(row) = self.table.get(slot) else { return };
        let fresh = &mut reader.buffer[..count];
        match row.input.take() {
            None => {
                // The time for a request runs from its first byte.
                if row.is(Flag::KeptAlive) {
                    row.mark = now;
                }
                let progress = self.serve(slot, fresh, &mut reader.inflater);
                let rest = &fresh[progress.consumed..];
                if !rest.is_empty() {
                    self.keep_request(
                        slot,
                        Box::new(Input { bytes: rest.to_vec(), ..Input::default() }),
                        progress,
                    );
                }
            }
            Some(mut input) => {
                let before = input.bytes.len();
                input.bytes.extend_from_slice(fresh);
                if may_be_whole(&input, before) {
                    self.serve_kept(slot, input, &mut reader.inflater);
                } else {
                    row.input = Some(input);
                }
            }
        }
    }

    /// Goes on with bytes that were kept back.
    pub(super) fn resume_requests(&mut self, slot: u32, reader: &mut Reader) {
        let Some(row) = self.table.get(slot) else { return };
        if let Some(input) = row.input.take() {
            self.serve_kept(slot, input, &mut reader.inflater);
        }
    }

    fn serve_kept(&mut self, slot: u32, mut input: Box<Input>, inflater: &mut Inflater) {
        let progress = self.serve(slot, &mut input.bytes, inflater);
        input.bytes.drain(..progress.consumed);
        if !input.bytes.is_empty() {
            self.keep_request(slot, input, progress);
        }
    }

    fn keep_request(&mut self, slot: u32, mut input: Box<Input>, progress: Progress) {
        if let Some(row) = self.table.get(slot) {
            input.wanted = progress.wanted;
            row.input = Some(input);
        }
    }

    /// Serves the requests in `bytes`, in order, until one is incomplete or has to wait.
    fn serve(&mut self, slot: u32, bytes: &mut [u8], inflater: &mut Inflater) -> Progress {
        let all = bytes.len();
        let done = Progress { consumed: all, wanted: 0 };
        let mut at = 0;
        while at < all {
            match self.serve_one(slot, &bytes[at..]) {
                Served::NeedMore(wanted) => return Progress { consumed: at, wanted },
                Served::Answered(count) => at += count,
                Served::Awaiting(count) => return Progress { consumed: at + count, wanted: 0 },
                Served::Upgraded(count) => {
                    self.take_frames(slot, &mut bytes[at + count..], inflater);
                    return done;
                }
                Served::Over => return done,
            }
            if self.pauses_reading(slot) {
                return Progress { consumed: at, wanted: 0 };
            }
        }
        done
    }

    fn serve_one(&mut self, slot: u32, bytes: &[u8]) -> Served {
        let (head, head_len) = match http::parse(bytes) {
            Ok(Parsed::Complete { head, head_len }) => (head, head_len),
            Ok(Parsed::Partial) => return Served::NeedMore(0),
            Err(error) => {
                self.count(Counter::HttpRequests, 1);
                self.respond(slot, &error.into(), false, false);
                return self.over(slot, CloseReason::HttpRefused);
            }
        };
        let length = head_len + head.content_length;
        let Some(body) = bytes.get(head_len..length) else {
            if head.expects_continue && bytes.len() == head_len {
                self.write(slot, |out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
            }
            return Served::NeedMore(length);
        };
        if self.is_websocket(slot, &head) {
            return match self.upgrade(slot, &head) {
                Ok(()) => Served::Upgraded(length),
                Err(refusal) => self.answered(slot, &head, length, &refusal),
            };
        }
        self.count(Counter::HttpRequests, 1);
        match self.ask_api(slot, &head, body) {
            Answer::Now(response) => self.answered(slot, &head, length, &response),
            Answer::Ask(question) => {
                let (keep_alive, head_only) = (self.keeps(&head), head.method == "HEAD");
                let trace = head.header(TRACEPARENT).and_then(TraceId::of).map(Arc::new);
                let asked = Asked { question, keep_alive, head_only, trace };
                match self.ask(slot, asked) {
                    Some(response) => self.answered(slot, &head, length, &response),
                    None => Served::Awaiting(length),
                }
            }
        }
    }

    /// Whether the request is for a WebSocket, be it well formed or not.
    fn is_websocket(&mut self, slot: u32, head: &Head<'_>) -> bool {
        let any_path = self.table.get(slot).is_some_and(|row| row.is(Flag::AnyPath));
        any_path || handshake::is_upgrade(head) || matches!(head.path, "/ws" | "/echo")
    }

    fn ask_api(&mut self, slot: u32, head: &Head<'_>, body: &[u8]) -> Answer {
        let peer = self.table.get(slot).and_then(|row| row.stream.peer_addr().ok());
        let Some(peer) = peer else {
            return Answer::Now(Response::error(400, "the connection is gone"));
        };
        let caller =
            Caller { peer: peer.ip().to_canonical(), forwarded: forwarded::has_forwarding_header(head) };
        let timestamp = self.timestamp().to_owned();
        let phase = self.shared.phase();
        let overview = self.shared.overview.as_ref();
        let nodes = match head.path {
            "/nodes" | "/api/overview" => overview.map(|overview| overview.nodes()).unwrap_or_default(),
            _ => Vec::new(),
        };
        let cluster = overview.map(|overview| ClusterView { state: overview.state().name(), nodes: &nodes });
        let snapshot = Snapshot {
            cluster,
            identity: &self.shared.identity_json,
            service_name: &self.shared.service_name,
            version: self.shared.version,
            node_id: &self.shared.node_id,
            address: self.shared.advertised,
            timestamp: &timestamp,
            connections: self.shared.open.load(std::sync::atomic::Ordering::Relaxed) as u64,
            connections_max: self.config.max_connections as u64,
            phase: phase.name(),
            ready: phase == drain::Phase::Serving,
            metrics: &self.shared.metrics,
            admin_token: self.config.admin_token.as_ref().map(|token| token.expose()),
        };
        api::answer(head, body, &caller, &snapshot)
    }

    /// Whether the connection is kept for another request.
    fn keeps(&self, head: &Head<'_>) -> bool {
        head.keep_alive && self.shared.phase() < drain::Phase::Closing
    }

    fn answered(&mut self, slot: u32, head: &Head<'_>, length: usize, response: &Response) -> Served {
        let keep_alive = self.keeps(head);
        self.respond(slot, response, keep_alive, head.method == "HEAD");
        match keep_alive {
            true => Served::Answered(length),
            false => self.over(slot, CloseReason::HttpDone),
        }
    }

    fn over(&mut self, slot: u32, reason: CloseReason) -> Served {
        self.finish(slot, reason);
        Served::Over
    }

    /// Writes an answer; the connection has from now on to send its next request.
    pub(super) fn respond(&mut self, slot: u32, response: &Response, keep_alive: bool, head_only: bool) {
        let now = self.now;
        if let Some(row) = self.table.get(slot)
            && row.phase == Phase::Http
        {
            row.mark = now;
            row.set(Flag::KeptAlive, true);
            self.write(slot, |out| response.write_to(out, keep_alive, head_only));
        }
    }
}

/// Whether what is kept, of which the first `before` bytes were no whole
/// request, may be one now. A request that trickles in is parsed when its end
/// has come, not at each byte.
fn may_be_whole(input: &Input, before: usize) -> bool {
    let bytes = &input.bytes;
    if input.wanted > 0 {
        return bytes.len() >= input.wanted;
    }
    let fresh = &bytes[before.saturating_sub(3)..];
    bytes.len() >= HTTP_HEAD_BYTES || fresh.windows(4).any(|end| end == b"\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: &[u8], wanted: usize) -> Input {
        Input { bytes: bytes.to_vec(), wanted, ..Input::default() }
    }

    #[test]
    fn a_request_is_parsed_again_when_its_end_has_come() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 1..head.len() {
            assert!(!may_be_whole(&kept(&head[..end], 0), end - 1), "{end}");
        }
        assert!(may_be_whole(&kept(head, 0), head.len() - 1));
        assert!(
            may_be_whole(&kept(&[b'x'; HTTP_HEAD_BYTES], 0), HTTP_HEAD_BYTES - 1),
            "too long is said at once"
        );
        let body = [&head[..], b"body"].concat();
        assert!(!may_be_whole(&kept(&body, body.len() + 1), head.len()));
        assert!(may_be_whole(&kept(&body, body.len()), head.len()));
    }
}
