//! Bounds of each key, and the relations between keys.

use std::time::Duration;

use super::Config;
use crate::auth::Algorithm;
use crate::cluster::registry::Names;
use crate::config::bounds::{
    self, DAY, HOUR, ITEM_BYTES_MAX, MAX_CONNECTIONS_MAX, TIMEOUT_MIN, between, count, lasting, longer,
    plain, sizes,
};
use crate::config::text::size_text as size;
use crate::config::{Auth, ConfigError, TlsListener};
use crate::limits::{CLUSTER_TEXT_BYTES, REACTORS_MAX, STREAM_RING_BYTES};

const MESSAGE_BYTES_MAX_MAX: usize = 256 * 1024 * 1024;
const OUTBOUND_BYTES_MAX_MAX: usize = 1024 * 1024 * 1024;
/// Room beside the largest message for the frames that go with it.
const OUTBOUND_SPARE_BYTES: usize = 4 * 1024;
/// What a connection's row counts up to.
const MESSAGES_PER_SECOND_MAX: u32 = 65_535;
const NAME_BYTES_MAX: usize = 253;
/// The most that clocks are taken to differ.
const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Checks everything, in the order of the documentation.
pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    config.validate_listeners()?;
    config.validate_identity()?;
    config.validate_limits()?;
    config.validate_timeouts()?;
    config.validate_policy()?;
    config.validate_authentication()?;
    config.validate_drain()?;
    bounds::admin_token(config.admin_token.as_ref())?;
    config.validate_cluster()?;
    bounds::log_level(&config.log_level)
}

impl Config {
    fn validate_listeners(&self) -> Result<(), ConfigError> {
        if self.port != 0 && self.ws_port == Some(self.port) {
            return Err(ConfigError::key("ws_port", "is the same as port; use off for a single port"));
        }
        bounds::tls(&self.tls_cert, &self.tls_key, &self.tls_client_ca)?;
        if self.tls_cert.is_some() && self.tls_listener == TlsListener::Ws && self.ws_port.is_none() {
            return Err(ConfigError::key("tls_listener", "is ws, but ws_port is off"));
        }
        between("reactors", self.reactors, 1, REACTORS_MAX)
    }

