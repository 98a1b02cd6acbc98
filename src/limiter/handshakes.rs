//! How often one address may begin a TLS handshake.
//!
//! Owns: [`HandshakeLimiter`]. A handshake costs a signature before anybody has
//! said who they are, so it is counted when the connection is accepted, apart
//! from the WebSockets that some of them become. Never: what becomes of who is
//! not admitted.

use std::net::IpAddr;

use ipnet::IpNet;

use super::AddressLimiter;
use crate::config::AddressRate;
use crate::forwarded;
use crate::limits::{TLS_HANDSHAKES_PER_CONNECTION, TLS_HANDSHAKES_PER_SECOND};

/// Counts the TLS handshakes that peers begin; shared by all reactors.
#[derive(Debug, Default)]
pub struct HandshakeLimiter(AddressLimiter);

impl HandshakeLimiter {
    /// Whether `peer`, the other end of a connection, may begin a handshake;
    /// if so, it counts. In one window an address may begin
    /// [`TLS_HANDSHAKES_PER_CONNECTION`] times as many as it may open
    /// WebSockets, and [`TLS_HANDSHAKES_PER_SECOND`]. Without a `rate` there is no limit, and none for
    /// `trusted` proxies, whose handshakes stand for many clients. `now_ms` must
    /// not run backwards.
    pub fn admits(&self, peer: IpAddr, rate: Option<AddressRate>, trusted: &[IpNet], now_ms: u64) -> bool {
        let Some(rate) = rate else { return true };
        if forwarded::is_trusted(peer, trusted) {
            return true;
        }
        let seconds = u32::try_from(rate.window.as_secs()).unwrap_or(u32::MAX);
        let max = rate
            .connections
            .saturating_mul(TLS_HANDSHAKES_PER_CONNECTION)
            .saturating_add(seconds.saturating_mul(TLS_HANDSHAKES_PER_SECOND));
        self.0.admit(peer, max, rate.window, now_ms).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admitted(peer: &str, rate: Option<(u32, u64)>, trusted: &[&str], attempts: u32) -> u32 {
        let limiter = HandshakeLimiter::default();
        let rate = rate
            .map(|(connections, seconds)| AddressRate { connections, window: Duration::from_secs(seconds) });
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let peer = peer.parse().unwrap();
        (0..attempts).map(|_| u32::from(limiter.admits(peer, rate, &trusted, 0))).sum()
    }

    #[test]
    fn an_address_has_several_for_each_websocket_it_may_open() {
        let check = |rate, trusted: &[&str], expected| {
            assert_eq!(admitted("10.0.0.1", rate, trusted, 1000), expected, "{rate:?} {trusted:?}");
        };
        check(Some((5, 60)), &[], 5 * TLS_HANDSHAKES_PER_CONNECTION + 60 * TLS_HANDSHAKES_PER_SECOND);
        check(
            Some((5, 60)),
            &["192.0.2.0/24"],
            5 * TLS_HANDSHAKES_PER_CONNECTION + 60 * TLS_HANDSHAKES_PER_SECOND,
        );
        check(Some((5, 60)), &["10.0.0.0/8"], 1000);
        check(Some((u32::MAX, u64::MAX)), &[], 1000);
        check(None, &[], 1000);
        let manual = include_str!("../../docs/configuration.md");
        assert_eq!(TLS_HANDSHAKES_PER_SECOND, 1, "as the manual says");
        let stated =
            format!("begin {TLS_HANDSHAKES_PER_CONNECTION} times as many TLS handshakes and one a second");
        assert_eq!(manual.matches(&stated).count(), 2, "of a node and of a balancer");
        assert_eq!(admitted("::ffff:10.0.0.1", Some((1, 60)), &["10.0.0.1/32"], 1000), 1000, "mapped");
    }
}
