//! Every fixed bound, with its unit at the end of its name.
//!
//! What an operator may change is a configuration key and is bounded in
//! `config`; what is here is a property of the program.

use std::time::Duration;

/// Reactors in one node: a [`crate::ids::ReactorId`] is one byte.
pub const REACTORS_MAX: usize = 255;

/// The one buffer per reactor that sockets are read into.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Bytes read from one connection in one turn before others get theirs.
pub const READ_BUDGET_BYTES: usize = 4 * READ_BUFFER_BYTES;

/// Readiness events taken from the kernel in one turn.
pub const EVENTS_PER_TURN: usize = 1024;

/// Connections accepted from one listener in one turn.
pub const ACCEPTS_PER_TURN: usize = 256;

/// Messages a reactor's mailbox holds before `post` says `Full`.
pub const MAILBOX_MESSAGES: usize = 16 * 1024;

/// Bytes of payload those messages may hold on to.
pub const MAILBOX_BYTES: usize = 64 * 1024 * 1024;

/// Messages the cluster's mailbox holds.
pub const CLUSTER_MAILBOX_MESSAGES: usize = 64 * 1024;

/// Bytes of payload those messages may hold on to.
pub const CLUSTER_MAILBOX_BYTES: usize = 64 * 1024 * 1024;

/// Orders (drain, reload, stop) a reactor's control queue holds.
pub const CONTROL_MESSAGES: usize = 64;

/// Broadcast bytes laid out in one turn before they are written out.
pub const SHARED_BYTES: usize = 256 * 1024;

/// Private bytes laid out in one turn before they are written out.
pub const ARENA_BYTES: usize = 4 * 1024 * 1024;

/// Largest leftover that is copied into an outbound queue rather than kept by
/// reference: a small remainder must not pin a large buffer.
pub const OUTBOUND_COPY_BYTES: usize = 4 * 1024;

/// Bytes owed to a client from which on its own input is left unread.
pub const READ_PAUSE_BYTES: usize = 64 * 1024;

/// Buffers handed to one `writev`.
pub const IOVECS_MAX: usize = 64;

/// Plain bytes in a TLS record (RFC 8446, section 5.1).
pub const TLS_RECORD_BYTES: usize = 16 * 1024;

/// Bytes kept of a TLS record, or of a handshake's messages, that is not whole
/// yet: a record with what sealing adds, or a client's chain of certificates.
pub const TLS_KEPT_BYTES: usize = 32 * 1024;

/// Plain bytes that are sealed before they are written, so that the sealed ones
/// fit a buffer that is used for all.
pub const TLS_SEAL_BYTES: usize = 64 * 1024;

/// TLS handshakes that an address may begin for each WebSocket it may open: calls
/// of the API take one too, and so does whoever is refused politely.
pub const TLS_HANDSHAKES_PER_CONNECTION: u32 = 4;

/// TLS handshakes that an address may begin besides, so that probes find the
/// process alive however few WebSockets one address may open.
pub const TLS_HANDSHAKES_PER_SECOND: u32 = 1;

/// Steps of TLS handshakes in one turn, most of which cost a signature: the rest
/// wait for the next, so that a crowd of newcomers does not hold up who is connected.
pub const TLS_HANDSHAKES_PER_TURN: usize = 32;

/// A file of certificates or of a key.
pub const TLS_FILE_BYTES: u64 = 1024 * 1024;

/// A request head (request line and headers).
pub const HTTP_HEAD_BYTES: usize = 16 * 1024;

/// Header lines in a request head.
pub const HTTP_HEADERS: usize = 64;

/// A request body.
pub const HTTP_BODY_BYTES: usize = 1024 * 1024;

/// The body of a request for the balancer itself: a backend to add is no longer.
/// It is held until it is whole, whoever sends it.
pub const BALANCER_BODY_BYTES: usize = 16 * 1024;

/// A kept-alive HTTP connection without a request.
pub const HTTP_IDLE: Duration = Duration::from_secs(60);

/// How long an HTTP request waits for other reactors before it says which did
/// not answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// From our close frame to the peer's, after which the socket is closed.
pub const CLOSE_HANDSHAKE: Duration = Duration::from_secs(5);

/// A user id, in bytes of UTF-8.
pub const USER_ID_BYTES: usize = 256;

/// A client's token, in bytes. Several fit a request head.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// A file with the keys of tokens.
pub const KEY_FILE_BYTES: usize = 256 * 1024;

/// Keys in such a file.
pub const KEYS: usize = 64;

/// The id of such a key, in bytes of UTF-8.
pub const KEY_ID_BYTES: usize = 256;

/// Users, or beginnings of their ids, that a token names as those its bearer
/// may send to.
pub const SEND_PATTERNS: usize = 64;

/// Connections closed in one turn because their tokens have expired.
pub const EXPIRIES_PER_TURN: usize = 1024;

/// Connections of one user on one node.
pub const CONNECTIONS_PER_USER: usize = 1024;

