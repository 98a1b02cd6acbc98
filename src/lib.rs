//! throng, a WebSocket gateway.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
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
pub mod protocol;
pub mod reactor;
pub mod server;
pub mod service;
pub mod signals;
pub mod ws;

pub use config::Config;
pub use server::Server;
