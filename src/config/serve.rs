//! The configuration of a node: what `throng serve` takes.

mod keys;
mod validate;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::text::reactors_default;
use super::{
    AddressRate, AdminToken, Auth, ConfigError, LogFormat, Permission, Secret, Section, Settings,
    SlowConsumer, TlsListener,
};
use crate::auth::{Algorithm, Rules};
use crate::cluster::connect::Target;
use crate::descriptors::Need;
use crate::tls::{ClientAuth, Identity};

/// The effective configuration of one node.
///
/// The documentation of each key for operators, with its bounds, is printed by
/// `throng serve --help` and `throng serve --print-config`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// TCP port of HTTP and of WebSockets; 0 takes a free one.
    pub port: u16,
    /// A second TCP port for WebSockets; `Some(0)` takes a free one, `None` opens none.
    pub ws_port: Option<u16>,
    /// Address the listeners are bound to.
    pub bind: IpAddr,
    /// Reactors, one thread each; 1 to [`crate::limits::REACTORS_MAX`].
    pub reactors: usize,
    /// Whether every reactor takes a descriptor table of its own.
    pub private_fd_tables: bool,
    /// Certificates shown to clients; with the key, the listeners speak TLS.
    pub tls_cert: Option<PathBuf>,
    /// The private key of the first of them.
    pub tls_key: Option<PathBuf>,
    /// Which listeners speak TLS.
    pub tls_listener: TlsListener,
    /// Authorities of clients' certificates; `None`: none is asked for.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether a client must show one.
    pub tls_client_auth: ClientAuth,
    /// Name of this node among the others; `None`: `ip:port`.
    pub node_id: Option<String>,
    /// Name of the service, the first half of the display name.
    pub service_name: String,
    /// Labels shown with the identity.
    pub labels: BTreeMap<String, String>,
    /// Whether a connection without `user_id` is refused.
    pub require_user_id: bool,
    /// WebSocket connections open at once.
    pub max_connections: usize,
    /// New connections of one client address in a window; `None`: unlimited.
    pub connections_per_address: Option<AddressRate>,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Largest message taken from a client, in bytes, after inflating.
    pub message_bytes_max: usize,
    /// Messages taken from one client in a second; 0: unlimited.
    pub messages_per_second: u32,
    /// Bytes owed to one client before [`Config::slow_consumer`] applies.
    pub outbound_bytes_max: usize,
    /// What happens to a client that reads too slowly.
    pub slow_consumer: SlowConsumer,
    /// From accept to the end of the WebSocket handshake.
    pub handshake_timeout: Duration,
    /// Between pings to a client that is otherwise silent; zero: none are sent.
    pub heartbeat_interval: Duration,
    /// Silence after which a connection is closed; longer than the interval.
    pub heartbeat_timeout: Duration,
    /// Values of `Origin` that may connect, in lower case; empty: all.
    pub allowed_origins: Vec<String>,
    /// WebSocket subprotocols that are spoken, preferred first.
    pub subprotocols: Vec<String>,
    /// Whether permessage-deflate is negotiated.
    pub compression: bool,
    /// Whether clients may send to everybody.
    pub client_broadcast: Permission,
    /// Whether clients may send to users.
    pub client_send: Permission,
    /// How clients show who they are.
    pub auth: Auth,
    /// File with one key of tokens.
    pub jwt_key_file: Option<PathBuf>,
    /// File with a set of them; with [`Auth::Jwt`] one of the two is set.
    pub jwt_jwks_file: Option<PathBuf>,
    /// Algorithms that are accepted; empty: those of the keys.
    pub jwt_algorithms: Vec<Algorithm>,
    /// The `iss` of tokens; `None`: any.
    pub jwt_issuer: Option<String>,
    /// The `aud` of tokens; `None`: it is not looked at.
    pub jwt_audience: Option<String>,
    /// How far the clocks of issuer and node may differ.
    pub jwt_leeway: Duration,
    /// Whether tokens without `exp` are refused.
    pub jwt_require_exp: bool,
    /// How long a draining node goes on accepting.
    pub lame_duck: Duration,
    /// Time over which a draining node spreads its close frames.
    pub drain_window: Duration,
    /// From the end of the lame duck to the last connection; at least the window.
    pub drain_timeout: Duration,
    /// Whether every client is sent simulated business messages.
    pub simulate: bool,
    /// Mean time between two simulated messages to one client.
    pub simulate_interval: Duration,
    /// Token of the mutating admin calls; `None`: they answer loopback only.
    pub admin_token: Option<Secret>,
    /// File the token was read from, if it came from one.
    pub admin_token_file: Option<PathBuf>,
    /// Where Redis is; `None`: see `redis_host`.
    pub redis_url: Option<Secret>,
    /// Host of a plain Redis, if there is no URL; `None`: the node is alone.
    pub redis_host: Option<String>,
    /// Port of that Redis.
    pub redis_port: u16,
    /// Authorities trusted for TLS to Redis, instead of the system's.
    pub redis_ca_file: Option<PathBuf>,
    /// Beginning of all names in Redis.
    pub redis_prefix: String,
    /// Whether a node that cannot reach Redis refuses to start.
    pub redis_required: bool,
    /// Between two signs of life in Redis.
    pub cluster_beat: Duration,
    /// Silence after which other nodes call a node dead.
    pub cluster_expiry: Duration,
    /// Users whose nodes are remembered.
    pub lookup_cache_users: usize,
    /// How long they are remembered.
    pub lookup_cache_time: Duration,
    /// Bytes kept per node so that they can be sent again.
    pub cluster_ring_bytes: usize,
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// What is logged: a level, or `target=level` pairs separated by commas.
    pub log_level: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            port: 8080,
            ws_port: Some(8765),
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            reactors: reactors_default(),
            private_fd_tables: false,
            tls_cert: None,
            tls_key: None,
            tls_listener: TlsListener::Both,
            tls_client_ca: None,
            tls_client_auth: ClientAuth::Required,
            node_id: None,
            service_name: "throng".to_owned(),
            labels: BTreeMap::new(),
            require_user_id: false,
            max_connections: 100_000,
            connections_per_address: None,
            trusted_proxies: Vec::new(),
            message_bytes_max: 256 * 1024,
            messages_per_second: 0,
            outbound_bytes_max: 1024 * 1024,
            slow_consumer: SlowConsumer::Disconnect,
            handshake_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(60),
            allowed_origins: Vec::new(),
            subprotocols: Vec::new(),
            compression: true,
            client_broadcast: Permission::Allow,
            client_send: Permission::Allow,
            auth: Auth::None,
            jwt_key_file: None,
            jwt_jwks_file: None,
            jwt_algorithms: Vec::new(),
            jwt_issuer: None,
            jwt_audience: None,
            jwt_leeway: Duration::from_secs(30),
            jwt_require_exp: true,
            lame_duck: Duration::from_secs(3),
            drain_window: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(25),
            simulate: false,
            simulate_interval: Duration::from_secs(5),
            admin_token: None,
            admin_token_file: None,
            redis_url: None,
            redis_host: None,
            redis_port: 6379,
            redis_ca_file: None,
            redis_prefix: "throng".to_owned(),
            redis_required: false,
            cluster_beat: Duration::from_secs(10),
            cluster_expiry: Duration::from_secs(60),
            lookup_cache_users: 100_000,
            lookup_cache_time: Duration::from_secs(30),
            cluster_ring_bytes: 8 * 1024 * 1024,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

