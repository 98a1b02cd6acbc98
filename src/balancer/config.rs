//! The configuration of a balancer: what `throng balance` takes.
//!
//! Owns [`BalanceConfig`] and its table of keys; never acts on a value.

mod backend;
mod keys;
mod types;
mod validate;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use backend::{backend_name, host_and_port};
pub use types::{ProxyProtocol, Strategy};

use crate::config::text::reactors_default;
use crate::config::{AddressRate, AdminToken, ConfigError, LogFormat, Secret, Section, Settings};
use crate::descriptors::Need;
use crate::tls::{ClientAuth, Identity, Trust};

/// The effective configuration of one balancer.
///
/// The documentation of each key for operators, with its bounds, is printed by
/// `throng balance --help` and `throng balance --print-config`.
#[derive(Clone, Debug, PartialEq)]
pub struct BalanceConfig {
    /// TCP port that clients connect to; 0 takes a free one.
    pub port: u16,
    /// Address the listeners are bound to.
    pub bind: IpAddr,
    /// Reactors, one thread each; 1 to [`crate::limits::REACTORS_MAX`].
    pub reactors: usize,
    /// Whether every reactor takes a descriptor table of its own.
    pub private_fd_tables: bool,
    /// Certificates shown to clients; with the key, the listener speaks TLS.
    pub tls_cert: Option<PathBuf>,
    /// The private key of the first of them.
    pub tls_key: Option<PathBuf>,
    /// Authorities of clients' certificates; `None`: none is asked for.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether a client must show one.
    pub tls_client_auth: ClientAuth,
    /// What clients' connections begin with, before their first byte.
    pub proxy_protocol_in: ProxyProtocol,
    /// Name of the service, shown by `/health`.
    pub service_name: String,
    /// Backends that are named, as `HOST:PORT[,weight=N][,max=N]`; see [`backend_name`].
    pub backends: Vec<String>,
    /// A file of backends, one a line, which is watched.
    pub backends_file: Option<PathBuf>,
    /// `NAME:PORT` all of whose addresses are backends; see [`host_and_port`].
    pub backends_dns: Option<String>,
    /// Between two resolutions of [`BalanceConfig::backends_dns`].
    pub dns_interval: Duration,
    /// How a new client's backend is found.
    pub strategy: Strategy,
    /// What connections to backends begin with, before the client's request.
    pub proxy_protocol_out: ProxyProtocol,
    /// Whether backends are spoken to in TLS.
    pub backend_tls: bool,
    /// Authorities of backends' certificates; `None`: the machine's.
    pub backend_ca: Option<PathBuf>,
    /// The name in their certificates; `None`: the host of each.
    pub backend_tls_name: Option<String>,
    /// What is asked of a backend to learn how it is: an absolute path, perhaps with a query.
    pub health_path: String,
    /// Between two checks of one backend.
    pub health_interval: Duration,
    /// How long one check may take; shorter than the interval.
    pub health_timeout: Duration,
    /// Good checks in a row after which a backend is up; at least 1.
    pub health_rise: u32,
    /// Bad checks in a row after which a backend is down; at least 1.
    pub health_fall: u32,
    /// Time in which a backend that comes up reaches its full weight; zero: at once.
    pub slow_start: Duration,
    /// First time for which a backend that refused a connection takes nothing new.
    pub ejection_min: Duration,
    /// Longest such time; at least [`BalanceConfig::ejection_min`].
    pub ejection_max: Duration,
    /// Time over which the clients of a lost backend are closed; zero: at once.
    pub failover_window: Duration,
    /// Clients connected at once, those that wait included.
    pub max_connections: usize,
    /// New connections of one client address in a window; `None`: unlimited.
    pub connections_per_address: Option<AddressRate>,
    /// Backends tried for one client before it is refused; at least 1.
    pub connect_attempts: u32,
    /// Clients that wait while all backends are at their maximum; 0: none waits.
    pub queue_connections: usize,
    /// Bytes held for one direction of one pair while its reader does not take them.
    pub buffer_bytes_max: usize,
    /// From accepting a client to the end of its request head.
    pub handshake_timeout: Duration,
    /// How long a client waits for a backend below its maximum.
    pub queue_timeout: Duration,
    /// How long one connect to a backend may take.
    pub connect_timeout: Duration,
    /// From the request to the end of the head of a backend's answer.
    pub answer_timeout: Duration,
    /// How long one direction of a pair stays open after the other has ended.
    pub half_close_timeout: Duration,
    /// Silence in both directions after which a pair is closed; zero: never.
    pub idle_timeout: Duration,
    /// Proxies in front whose forwarding headers are kept and believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a draining balancer goes on accepting.
    pub lame_duck: Duration,
    /// Time over which a draining balancer spreads its closes.
    pub drain_window: Duration,
    /// From the end of the lame duck to the last pair; at least the window.
    pub drain_timeout: Duration,
    /// Token of the mutating admin calls; `None`: they answer loopback only.
    pub admin_token: Option<Secret>,
    /// File the token was read from, if it came from one.
    pub admin_token_file: Option<PathBuf>,
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// What is logged: a level, or `target=level` pairs separated by commas.
    pub log_level: String,
}

