//! throng, a WebSocket gateway.

pub mod delivery;
pub mod http;
pub mod ids;
pub mod limits;
pub mod metrics;
pub mod protocol;
pub mod ws;
