//! WebSocket engine: RFC 6455 and RFC 7692 as state machines over bytes, without sockets or clocks.
//!
//! [`handshake`] answers the upgrade request, [`assembler`] turns a client's
//! bytes into events, [`frame`] writes the server's frames. What they stand
//! on: [`header`], [`mask`], [`utf8`] and [`deflate`]; [`error`] and
//! [`close`] say why a connection has to end.

pub mod assembler;
pub mod close;
pub mod deflate;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod header;
pub mod mask;
pub mod negotiate;
pub mod utf8;
