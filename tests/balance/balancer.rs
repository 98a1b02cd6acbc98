//! A balancer as a child process.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;

use crate::client::Client;
use crate::node::{Launch, Node, Process, eventually};
use crate::web::{Response, Web};

/// `throng balance` in front of some backends.
pub(crate) struct Balancer {
    pub(crate) http: SocketAddr,
    pub(crate) process: Process,
    /// What its clients speak TLS with, if they do.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// How a balancer is to be started: on the loopback and a free port, with these
/// backends, each as an operator writes it, and further arguments.
pub(crate) fn launch(backends: &[String], args: &[&str]) -> Launch {
    let mut all = vec!["balance", "--port", "0", "--bind", "127.0.0.1"];
    all.extend(backends.iter().flat_map(|backend| ["--backend", backend]));
    all.extend(args);
    Launch::bare(&all)
}

impl Balancer {
    /// In front of nodes, with further arguments; it has found them all to be well.
    pub(crate) fn start(nodes: &[Node], args: &[&str]) -> Self {
        let backends: Vec<SocketAddr> = nodes.iter().map(|node| node.http).collect();
        Self::over(&backends, args)
    }

    /// The same in front of whatever is written so.
    pub(crate) fn over(backends: &[impl ToString], args: &[&str]) -> Self {
        let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
        let balancer = Self::launched(&launch(&backends, args));
        balancer.wait_until_all_are("up");
        balancer
    }

    /// One that accepts; what it thinks of its backends is open.
    pub(crate) fn launched(launch: &Launch) -> Self {
        let process = launch.spawn();
        let Some(ready) = process.stdout_line() else {
            panic!("it is not ready: {:#?}", process.rest_of_stderr());
        };
        let http = ready.split(' ').find_map(|word| word.strip_prefix("http=")).unwrap();
        Balancer { http: http.parse().unwrap(), process, tls: None }
    }

    /// As [`Balancer::launched`], with clients that speak TLS.
    pub(crate) fn launched_secure(launch: &Launch, tls: Arc<ClientConfig>) -> Self {
        Balancer { tls: Some(tls), ..Self::launched(launch) }
    }

    pub(crate) fn web(&self) -> Web {
        let web = Web::connect(self.http);
        match &self.tls {
            None => web,
            Some(tls) => web.secure(tls).unwrap(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.web().request("GET", path, "", "")
    }

    /// The JSON at `path`, which must be there.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// All backends as it shows them.
    pub(crate) fn backends(&self) -> Vec<Value> {
        let Value::Array(backends) = self.json("/api/backends")["backends"].take() else {
            panic!("no list of backends")
        };
        backends
    }

    /// The backend of this address, if it is known.
    pub(crate) fn find(&self, address: SocketAddr) -> Option<Value> {
        let address = address.to_string();
        self.backends().into_iter().find(|backend| backend["address"] == address.as_str())
    }

    /// How the balancer sees a backend.
    pub(crate) fn state_at(&self, address: SocketAddr) -> String {
        let backend = self.find(address).unwrap_or_else(|| panic!("no {address}"));
        backend["state"].as_str().unwrap().to_owned()
    }

    /// How the balancer sees a node.
    pub(crate) fn state_of(&self, node: &Node) -> String {
        self.state_at(node.http)
    }

    pub(crate) fn wait_until_all_are(&self, state: &str) {
        let are_all = || self.backends().iter().all(|backend| backend["state"] == state);
        eventually(&format!("all backends are {state}"), are_all);
    }

    /// Waits until so many clients are connected.
    pub(crate) fn wait_for_connections(&self, count: u64) {
        eventually(&format!("{count} connections"), || self.get("/health").json()["connections"] == count);
    }

    /// Waits until so many clients wait for a place.
    pub(crate) fn wait_for_queued(&self, count: u64) {
        eventually(&format!("{count} in the queue"), || self.get("/health").json()["queued"] == count);
    }

    /// The value of a sample in `/metrics`, named with its labels.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {sample} in {text}"));
        value.parse::<f64>().unwrap() as u64
    }

    /// How many pairs ended for a reason.
    pub(crate) fn ended(&self, reason: &str) -> u64 {
        self.metric(&format!(r#"throng_balancer_pairs_ended_total{{reason="{reason}"}}"#))
    }

    /// So many clients, with ids of their own.
    pub(crate) fn clients(&self, count: usize) -> Vec<Client> {
        (0..count).map(|number| Client::join(self.http, number)).collect()
    }
}