    fn validate_identity(&self) -> Result<(), ConfigError> {
        if let Some(id) = &self.node_id {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            if id.is_empty() || id.len() > NAME_BYTES_MAX || !id.bytes().all(allowed) {
                let message = format!("{id:?} is not 1 to {NAME_BYTES_MAX} of letters, digits and - _ . :");
                return Err(ConfigError::key("node_id", message));
            }
        }
        plain("service_name", &self.service_name)?;
        count("labels", self.labels.len())?;
        for (name, value) in &self.labels {
            plain("labels", name)?;
            if value.len() > ITEM_BYTES_MAX || value.chars().any(char::is_control) {
                return Err(ConfigError::key(
                    "labels",
                    format!("the value of {name:?} is too long or not plain text"),
                ));
            }
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        between("max_connections", self.max_connections, 1, MAX_CONNECTIONS_MAX)?;
        bounds::address_rate(self.connections_per_address)?;
        count("trusted_proxies", self.trusted_proxies.len())?;
        between("messages_per_second", self.messages_per_second, 0, MESSAGES_PER_SECOND_MAX)?;
        sizes("message_bytes_max", self.message_bytes_max, 1, MESSAGE_BYTES_MAX_MAX)?;
        let least = self.message_bytes_max + OUTBOUND_SPARE_BYTES;
        if self.outbound_bytes_max < least {
            let message = format!(
                "{} is less than message_bytes_max and 4KiB ({})",
                size(self.outbound_bytes_max),
                size(least)
            );
            return Err(ConfigError::key("outbound_bytes_max", message));
        }
        sizes("outbound_bytes_max", self.outbound_bytes_max, 1, OUTBOUND_BYTES_MAX_MAX)
    }

    fn validate_timeouts(&self) -> Result<(), ConfigError> {
        lasting("handshake_timeout", self.handshake_timeout, TIMEOUT_MIN, HOUR)?;
        if !self.heartbeat_interval.is_zero() {
            lasting("heartbeat_interval", self.heartbeat_interval, TIMEOUT_MIN, DAY)?;
            lasting("heartbeat_timeout", self.heartbeat_timeout, TIMEOUT_MIN, 2 * DAY)?;
            longer(
                "heartbeat_timeout",
                self.heartbeat_timeout,
                "heartbeat_interval",
                self.heartbeat_interval,
            )?;
        }
        Ok(())
    }

    fn validate_policy(&self) -> Result<(), ConfigError> {
        count("allowed_origins", self.allowed_origins.len())?;
        for origin in &self.allowed_origins {
            if !is_origin(origin) {
                let message = format!("{origin:?} is not an origin, such as https://example.org or null");
                return Err(ConfigError::key("allowed_origins", message));
            }
        }
        count("subprotocols", self.subprotocols.len())?;
        for (index, name) in self.subprotocols.iter().enumerate() {
            if !is_token(name) {
                let message = format!("{name:?} is not the name of a subprotocol (RFC 6455, section 4.1)");
                return Err(ConfigError::key("subprotocols", message));
            }
            if self.subprotocols[..index].contains(name) {
                return Err(ConfigError::key("subprotocols", format!("{name:?} is listed twice")));
            }
        }
        Ok(())
    }

    /// Files are looked at when the keys in them are read.
    fn validate_authentication(&self) -> Result<(), ConfigError> {
        let refuse = |key, message: &str| Err(ConfigError::key(key, message));
        match (self.auth, &self.jwt_key_file, &self.jwt_jwks_file) {
            (Auth::None, ..) => self.validate_no_tokens()?,
            (Auth::Jwt, None, None) => {
                return refuse("auth", "is jwt, which needs jwt_key_file or jwt_jwks_file");
            }
            (Auth::Jwt, Some(_), Some(_)) => {
                return refuse("jwt_jwks_file", "is set beside jwt_key_file; set one of them");
            }
            _ => {}
        }
        let listed = |one: &Algorithm| self.jwt_algorithms.iter().filter(|other| *other == one).count();
        if self.jwt_algorithms.iter().any(|one| listed(one) > 1) {
            return refuse("jwt_algorithms", "lists one twice");
        }
        for (key, text) in [("jwt_issuer", &self.jwt_issuer), ("jwt_audience", &self.jwt_audience)] {
            text.as_ref().map_or(Ok(()), |text| plain(key, text))?;
        }
        lasting("jwt_leeway", self.jwt_leeway, Duration::ZERO, LEEWAY_MAX)
    }

    /// Who sets what tokens must be like believes that they are asked for.
    fn validate_no_tokens(&self) -> Result<(), ConfigError> {
        let usual = Config::default();
        let set = [
            ("jwt_key_file", self.jwt_key_file.is_some()),
            ("jwt_jwks_file", self.jwt_jwks_file.is_some()),
            ("jwt_algorithms", !self.jwt_algorithms.is_empty()),
            ("jwt_issuer", self.jwt_issuer.is_some()),
            ("jwt_audience", self.jwt_audience.is_some()),
            ("jwt_leeway", self.jwt_leeway != usual.jwt_leeway),
            ("jwt_require_exp", self.jwt_require_exp != usual.jwt_require_exp),
        ];
        match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(ConfigError::key(key, "is set, but auth is none: no token is asked for")),
            None => Ok(()),
        }
    }

    fn validate_drain(&self) -> Result<(), ConfigError> {
        bounds::drain(self.lame_duck, self.drain_window, self.drain_timeout)?;
        lasting("simulate_interval", self.simulate_interval, Duration::from_millis(1), HOUR)
    }