impl Config {
    /// Who the node is to clients; `None`: it speaks no TLS.
    pub fn tls(&self) -> Option<Identity> {
        Identity::from_keys(&self.tls_cert, &self.tls_key, &self.tls_client_ca, self.tls_client_auth)
    }

    /// Where Redis is, if the node is not alone.
    ///
    /// # Errors
    /// What is wrong with the URL, without the password in it.
    pub fn redis_target(&self) -> Result<Option<Target>, String> {
        match (&self.redis_url, &self.redis_host) {
            (Some(url), _) => url.expose().parse().map(Some),
            (None, Some(host)) => Ok(Some(Target::single(host, self.redis_port))),
            (None, None) => Ok(None),
        }
    }

    /// What is asked of tokens.
    pub fn token_rules(&self) -> Rules<'_> {
        Rules {
            algorithms: &self.jwt_algorithms,
            issuer: self.jwt_issuer.as_deref(),
            audience: self.jwt_audience.as_deref(),
            leeway: self.jwt_leeway,
            require_exp: self.jwt_require_exp,
        }
    }
}

impl Settings for Config {
    const COMMAND: &'static str = "serve";

    fn sections() -> &'static [Section<Config>] {
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
        [&self.tls_cert, &self.tls_key, &self.tls_client_ca].into_iter().flatten().cloned().collect()
    }

    fn descriptors(&self) -> Need {
        let tables = if self.private_fd_tables { self.reactors as u64 } else { 1 };
        Need { connections: self.max_connections as u64, each: 1, tables }
    }

    fn cap_connections(&mut self, max: usize) {
        self.max_connections = self.max_connections.min(max);
    }
}
