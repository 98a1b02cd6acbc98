//! Bounds of each key of a balancer, and the relations between keys.

use std::collections::BTreeSet;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::{BalanceConfig, backend_name, host_and_port};
use crate::config::ConfigError;
use crate::config::bounds::{
    self, DAY, HOUR, ITEM_BYTES_MAX, MAX_CONNECTIONS_MAX, MINUTE, TIMEOUT_MIN, between, count, lasting,
    plain, shorter, sizes,
};
use crate::config::text::duration_text as duration;
use crate::limits::REACTORS_MAX;

/// Checks in a row that may be asked for.
const CHECKS_MAX: u32 = 100;
const ATTEMPTS_MAX: u32 = 16;
const QUEUE_MAX: usize = 1_000_000;
const BUFFER_BYTES_MIN: usize = 4 * 1024;
const BUFFER_BYTES_MAX_MAX: usize = 16 * 1024 * 1024;

/// Checks everything, in the order of the documentation.
pub(super) fn validate(config: &BalanceConfig) -> Result<(), ConfigError> {
    between("reactors", config.reactors, 1, REACTORS_MAX)?;
    bounds::tls(&config.tls_cert, &config.tls_key, &config.tls_client_ca)?;
    plain("service_name", &config.service_name)?;
    config.validate_backends()?;
    config.validate_health()?;
    config.validate_limits()?;
    config.validate_timeouts()?;
    count("trusted_proxies", config.trusted_proxies.len())?;
    bounds::drain(config.lame_duck, config.drain_window, config.drain_timeout)?;
    bounds::admin_token(config.admin_token.as_ref())?;
    bounds::log_level(&config.log_level)
}

impl BalanceConfig {
    fn validate_backends(&self) -> Result<(), ConfigError> {
        if self.backends.is_empty() && self.backends_file.is_none() && self.backends_dns.is_none() {
            let message = "none is given; use --backend HOST:PORT, --backends-file or --backends-dns";
            return Err(ConfigError::key("backends", message));
        }
        count("backends", self.backends.len())?;
        let mut seen = BTreeSet::new();
        for backend in &self.backends {
            let name = backend_name(backend).map_err(|wrong| ConfigError::key("backends", wrong))?;
            if !seen.insert(name.to_ascii_lowercase()) {
                return Err(ConfigError::key("backends", format!("{name} is listed twice")));
            }
        }
        if let Some(Err(wrong)) = self.backends_dns.as_deref().map(host_and_port) {
            return Err(ConfigError::key("backends_dns", wrong));
        }
        if let Some(name) = &self.backend_tls_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            return Err(ConfigError::key(
                "backend_tls_name",
                format!("{name:?} is not a host name or address"),
            ));
        }
        lasting("dns_interval", self.dns_interval, Duration::from_millis(100), HOUR)
    }

    fn validate_health(&self) -> Result<(), ConfigError> {
        if !is_path(&self.health_path) {
            let message = format!("{:?} is not a path, such as /readyz", self.health_path);
            return Err(ConfigError::key("health_path", message));
        }
        lasting("health_interval", self.health_interval, Duration::from_millis(50), HOUR)?;
        lasting("health_timeout", self.health_timeout, TIMEOUT_MIN, HOUR)?;
        shorter("health_timeout", self.health_timeout, "health_interval", self.health_interval)?;
        between("health_rise", self.health_rise, 1, CHECKS_MAX)?;
        between("health_fall", self.health_fall, 1, CHECKS_MAX)?;
        lasting("slow_start", self.slow_start, Duration::ZERO, HOUR)?;
        lasting("ejection_min", self.ejection_min, TIMEOUT_MIN, HOUR)?;
        lasting("ejection_max", self.ejection_max, TIMEOUT_MIN, DAY)?;
        if self.ejection_max < self.ejection_min {
            let (most, least) = (duration(self.ejection_max), duration(self.ejection_min));
            return Err(ConfigError::key(
                "ejection_max",
                format!("{most} is shorter than ejection_min ({least})"),
            ));
        }
        lasting("failover_window", self.failover_window, Duration::ZERO, MINUTE)
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        between("max_connections", self.max_connections, 1, MAX_CONNECTIONS_MAX)?;
        bounds::address_rate(self.connections_per_address)?;
        between("connect_attempts", self.connect_attempts, 1, ATTEMPTS_MAX)?;
        between("queue_connections", self.queue_connections, 0, QUEUE_MAX)?;
        sizes("buffer_bytes_max", self.buffer_bytes_max, BUFFER_BYTES_MIN, BUFFER_BYTES_MAX_MAX)
    }

    fn validate_timeouts(&self) -> Result<(), ConfigError> {
        lasting("handshake_timeout", self.handshake_timeout, TIMEOUT_MIN, HOUR)?;
        lasting("queue_timeout", self.queue_timeout, TIMEOUT_MIN, HOUR)?;
        lasting("connect_timeout", self.connect_timeout, TIMEOUT_MIN, MINUTE)?;
        lasting("answer_timeout", self.answer_timeout, TIMEOUT_MIN, HOUR)?;
        lasting("half_close_timeout", self.half_close_timeout, TIMEOUT_MIN, HOUR)?;
        if self.idle_timeout.is_zero() {
            return Ok(());
        }
        lasting("idle_timeout", self.idle_timeout, Duration::from_secs(1), 7 * DAY)
    }
}

