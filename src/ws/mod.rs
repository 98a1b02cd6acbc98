//! WebSocket engine: RFC 6455 and RFC 7692 as state machines over bytes, without sockets or clocks.

pub mod close;
