//! throng, a WebSocket gateway built for connection density.
//!
//! As a program it is run by `throng serve`; as a library by
//! [`Server::start`], which gives a handle with the same powers as the HTTP API.
//!
//! # What runs where
//!
//! ```text
//!             clients                         the program or HTTP API
//!   ┌────────────┴────────────┐                        │
//!   │ SO_REUSEPORT listeners  │              Server (handle)   supervisor ── signals
//!   ▼                         ▼                        │            │ orders
//! ┌──────── reactor 0 ──┐ ┌──────── reactor 1 ──┐      │            │
//! │ epoll, conn table,  │ │                     │◄─────┴────────────┘
//! │ hub shard, layout   │◄┼──── mailboxes ─────►│
//! └─────────────────────┘ └─────────────────────┘
//! ```
//!
//! A reactor is a thread with an epoll, listeners, connections and a part of
//! the directory of users of its own. Threads share counters and little else;
//! they talk through bounded [mailboxes](reactor::mailbox).
//!
//! # How a byte becomes a delivery
//!
//! 1. A readable connection is read into the reactor's one buffer
//!    (`reactor::read`); a WebSocket's bytes go through
//!    [`ws::assembler::step`], which hands out messages without copying when a
//!    frame is whole.
//! 2. [`protocol::parse`] finds the few fields that are routed by; content is
//!    passed on as it came.
//! 3. A message for a user goes to the user's *home*, the reactor found by
//!    hashing the id, whose [`hub::Hub`] knows the connections; from there to
//!    the reactors that own them. One path, so order is kept.
//! 4. The owner lays the frame out in the turn's [`reactor::outgoing::Outgoing`];
//!    a broadcast is laid out once for all.
//! 5. At the end of the turn each connection that is owed something is written
//!    to, once. What its socket does not take becomes its
//!    [`reactor::outbound::Outbound`] queue, which is bounded, and gone when empty.
//!
//! Where a listener speaks TLS, bytes are opened before step 1 and sealed in
//! step 5, in buffers of the reactor; the session stands beside the row
//! ([`tls`]), and all in between sees plain bytes.
//!
//! # Between nodes
//!
//! With Redis configured, [`cluster`] has two threads of its own. What a
//! user's home cannot deliver here it posts to the publisher, which knows or
//! looks up the user's nodes, packs what goes to one node into one batch, and
//! publishes it; the other node's subscriber posts it to the user's home
//! there. To a reactor the whole cluster is one mailbox. Redis away means that
//! senders are told so; nothing local waits for it.
//!
//! # What an idle connection costs
//!
//! Its 64-byte row ([`reactor::connection::Connection`]), and for a named user
//! the name and a 32-byte directory entry. No buffer, no timer, no box. Under
//! TLS also its keys, and still no buffer.
//! Anonymous users have no entry: their id names their connection.
//!
//! # What is deliberately absent
//!
//! * Locks on the way of a message. Handshakes take one of the
//!   [`limiter`]'s, sharded by address, and read the one of the [key ring](auth::KeyRing).
//! * Timers per connection: deadlines are found by [`reactor::sweep`], and the expiry of
//!   tokens in a list of its own, which exists only while there are some.
//! * Callbacks and boxed closures between layers: each boundary has one closed enum.
//! * Context takeover in permessage-deflate: compressors belong to reactors,
//!   not to connections, so compression costs a connection nothing.
//! * WRITABLE events while nothing is owed. Once a socket was full the interest
//!   stays registered: edge-triggered, it is silent until the socket was full again.
//!
//! # What depends on what
//!
//! `main` → [`service`] → [`server`] → [`reactor`], [`cluster`] → the pure parts ([`hub`],
//! [`drain`], [`admin`], [`auth`], [`ws`], [`protocol`], [`http`], [`limiter`],
//! [`forwarded`]) → leaves ([`ids`], [`limits`], [`clock`], [`config`],
//! [`metrics`], [`delivery`], [`stamp`], [`trace`], [`tls`]). Pure parts decide without sockets, clocks or
//! threads; a test keeps it so. `ws` does not know `hub`; `hub` sees ids, not reactors.

pub mod admin;
pub mod auth;
pub mod balancer;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod delivery;
mod der;
pub mod descriptors;
pub mod drain;
pub mod forwarded;
pub mod http;
pub mod hub;
pub mod identity;
pub mod ids;
pub mod limiter;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod page;
pub mod protocol;
pub mod reactor;
pub mod server;
pub mod service;
pub mod signals;
mod small_file;
pub mod stamp;
pub mod tls;
pub mod trace;
pub mod ws;

pub use config::Config;
pub use server::Server;
