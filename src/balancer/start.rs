//! Bringing a balancer up.

use std::io;

use crossbeam_channel::Receiver;

use super::config::BalanceConfig;
use crate::drain::Phase;
use crate::net::Inherited;
use crate::server::{ServerEvent, StartError};
use crate::service::Service;

/// A running balancer. This build has none, so there is no value of this type.
pub enum Balancer {}

/// Starts a balancer.
///
/// # Errors
/// Always: this build has no balancer.
pub fn start(_config: BalanceConfig, _inherited: Inherited) -> Result<Balancer, StartError> {
    let reason = io::Error::new(io::ErrorKind::Unsupported, "this build has no balancer");
    Err(StartError::System("start the balancer", reason))
}

impl Service for Balancer {
    type Config = BalanceConfig;

    fn description(&self) -> String {
        match *self {}
    }

    fn drain(&self) {
        match *self {}
    }

    fn reload(&self, _: &BalanceConfig) -> (Vec<&'static str>, Vec<&'static str>) {
        match *self {}
    }

    fn events(&self) -> &Receiver<ServerEvent> {
        match *self {}
    }

    fn is_alive_since(&self, _: &mut Vec<u64>) -> bool {
        match *self {}
    }

    fn connections(&self) -> usize {
        match *self {}
    }

    fn phase(&self) -> Phase {
        match *self {}
    }

    fn set_lost_log_lines(&self, _: u64) {
        match *self {}
    }
}
