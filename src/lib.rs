//! throng, a WebSocket gateway.

pub mod admin;
pub mod delivery;
pub mod forwarded;
pub mod http;
pub mod ids;
pub mod limiter;
pub mod limits;
pub mod metrics;
pub mod protocol;
pub mod ws;