    fn validate_cluster(&self) -> Result<(), ConfigError> {
        let is_alone = self.redis_url.is_none() && self.redis_host.is_none();
        if !is_alone && self.message_bytes_max > CLUSTER_TEXT_BYTES / 2 {
            let most = size(CLUSTER_TEXT_BYTES / 2);
            let message = format!("is more than {most}, the most that is passed between nodes");
            return Err(ConfigError::key("message_bytes_max", message));
        }
        if let Err(message) = self.redis_target() {
            return Err(ConfigError::key("redis_url", message));
        }
        if Names::new(&self.redis_prefix).is_err() {
            let message = format!("{:?} is not 1 to 64 letters, digits and . _ : -", self.redis_prefix);
            return Err(ConfigError::key("redis_prefix", message));
        }
        lasting("cluster_beat", self.cluster_beat, Duration::from_millis(100), Duration::from_secs(300))?;
        lasting("cluster_expiry", self.cluster_expiry, 2 * self.cluster_beat, HOUR)?;
        between("lookup_cache_users", self.lookup_cache_users, 2, 10_000_000)?;
        lasting("lookup_cache_time", self.lookup_cache_time, Duration::from_millis(100), HOUR)?;
        sizes("cluster_ring_bytes", self.cluster_ring_bytes, 64 * 1024, STREAM_RING_BYTES)
    }
}

/// `scheme://host[:port]` as browsers send it, or `null` (RFC 6454, section 7.1).
fn is_origin(origin: &str) -> bool {
    if origin == "null" {
        return true;
    }
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let plain = |text: &str, forbidden: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !forbidden.contains(&byte))
    };
    origin.len() <= ITEM_BYTES_MAX && plain(scheme, b":/?#@,") && plain(host, b"/?#@,*")
}

