//! throng, a WebSocket gateway.

pub mod config;
pub mod delivery;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod ws;
