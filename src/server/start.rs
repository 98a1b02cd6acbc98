//! Bringing a node up: everything is opened and allocated before it is announced.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};
use serde_json::value::RawValue;

use super::Server;
use super::crew::Node;
use super::supervisor::{self, Supervisor, order};
use super::threads::{self, Part};
use super::token_keys::{self, KeyWatch, TokenKeys};
use crate::auth::KeyRing;
use crate::cluster::Prepared;
use crate::config::{Config, ConfigError, Settings};
use crate::drain::Phase;
use crate::hub::Homes;
use crate::identity::{Identity, Probe};
use crate::ids::ReactorId;
use crate::limiter::{AddressLimiter, HandshakeLimiter};
use crate::metrics::Metrics;
use crate::net::{self, Inherited, Listeners};
use crate::reactor::message::{News, Order};
use crate::reactor::shared::Shared;
use crate::reactor::{self, Parts, Reactor, Ways};
use crate::tls::Certificate;

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// A value is out of bounds.
    Config(ConfigError),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The kernel did not grant something.
    System(&'static str, io::Error),
    /// A certificate or a key cannot be used.
    Tls(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: the port is in use; choose another or 0 for a free one"
                )
            }
            StartError::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            StartError::System(what, error) => write!(f, "cannot {what}: {error}"),
            StartError::Tls(why) => write!(f, "cannot speak TLS: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        StartError::Config(error)
    }
}

pub(super) fn start(config: Config, inherited: Inherited) -> Result<Server, StartError> {
    config.validate()?;
    let token_keys = TokenKeys::load(&config)?;
    let tls = Certificate::load(config.tls()).map_err(StartError::Tls)?;
    let identity = Identity::detect(&Probe::of_this_machine(), &config.service_name, &config.labels);
    let (http, ws) = listen(&config, inherited)?;
    let doors = Doors::of(&http, ws.as_ref(), &config);
    let mut ws_listeners = ws.into_iter().flat_map(|ws| ws.each).map(|listener| (listener, doors.tls.ws));
    let mut parts = Vec::new();
    let mut ways = Vec::new();
    for (index, listener) in http.each.into_iter().enumerate() {
        let made = Parts::new(ReactorId(index as u8), (listener, doors.tls.http), ws_listeners.next());
        let (part, way) = made.map_err(|error| StartError::System("open a reactor's epoll", error))?;
        parts.push(part);
        ways.push(way);
    }
    let prepared = Prepared::new(&config).map_err(|error| StartError::System("join the cluster", error))?;
    token_keys::log_start(&config, token_keys.as_ref());
    let (key_source, keys) = token_keys.unzip();
    let shared =
        Arc::new(shared(&config, &identity, &doors, &ways, prepared.as_ref(), keys.map(KeyRing::new))?);
    let config = Arc::new(config);
    let (news, news_in) = bounded(4 * ways.len());
    let orders: Vec<_> = ways.into_iter().map(|way| way.orders).collect();
    if let Some(tls) = &tls {
        order(&orders, || Order::Tls(tls.in_force()));
    }
    let reactors = spawn(parts, &shared, &config, &news)?;
    let cluster = prepared.map(|prepared| prepared.start(&shared)).transpose();
    let cluster = cluster.map_err(|error| StartError::System("start the cluster's threads", error))?;
    let key_watch = key_source.map(|source| KeyWatch::start(source, shared.clone())).transpose();
    let key_watch = key_watch.map_err(|error| StartError::System("start the thread of the keys", error))?;
    log_start(&identity, &shared, &doors, &config);
    let (commands, commands_in) = bounded(16);
    let (events, events_in) = bounded(supervisor::EVENTS);
    let node = Node { shared: shared.clone(), orders, cluster, tls, key_watch };
    node.show_expiry();
    let supervisor = Supervisor::new(node, config, reactors, events);
    let supervisor = thread::Builder::new()
        .name("throng-supervisor".into())
        .spawn(move || supervisor.run(&commands_in, &news_in))
        .map_err(|error| StartError::System("start the supervisor's thread", error))?;
    Ok(Server {
        shared,
        identity,
        ws_addr: doors.ws,
        tls: doors.tls,
        commands,
        events: events_in,
        supervisor: Some(supervisor),
    })
}

/// Where clients come in.
struct Doors {
    http: SocketAddr,
    ws: Option<SocketAddr>,
    /// Whether every listener outlives the process.
    outlive: bool,
    tls: Tls,
}

/// Which listeners speak TLS.
#[derive(Clone, Copy)]
pub(super) struct Tls {
    pub(super) http: bool,
    pub(super) ws: bool,
}