/// A token of HTTP (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= ITEM_BYTES_MAX && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AddressRate, Secret, Settings};

    /// Applies `change` to the defaults; `expected` is the key that is refused.
    fn check(expected: Option<&str>, change: impl FnOnce(&mut Config)) {
        let mut config = Config::default();
        change(&mut config);
        let result = config.validate();
        assert_eq!(result.as_ref().err().and_then(ConfigError::key_name), expected, "{result:?}");
    }

    #[test]
    fn the_defaults_are_valid() {
        check(None, |_| ());
    }

    #[test]
    fn listeners() {
        check(Some("ws_port"), |c| c.ws_port = Some(8080));
        check(None, |c| (c.port, c.ws_port) = (0, Some(0)));
        check(Some("reactors"), |c| c.reactors = 0);
        check(None, |c| c.reactors = 255);
        check(Some("reactors"), |c| c.reactors = 256);
    }

    #[test]
    fn identity() {
        check(None, |c| c.node_id = Some("throng-0.eu_1:8080".into()));
        for wrong in ["", "a b", "a/b", "é", "a\n", &"x".repeat(254)] {
            check(Some("node_id"), |c| c.node_id = Some(wrong.into()));
        }
        for wrong in ["", " ", "a\u{7}", &"x".repeat(257)] {
            check(Some("service_name"), |c| c.service_name = wrong.into());
            check(Some("labels"), |c| drop(c.labels.insert(wrong.into(), "v".into())));
        }
        check(Some("labels"), |c| drop(c.labels.insert("k".into(), "a\nb".into())));
        check(None, |c| drop(c.labels.insert("k".into(), String::new())));
        check(Some("labels"), |c| c.labels = (0..257).map(|n| (n.to_string(), String::new())).collect());
    }

    #[test]
    fn limits() {
        check(Some("max_connections"), |c| c.max_connections = 0);
        check(Some("max_connections"), |c| c.max_connections = usize::MAX);
        let rate =
            |connections, seconds| Some(AddressRate { connections, window: Duration::from_secs(seconds) });
        check(None, |c| c.connections_per_address = rate(1, 1));
        check(Some("connections_per_address"), |c| c.connections_per_address = rate(0, 1));
        check(Some("connections_per_address"), |c| c.connections_per_address = rate(1, 0));
        check(Some("connections_per_address"), |c| c.connections_per_address = rate(1, 3601));
        check(Some("messages_per_second"), |c| c.messages_per_second = u32::MAX);
        check(Some("message_bytes_max"), |c| c.message_bytes_max = 0);
        check(Some("message_bytes_max"), |c| c.message_bytes_max = usize::MAX);
        check(None, |c| c.outbound_bytes_max = c.message_bytes_max + 4096);
        check(Some("outbound_bytes_max"), |c| c.outbound_bytes_max = c.message_bytes_max + 4095);
        check(Some("outbound_bytes_max"), |c| c.outbound_bytes_max = usize::MAX);
    }

    #[test]
    fn timeouts() {
        check(Some("handshake_timeout"), |c| c.handshake_timeout = Duration::ZERO);
        check(None, |c| c.heartbeat_interval = Duration::ZERO);
        check(Some("heartbeat_interval"), |c| c.heartbeat_interval = Duration::from_millis(1));
        check(Some("heartbeat_timeout"), |c| c.heartbeat_timeout = c.heartbeat_interval);
        check(Some("heartbeat_timeout"), |c| c.heartbeat_timeout = Duration::MAX);
        check(Some("drain_timeout"), |c| c.drain_timeout = c.drain_window - Duration::from_millis(1));
        check(None, |c| c.drain_timeout = c.drain_window);
        check(None, |c| (c.lame_duck, c.drain_window) = (Duration::ZERO, Duration::ZERO));
        check(Some("lame_duck"), |c| c.lame_duck = Duration::MAX);
        check(Some("simulate_interval"), |c| c.simulate_interval = Duration::ZERO);
    }

    #[test]
    fn policy() {
        for right in ["https://example.org", "http://127.0.0.1:8080", "http://[::1]:80", "null", "app://x"] {
            check(None, |c| c.allowed_origins = vec![right.into()]);
        }
        for wrong in
            ["", "*", "example.org", "https://", "https://a/", "https://a b", "https://*.a", "https://é"]
        {
            check(Some("allowed_origins"), |c| c.allowed_origins = vec![wrong.into()]);
        }
        check(None, |c| c.subprotocols = vec!["v1.throng".into(), "v2".into()]);
        check(Some("subprotocols"), |c| c.subprotocols = vec!["v1".into(), "v1".into()]);
        for wrong in ["", "a b", "a,b", "a/b"] {
            check(Some("subprotocols"), |c| c.subprotocols = vec![wrong.into()]);
        }
    }

    #[test]
    fn authentication() {
        let jwt = |c: &mut Config| (c.auth, c.jwt_key_file) = (Auth::Jwt, Some("/k".into()));
        check(None, jwt);
        check(Some("auth"), |c| c.auth = Auth::Jwt);
        check(None, |c| (c.auth, c.jwt_jwks_file) = (Auth::Jwt, Some("/k".into())));
        check(Some("jwt_jwks_file"), |c| {
            jwt(c);
            c.jwt_jwks_file = Some("/j".into());
        });
        check(Some("jwt_key_file"), |c| c.jwt_key_file = Some("/k".into()));
        check(Some("jwt_jwks_file"), |c| c.jwt_jwks_file = Some("/k".into()));
        check(Some("jwt_algorithms"), |c| c.jwt_algorithms = vec![Algorithm::Es256]);
        check(Some("jwt_issuer"), |c| c.jwt_issuer = Some("i".into()));
        check(Some("jwt_audience"), |c| c.jwt_audience = Some("a".into()));
        check(Some("jwt_leeway"), |c| c.jwt_leeway = Duration::ZERO);
        check(Some("jwt_require_exp"), |c| c.jwt_require_exp = false);
        let check_jwt = |expected, change: fn(&mut Config)| {
            check(expected, |c| {
                jwt(c);
                change(c);
            });
        };
        check_jwt(None, |c| c.jwt_leeway = Duration::ZERO);
        check_jwt(None, |c| c.jwt_leeway = Duration::from_secs(300));
        check_jwt(Some("jwt_leeway"), |c| c.jwt_leeway = Duration::from_millis(300_001));
        check_jwt(Some("jwt_issuer"), |c| c.jwt_issuer = Some(String::new()));
        check_jwt(Some("jwt_audience"), |c| c.jwt_audience = Some("a\nb".into()));
        check_jwt(Some("jwt_algorithms"), |c| c.jwt_algorithms = vec![Algorithm::Es256; 2]);
        check_jwt(None, |c| c.jwt_algorithms = Algorithm::ALL.to_vec());
    }

    #[test]
    fn admin_tokens_and_logging() {
        check(Some("log_level"), |c| c.log_level = "loud".into());
        check(None, |c| c.admin_token = Some(Secret::new("s3cret")));
        for wrong in ["", "a b", "a\n", "é", &"x".repeat(4097)] {
            check(Some("admin_token"), |c| c.admin_token = Some(Secret::new(wrong)));
        }
    }
}
