//! TLS on a node's listeners, spoken by clients that others wrote.

mod clients;
mod files;
mod flow;
mod handshake;
mod leaving;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;

use crate::authority::{Authority, Certified, VERSIONS};
use crate::node::{Launch, Node, eventually};
use crate::socket::Socket;
use crate::web::{Response, Web};

/// A node that speaks TLS, and clients that trust it.
struct Secure {
    node: Node,
    authority: Authority,
    shown: Certified,
    /// Clients of no special kind.
    config: Arc<ClientConfig>,
}

/// All that a thread of clients needs.
#[derive(Clone)]
struct Door {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Door {
    fn web(&self) -> Web {
        Web::connect(self.address).secure(&self.config).unwrap()
    }

    fn user(&self, user: &str) -> Socket {
        let mut socket = Socket::over(self.web(), &format!("/ws?user_id={user}"));
        assert_eq!(socket.json()["type"], "welcome");
        socket
    }
}

impl Secure {
    /// `throng serve` with `args`; both its ports speak TLS unless they say otherwise.
    fn start(args: &[&str]) -> Self {
        Self::start_as(Authority::new(), args)
    }

    fn start_as(authority: Authority, args: &[&str]) -> Self {
        let shown = authority.server("server");
        let node = Launch::serve(&[&shown.flags()[..], args].concat()).start();
        let config = Arc::new(authority.trusting(&VERSIONS));
        Secure { node, authority, shown, config }
    }

    /// Where its clients connect to.
    fn door(&self) -> Door {
        Door { address: self.node.http, config: self.config.clone() }
    }

    /// A connection that speaks HTTP in TLS.
    fn web(&self) -> Web {
        self.door().web()
    }

    fn web_at(&self, address: SocketAddr, config: &Arc<ClientConfig>) -> Web {
        Door { address, config: config.clone() }.web()
    }

    fn get(&self, path: &str) -> Response {
        self.web().request("GET", path, "", "")
    }

    fn json(&self, path: &str) -> Value {
        let response = self.get(path);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    fn socket(&self, target: &str) -> Socket {
        Socket::over(self.web(), target)
    }

    /// A user's WebSocket, welcomed.
    fn user(&self, user: &str) -> Socket {
        self.door().user(user)
    }

    /// The value of a sample in `/metrics`, named with its labels.
    fn metric(&self, sample: &str) -> u64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {sample} in {text}"));
        value.parse::<f64>().unwrap() as u64
    }

    /// TLS handshakes with this outcome.
    fn handshakes(&self, outcome: &str) -> u64 {
        self.metric(&format!(r#"throng_tls_handshakes_total{{outcome="{outcome}"}}"#))
    }

    /// Connections that ended for this reason.
    fn closed(&self, reason: &str) -> u64 {
        self.metric(&format!(r#"throng_connections_closed_total{{reason="{reason}"}}"#))
    }

    /// Waits until so many have.
    fn wait_for_closed(&self, reason: &str, count: u64) {
        eventually(&format!("{count} ended for {reason}"), || self.closed(reason) == count);
    }

    /// Open sockets of any kind, that of who asks among them.
    fn sockets(&self) -> u64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let samples = text.lines().filter(|line| line.starts_with("throng_sockets{"));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Waits until nobody is connected but who asks.
    fn node_has_no_sockets(&self) {
        eventually("all are gone", || self.sockets() <= 1);
    }
}