/// All but the backends: a balancer needs a source of them.
impl Default for BalanceConfig {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        BalanceConfig {
            port: 8080,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            reactors: reactors_default(),
            private_fd_tables: false,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            tls_client_auth: ClientAuth::Required,
            proxy_protocol_in: ProxyProtocol::Off,
            service_name: "throng-balance".to_owned(),
            backends: Vec::new(),
            backends_file: None,
            backends_dns: None,
            dns_interval: seconds(5),
            strategy: Strategy::RoundRobin,
            proxy_protocol_out: ProxyProtocol::Off,
            backend_tls: false,
            backend_ca: None,
            backend_tls_name: None,
            health_path: "/readyz".to_owned(),
            health_interval: seconds(2),
            health_timeout: seconds(1),
            health_rise: 2,
            health_fall: 3,
            slow_start: seconds(10),
            ejection_min: seconds(1),
            ejection_max: seconds(60),
            failover_window: Duration::from_millis(500),
            max_connections: 100_000,
            connections_per_address: None,
            connect_attempts: 3,
            queue_connections: 1000,
            buffer_bytes_max: 64 * 1024,
            handshake_timeout: seconds(10),
            queue_timeout: seconds(3),
            connect_timeout: seconds(1),
            answer_timeout: seconds(5),
            half_close_timeout: seconds(30),
            idle_timeout: Duration::ZERO,
            trusted_proxies: Vec::new(),
            lame_duck: seconds(3),
            drain_window: seconds(10),
            drain_timeout: seconds(25),
            admin_token: None,
            admin_token_file: None,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

impl BalanceConfig {
    /// Who the balancer is to clients; `None`: it speaks no TLS with them.
    pub fn tls(&self) -> Option<Identity> {
        Identity::from_keys(&self.tls_cert, &self.tls_key, &self.tls_client_ca, self.tls_client_auth)
    }

    /// Which backends it trusts; `None`: it speaks no TLS with them.
    pub fn backend_trust(&self) -> Option<Trust> {
        let trust = || self.backend_ca.clone().map_or(Trust::Machine, Trust::Only);
        self.backend_tls.then(trust)
    }
}

impl Settings for BalanceConfig {
    const COMMAND: &'static str = "balance";

    fn sections() -> &'static [Section<BalanceConfig>] {
        keys::SECTIONS
    }

    fn validate(&self) -> Result<(), ConfigError> {
        validate::validate(self)
    }

    fn admin_token(&mut self) -> AdminToken<'_> {
        AdminToken { token: &mut self.admin_token, file: &mut self.admin_token_file }
    }

    fn logging(&self) -> (LogFormat, &str) {
        (self.log_format, &self.log_level)
    }

    fn longest_drain(&self) -> Duration {
        self.lame_duck + self.drain_timeout
    }

    fn watched_files(&self) -> Vec<PathBuf> {
        [&self.tls_cert, &self.tls_key, &self.tls_client_ca, &self.backend_ca]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    fn descriptors(&self) -> Need {
        let tables = if self.private_fd_tables { self.reactors as u64 } else { 1 };
        // A client and its backend.
        Need { connections: self.max_connections as u64, each: 2, tables }
    }

    fn cap_connections(&mut self, max: usize) {
        self.max_connections = self.max_connections.min(max);
    }
}