/// Path and query as they stand in a request line (RFC 9112, section 3.2.1).
fn is_path(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    path.starts_with('/') && path.len() <= ITEM_BYTES_MAX && path.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AddressRate, Secret, Settings};

    /// Applies `change` to a valid configuration; `expected` is the key that is refused.
    fn check(expected: Option<&str>, change: impl FnOnce(&mut BalanceConfig)) {
        let mut config = BalanceConfig { backends: vec!["a:1".into()], ..BalanceConfig::default() };
        change(&mut config);
        let result = config.validate();
        assert_eq!(result.as_ref().err().and_then(ConfigError::key_name), expected, "{result:?}");
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_defaults_and_a_backend_are_valid() {
        check(None, |_| ());
    }

    #[test]
    fn a_source_of_backends_is_needed() {
        check(Some("backends"), |c| c.backends.clear());
        check(None, |c| (c.backends, c.backends_file) = (vec![], Some("/b".into())));
        check(None, |c| (c.backends, c.backends_dns) = (vec![], Some("nodes:80".into())));
    }

    #[test]
    fn backends() {
        check(None, |c| c.backends.push("[::1]:80,weight=7,max=9".into()));
        check(Some("backends"), |c| c.backends.push("b".into()));
        check(Some("backends"), |c| c.backends.push("A:1,weight=2".into()));
        check(None, |c| c.backends = (1..=256).map(|port| format!("a:{port}")).collect());
        check(Some("backends"), |c| c.backends = (1..=257).map(|port| format!("a:{port}")).collect());
        check(Some("backends_dns"), |c| c.backends_dns = Some("nodes".into()));
        check(Some("backends_dns"), |c| c.backends_dns = Some("nodes:1,weight=2".into()));
        check(Some("dns_interval"), |c| c.dns_interval = Duration::ZERO);
    }

    #[test]
    fn health() {
        check(None, |c| c.health_path = "/healthz?deep=1".into());
        for wrong in ["", "readyz", "/a b", "/a\r\nX: y", "/é", "/#a", &"/".repeat(257)] {
            check(Some("health_path"), |c| c.health_path = wrong.into());
        }
        check(Some("health_interval"), |c| c.health_interval = Duration::ZERO);
        check(Some("health_timeout"), |c| c.health_timeout = c.health_interval);
        check(None, |c| c.health_timeout = c.health_interval - ms(1));
        check(Some("health_timeout"), |c| c.health_timeout = ms(9));
        check(Some("health_rise"), |c| c.health_rise = 0);
        check(Some("health_fall"), |c| c.health_fall = 101);
        check(None, |c| c.slow_start = Duration::ZERO);
        check(Some("slow_start"), |c| c.slow_start = Duration::MAX);
        check(Some("ejection_min"), |c| c.ejection_min = Duration::ZERO);
        check(None, |c| c.ejection_max = c.ejection_min);
        check(Some("ejection_max"), |c| c.ejection_max = c.ejection_min - ms(1));
        check(Some("failover_window"), |c| c.failover_window = 2 * MINUTE);
    }

    #[test]
    fn limits() {
        check(Some("reactors"), |c| c.reactors = 0);
        check(Some("max_connections"), |c| c.max_connections = 0);
        let rate = Some(AddressRate { connections: 0, window: MINUTE });
        check(Some("connections_per_address"), |c| c.connections_per_address = rate);
        check(Some("connect_attempts"), |c| c.connect_attempts = 0);
        check(Some("connect_attempts"), |c| c.connect_attempts = 17);
        check(None, |c| c.queue_connections = 0);
        check(Some("queue_connections"), |c| c.queue_connections = 1_000_001);
        check(Some("buffer_bytes_max"), |c| c.buffer_bytes_max = 4095);
        check(Some("buffer_bytes_max"), |c| c.buffer_bytes_max = usize::MAX);
    }

    #[test]
    fn timeouts() {
        check(Some("handshake_timeout"), |c| c.handshake_timeout = Duration::ZERO);
        check(Some("queue_timeout"), |c| c.queue_timeout = Duration::ZERO);
        check(Some("connect_timeout"), |c| c.connect_timeout = 2 * MINUTE);
        check(Some("answer_timeout"), |c| c.answer_timeout = Duration::ZERO);
        check(Some("half_close_timeout"), |c| c.half_close_timeout = Duration::MAX);
        check(Some("idle_timeout"), |c| c.idle_timeout = ms(999));
        check(None, |c| c.idle_timeout = ms(1000));
        check(Some("drain_timeout"), |c| c.drain_timeout = c.drain_window - ms(1));
    }

    #[test]
    fn the_rest() {
        check(Some("service_name"), |c| c.service_name = " ".into());
        check(Some("admin_token"), |c| c.admin_token = Some(Secret::new("a b")));
        check(Some("log_level"), |c| c.log_level = "loud".into());
        check(Some("trusted_proxies"), |c| {
            c.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network"); 257]
        });
    }
}
