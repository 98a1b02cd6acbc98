//! TLS on either side of the balancer, or on both.

mod backends;
mod clients;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::authority::{Authority, Certified, VERSIONS, text};
use crate::balancer::{Balancer, launch};
use crate::node::Node;
use crate::socket::Socket;

/// Settings with which what checks find has been found at the start, and is not found again.
const UNCHECKED: [&str; 2] = ["--health-interval", "1h"];

/// Settings with which changes are seen soon.
const QUICK: [&str; 6] = ["--health-interval", "200ms", "--health-timeout", "150ms", "--slow-start", "0s"];

/// A balancer whose clients speak TLS.
struct Secure {
    balancer: Balancer,
    authority: Authority,
    shown: Certified,
}

impl Secure {
    /// In front of these, all of which it has found to be well.
    fn over(backends: &[SocketAddr], args: &[&str]) -> Self {
        Self::over_as(Authority::new(), backends, args)
    }

    fn over_as(authority: Authority, backends: &[SocketAddr], args: &[&str]) -> Self {
        let shown = authority.server("balancer");
        let balancer = secured(&authority, &shown, backends, args);
        balancer.wait_until_all_are("up");
        Secure { balancer, authority, shown }
    }

    fn socket(&self, target: &str) -> Socket {
        Socket::over(self.balancer.web(), target)
    }

    /// A user's WebSocket, welcomed.
    fn user(&self, user: &str) -> Socket {
        let mut socket = self.socket(&format!("/ws?user_id={user}&client_id={user}"));
        assert_eq!(socket.json()["type"], "welcome");
        socket
    }

    /// TLS handshakes of clients with this outcome.
    fn handshakes(&self, outcome: &str) -> u64 {
        self.balancer.metric(&format!(r#"throng_balancer_tls_handshakes_total{{outcome="{outcome}"}}"#))
    }
}

/// A balancer that shows this to clients; what it thinks of its backends is open.
fn secured(authority: &Authority, shown: &Certified, backends: &[SocketAddr], args: &[&str]) -> Balancer {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let launch = launch(&backends, &[&shown.flags()[..], args].concat());
    Balancer::launched_secure(&launch, Arc::new(authority.trusting(&VERSIONS)))
}

/// A node that speaks TLS and shows this.
fn secure_node(shown: &Certified, args: &[&str]) -> Node {
    Node::start(&[&shown.flags()[..], &["--reactors", "1"], args].concat())
}

/// Flags of a balancer that speaks TLS with its backends, and trusts those whom this authority does.
fn to_backends(ca: &std::path::Path) -> [&str; 3] {
    ["--backend-tls", "--backend-ca", text(ca)]
}

/// Bytes in which a part that is missing, doubled or out of place shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
