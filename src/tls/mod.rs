//! TLS (RFC 8446, RFC 5246) for the listeners, and between a balancer and its
//! backends.
//!
//! Owns: [`Session`], one connection without a socket; [`Sessions`], those of
//! one reactor; [`Channel`], a session together with its socket and the
//! reactor's buffers; [`Identity`], [`Trust`] and [`Peers`], what the files of an
//! operator come to. Never: which connection is read or written, and when.
//!
//! # What a connection costs
//!
//! The protocol is `rustls`'s, through its interface without buffers: what is
//! read is decrypted in a buffer that all connections of a reactor share, what
//! is written is sealed in another one. An idle connection keeps its keys, and
//! no buffer at all; a record that has come in part is kept, up to
//! [`crate::limits::TLS_KEPT_BYTES`], and so is what a full socket did not take.
//! A row is not larger for it: sessions stand beside the table, by slot, and
//! without TLS there are none.
//!
//! # What is agreed to
//!
//! TLS 1.3 and 1.2 with the suites of `rustls`, ALPN `http/1.1`, and resumption
//! by tickets, which spares the many who come back at once the signature. No
//! early data: it can be replayed.

mod channel;
mod files;
mod peers;
mod session;
mod sessions;
mod steps;
mod validity;

pub use channel::{Channel, Read, Scratch};
pub use files::{Certificate, ClientAuth, Identity, Trust};
pub use peers::Peers;
pub use session::{Opened, Session, TlsError};
pub use sessions::Sessions;
