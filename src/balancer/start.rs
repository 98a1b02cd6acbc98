//! Bringing a balancer up: everything is opened and allocated before it is announced.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::Balancer;
use super::config::{BalanceConfig, ProxyProtocol, host_and_port};
use super::director::{Plan, Prepared};
use super::handle::Threads;
use super::live::Watchers;
use super::metrics::Metrics;
use super::reactor::{self, Order, Parts, Reactor, Shared};
use super::roster::Spec;
use crate::config::{ConfigError, Settings};
use crate::ids::ReactorId;
use crate::net::{self, Inherited, Listeners};
use crate::reactor::message::News;
use crate::server::StartError;
use crate::server::supervisor::{self, Supervisor};
use crate::server::threads::{self, Part};
use crate::tls::{Certificate, Peers};

/// How long clients wait, at most, for the first check of every backend: who is
/// let in before would be told that there is none.
const FIRST_CHECKS: Duration = Duration::from_secs(2);

/// Starts a balancer. When this returns, clients are accepted.
///
/// # Errors
/// A configuration out of bounds, an address in use, or a resource the kernel
/// does not grant; the text says which and what to do.
pub fn start(config: BalanceConfig) -> Result<Balancer, StartError> {
    start_with(config, Inherited::default())
}

/// Starts a balancer with the sockets that the service manager passed under
/// the name `http`, instead of those it would open.
///
/// # Errors
/// As [`start`]; a socket of another name.
pub fn start_with(config: BalanceConfig, inherited: Inherited) -> Result<Balancer, StartError> {
    config.validate()?;
    let tls = Certificate::load(config.tls()).map_err(StartError::Tls)?;
    let peers = peers(&config).map_err(StartError::Tls)?;
    let plan = plan(&config, peers.clone())?;
    let Listeners { each, address, outlive } = listen(&config, inherited)?;
    let (mut parts, mut ways) = (Vec::new(), Vec::new());
    for (index, listener) in each.into_iter().enumerate() {
        let made = Parts::new(ReactorId(index as u8), listener);
        let (part, way) = made.map_err(system("open a reactor's epoll"))?;
        parts.push(Part { descriptors: part.descriptors(), parts: part });
        ways.push(way);
    }
    let mailboxes = ways.iter().map(|way| way.mailbox.clone()).collect();
    let metrics = Metrics::new(ways.len());
    let shared = Arc::new(Shared::new(address, outlive, config.strategy, metrics, mailboxes));
    let config = Arc::new(config);
    let (news, news_in) = bounded(4 * ways.len());
    let settle = {
        let (shared, config, news) = (shared.clone(), config.clone(), news.clone());
        move |parts, foreign: Option<&[RawFd]>| {
            reactor::settle_in(parts, shared.clone(), config.clone(), news.clone(), foreign)
        }
    };
    let director = Prepared::new().map_err(system("open the director's epoll"))?;
    let private = config.private_fd_tables;
    let reactors = threads::spawn(parts, private, &news, News::Ended, settle, Reactor::run)?;
    let (checked, checked_in) = bounded(1);
    let audience = Arc::new(Watchers { shared: Arc::downgrade(&shared), checked });
    let director = director.start(plan, audience).map_err(system("follow the backends"))?;
    shared.meet_director(&director);
    if expects_backends(&config) {
        // Whoever connects waits. In vain, or too long, it is not an error: backends may come later.
        let _ = checked_in.recv_timeout(FIRST_CHECKS);
    }
    log_start(&shared, &config);
    let (commands, commands_in) = bounded(16);
    let (events, events_in) = bounded(supervisor::EVENTS);
    let orders: Vec<_> = ways.into_iter().map(|way| way.orders).collect();
    let identity = tls.as_ref().map(Certificate::in_force);
    supervisor::order(&orders, || Order::Tls { identity: identity.clone(), peers: peers.clone() });
    supervisor::order(&orders, || Order::Accept);
    let is_tls = tls.is_some();
    let crew = Threads { shared: shared.clone(), orders, director: Some(director), tls, peers };
    crew.show_expiry();
    let supervisor = Supervisor::new(crew, config, reactors, events);
    let supervisor = thread::Builder::new()
        .name("throng-supervisor".into())
        .spawn(move || supervisor.run(&commands_in, &news_in))
        .map_err(system("start the supervisor's thread"))?;
    Ok(Balancer { shared, is_tls, commands, events: events_in, supervisor: Some(supervisor) })
}

/// Whether the configuration names any; the file may have none yet.
fn expects_backends(config: &BalanceConfig) -> bool {
    !config.backends.is_empty() || config.backends_dns.is_some()
}

fn listen(config: &BalanceConfig, mut inherited: Inherited) -> Result<Listeners, StartError> {
    let reactors = inherited.reactors(config.reactors);
    let listeners = net::listeners(&mut inherited, "http", config.bind, config.port, reactors)
        .map_err(|error| StartError::Listen(SocketAddr::new(config.bind, config.port), error))?;
    inherited.finish("http").map_err(system("use the service manager's sockets"))?;
    Ok(listeners)
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::System(what, error)
}

fn log_start(shared: &Shared, config: &BalanceConfig) {
    log::info!(
        "{} {} balancing {} backends by {}",
        config.service_name,
        env!("CARGO_PKG_VERSION"),
        shared.directory().backends.len(),
        config.strategy.name(),
    );
    log::info!(
        "listening on http{}://{} (page at /web-loadbalancer.html); {} reactors, at most {} connections",
        if config.tls_cert.is_some() { "s" } else { "" },
        shared.address,
        shared.mailboxes.len(),
        config.max_connections,
    );
}

/// Who backends have to be, where TLS is spoken with them; reads the files.
///
/// # Errors
/// Says which file is wrong, and how.
pub(super) fn peers(config: &BalanceConfig) -> Result<Option<Peers>, String> {
    let name = config.backend_tls_name.as_deref();
    config.backend_trust().map(|trust| Peers::load(&trust, name)).transpose()
}

/// What the director goes by.
///
/// # Errors
/// A backend that is none.
pub(super) fn plan(config: &BalanceConfig, peers: Option<Peers>) -> Result<Plan, ConfigError> {
    let spec = |text: &String| text.parse::<Spec>().map_err(|error| ConfigError::key("backends", error));
    let dns = config.backends_dns.as_deref().map(host_and_port).transpose();
    let dns = dns.map_err(|error| ConfigError::key("backends_dns", error))?;
    Ok(Plan {
        backends: config.backends.iter().map(spec).collect::<Result<_, _>>()?,
        backends_file: config.backends_file.clone(),
        backends_dns: dns.map(|(host, port)| (host.to_owned(), port)),
        dns_interval: config.dns_interval,
        health_interval: config.health_interval,
        health_timeout: config.health_timeout,
        health_rise: config.health_rise,
        health_fall: config.health_fall,
        health_path: config.health_path.clone(),
        slow_start: config.slow_start,
        ejection_min: config.ejection_min,
        ejection_max: config.ejection_max,
        connect_timeout: config.connect_timeout,
        peers,
        send_proxy_header: config.proxy_protocol_out == ProxyProtocol::V2,
    })
}