/// Sockets beyond `max_connections` that may be open at once, so that health
/// checks and refusals are answered at the limit.
pub const SPARE_CONNECTIONS: usize = 1024;

/// Messages in one batch of a connection that asked for batches.
pub const BATCH_MESSAGES: usize = 100;

/// The longest a message waits in a batch.
pub const BATCH_DELAY: Duration = Duration::from_millis(100);

/// Client addresses whose connection rate is remembered.
pub const TRACKED_ADDRESSES: usize = 256 * 1024;

/// Payload of a control frame (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES: usize = 125;

/// Payloads shorter than this are not worth compressing.
pub const DEFLATE_MIN_BYTES: usize = 128;

/// A node's id, in bytes of UTF-8: a DNS name fits.
pub const NODE_ID_BYTES: usize = 253;

/// A batch of envelopes between nodes is sealed before it exceeds this; one
/// larger envelope is a batch of its own.
pub const CLUSTER_BATCH_BYTES: usize = 64 * 1024;

/// One text in an envelope between nodes. Redis closes a subscriber that is
/// 32 MiB behind, and a message must not be what closes it.
pub const CLUSTER_TEXT_BYTES: usize = 8 * 1024 * 1024;

/// The largest batch that is read: a kick has two texts.
pub const CLUSTER_BATCH_BYTES_MAX: usize = 2 * CLUSTER_TEXT_BYTES + CLUSTER_BATCH_BYTES;

/// Gaps remembered in one stream between nodes; the oldest is given up first.
pub const STREAM_GAPS: usize = 256;

/// Nodes whose streams are kept apart, those that ended included.
pub const STREAM_SOURCES: usize = 4096;

/// How often is asked for what is missing of a stream.
pub const STREAM_REPAIR_INTERVAL: Duration = Duration::from_millis(200);

/// How long what is missing of a stream is waited for, from when it was found
/// or a part of it came.
pub const STREAM_REPAIR_TIMEOUT: Duration = Duration::from_secs(5);

/// Batches sent in answer to being asked for them, so that the answer does
/// not make the receiver a slow subscriber.
pub const STREAM_REPAIR_BYTES: usize = 4 * 1024 * 1024;

/// Users' comings and goings that a node keeps while it cannot hear what others
/// send and so tells Redis nothing; beyond it registers all its users anew.
pub const CLUSTER_CHANGES: usize = 256 * 1024;

/// How long a node that listens to nothing is given to listen again and ask for
/// what it missed, before clients' messages to it are taken back.
pub const CLUSTER_UNHEARD: Duration = Duration::from_secs(3);

/// Clients' messages that came back from a node their users had left and wait
/// for these to be looked up again. More are not tried again.
pub const STRAYS: usize = 16 * 1024;

/// Bytes of payload those messages may hold on to.
pub const STRAY_BYTES: usize = 16 * 1024 * 1024;

/// Batches kept of one stream so that they can be sent again: what Redis holds
/// for a subscriber before it closes it.
pub const STREAM_RING_BYTES: usize = 32 * 1024 * 1024;

/// The longest a batch is kept so that it can be sent again.
pub const STREAM_RING_AGE: Duration = Duration::from_secs(30);

/// The first silence of a stream after which it is said where it stands; each
/// next one is twice as long.
pub const STREAM_TICK_MIN: Duration = Duration::from_millis(200);

/// How long a stream to a node that is not listed any more is kept: should it
/// be listed again, its numbers have to go on where they were.
pub const STREAM_ABSENCE: Duration = Duration::from_secs(3600);

/// The longest silence of a stream.
pub const STREAM_TICK_MAX: Duration = Duration::from_secs(10);

const _: () = {
    assert!(STREAM_REPAIR_INTERVAL.as_millis() * 4 < STREAM_REPAIR_TIMEOUT.as_millis());
    assert!(STREAM_REPAIR_TIMEOUT.as_millis() + STREAM_TICK_MAX.as_millis() < STREAM_RING_AGE.as_millis());
    assert!(STREAM_REPAIR_BYTES <= STREAM_RING_BYTES);
    assert!(CLUSTER_TEXT_BYTES < STRAY_BYTES);
    assert!(CLUSTER_BATCH_BYTES_MAX < 32 * 1024 * 1024);
    assert!(NODE_ID_BYTES <= u8::MAX as usize);
    assert!(NODE_ID_BYTES + USER_ID_BYTES + 1024 < CLUSTER_BATCH_BYTES);
    assert!(READ_BUDGET_BYTES >= READ_BUFFER_BYTES);
    assert!(HTTP_HEAD_BYTES <= READ_BUFFER_BYTES);
    assert!(TOKEN_BYTES < HTTP_HEAD_BYTES);
    assert!(READ_PAUSE_BYTES <= SHARED_BYTES);
    assert!(OUTBOUND_COPY_BYTES <= SHARED_BYTES);
    assert!(SHARED_BYTES <= ARENA_BYTES);
};
