//! throng, a WebSocket gateway.

pub mod cli;
pub mod config;
pub mod delivery;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod logging;
pub mod signals;
pub mod ws;