impl Doors {
    fn of(http: &Listeners, ws: Option<&Listeners>, config: &Config) -> Doors {
        if ws.is_some_and(|ws| ws.outlive != http.outlive) {
            log::warn!(
                "one of the two ports came from the service manager, the other did not: clients of the \
                 other are refused while the node restarts"
            );
        }
        let outlive = http.outlive && ws.is_none_or(|ws| ws.outlive);
        let speaks = |tls: bool| config.tls_cert.is_some() && tls;
        let tls = Tls {
            http: speaks(config.tls_listener.has_http()),
            ws: ws.is_some() && speaks(config.tls_listener.has_ws()),
        };
        Doors { http: http.address, ws: ws.map(|ws| ws.address), outlive, tls }
    }
}

/// The listeners of both ports. A port is opened if it is configured or inherited.
fn listen(config: &Config, mut inherited: Inherited) -> Result<(Listeners, Option<Listeners>), StartError> {
    let reactors = inherited.reactors(config.reactors);
    if reactors > config.reactors {
        log::warn!("{reactors} reactors instead of {}: one for each inherited socket", config.reactors);
    }
    let ws_port = config.ws_port.or((inherited.count("ws") > 0).then_some(0));
    let mut open = |name, port| {
        net::listeners(&mut inherited, name, config.bind, port, reactors)
            .map_err(|error| StartError::Listen(SocketAddr::new(config.bind, port), error))
    };
    let http = open("http", config.port)?;
    let ws = ws_port.map(|port| open("ws", port)).transpose()?;
    inherited
        .finish("http and ws")
        .map_err(|error| StartError::System("use the service manager's sockets", error))?;
    Ok((http, ws))
}

fn shared(
    config: &Config,
    identity: &Identity,
    doors: &Doors,
    ways: &[Ways],
    cluster: Option<&Prepared>,
    token_keys: Option<KeyRing>,
) -> Result<Shared, StartError> {
    let rendered = serde_json::to_string(identity).and_then(RawValue::from_string);
    let identity_json =
        rendered.map_err(|error| StartError::System("render the identity", io::Error::other(error)))?;
    let advertised = match doors.http.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(identity.container_ip, doors.http.port()),
        _ => doors.http,
    };
    Ok(Shared {
        identity_json,
        display_name: identity.display_name.clone(),
        service_name: identity.service_name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        node_id: config.node_id.clone().unwrap_or_else(|| advertised.to_string()),
        address: doors.http,
        listeners_outlive: doors.outlive,
        metrics: Metrics::new(ways.len()),
        limiter: AddressLimiter::new(),
        handshakes: HandshakeLimiter::default(),
        token_keys,
        mailboxes: ways.iter().map(|way| way.mailbox.clone()).collect(),
        cluster: cluster.map(Prepared::mailbox),
        overview: cluster.map(Prepared::overview),
        homes: Homes::new(ways.len() as u8, fastrand::u64(..), &identity.instance_id),
        started: Instant::now(),
        drain_seed: fastrand::u64(..),
        open: AtomicUsize::new(0),
        presence: OnceLock::new(),
        phase: AtomicU8::new(Phase::Serving as u8),
        advertised,
    })
}

/// Starts the reactors' threads and waits until each has all it needs.
fn spawn(
    parts: Vec<Parts>,
    shared: &Arc<Shared>,
    config: &Arc<Config>,
    news: &Sender<News>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let parts = parts.into_iter().map(|parts| Part { descriptors: parts.descriptors(), parts }).collect();
    let private_fd_tables = config.private_fd_tables;
    let (shared, config, told) = (shared.clone(), config.clone(), news.clone());
    let settle = move |parts, foreign: Option<&[RawFd]>| {
        reactor::settle_in(parts, shared.clone(), config.clone(), told.clone(), foreign)
    };
    threads::spawn(parts, private_fd_tables, news, News::Ended, settle, Reactor::run)
}

fn log_start(identity: &Identity, shared: &Shared, doors: &Doors, config: &Config) {
    log::info!(
        "{} {} ({}, instance {}) in environment {}, node {}",
        identity.display_name,
        shared.version,
        identity.service_name,
        identity.instance_id,
        identity.environment,
        shared.node_id,
    );
    let s = |tls: bool| if tls { "s" } else { "" };
    let any_path = doors.ws.map_or_else(String::new, |address| {
        format!(", WebSocket on any path at ws{}://{address}", s(doors.tls.ws))
    });
    log::info!(
        "listening on http{}://{} (WebSocket at /ws and /echo){any_path}; {} reactors, at most {} connections",
        s(doors.tls.http),
        shared.address,
        shared.mailboxes.len(),
        config.max_connections,
    );
}
