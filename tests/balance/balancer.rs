//! A balancer as a child process.

use std::net::SocketAddr;

use serde_json::Value;

use crate::client::Client;
use crate::node::{Launch, Node, Process, eventually};
use crate::web::{Response, Web};

/// `throng balance` in front of some nodes.
pub(crate) struct Balancer {
    pub(crate) http: SocketAddr,
    pub(crate) process: Process,
}

impl Balancer {
    /// On the loopback and a free port, with further arguments; it has found all nodes to be well.
    pub(crate) fn start(nodes: &[Node], args: &[&str]) -> Self {
        let backends: Vec<String> = nodes.iter().map(|node| node.http.to_string()).collect();
        let mut all = vec!["balance", "--port", "0", "--bind", "127.0.0.1"];
        all.extend(backends.iter().flat_map(|backend| ["--backend", backend]));
        all.extend(args);
        let process = Launch::bare(&all).spawn();
        let Some(ready) = process.stdout_line() else {
            panic!("{all:?} is not ready: {:#?}", process.rest_of_stderr());
        };
        let http = ready.split(' ').find_map(|word| word.strip_prefix("http=")).unwrap();
        let balancer = Balancer { http: http.parse().unwrap(), process };
        let is_up = |node: &Node| balancer.state_of(node) == "up";
        eventually("all nodes are up", || nodes.iter().all(is_up));
        balancer
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        Web::connect(self.http).request("GET", path, "", "")
    }

    /// How the balancer sees a node.
    pub(crate) fn state_of(&self, node: &Node) -> String {
        let address = node.http.to_string();
        let answer = self.get("/api/backends").json();
        let known = answer["backends"].as_array().unwrap();
        let backend = known.iter().find(|backend| backend["address"] == address.as_str());
        let state = backend.unwrap_or_else(|| panic!("no {address} in {answer}"))["state"].clone();
        let Value::String(state) = state else { panic!("{answer}") };
        state
    }

    /// So many clients, with ids of their own.
    pub(crate) fn clients(&self, count: usize) -> Vec<Client> {
        (0..count).map(|number| Client::join(self.http, number)).collect()
    }
}
