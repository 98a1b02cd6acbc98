//! throng, a WebSocket gateway.

pub mod delivery;
pub mod ids;
pub mod limits;
pub mod ws;
