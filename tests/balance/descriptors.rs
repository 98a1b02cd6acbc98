//! Reactors with descriptor tables of their own.

use std::thread;

use serde_json::Value;

use crate::balancer::{Balancer, launch};
use crate::client::Client;
use crate::node::{Node, eventually};
use crate::web::Web;

/// Clients of one round, more than two reactors have small descriptors for.
const CLIENTS: usize = 60;

#[test]
fn what_wakes_other_threads_is_never_written_to_a_client() {
    let nodes: [Node; 2] = std::array::from_fn(|_| Node::start(&["--reactors", "1"]));
    let balancer = Balancer::start(&nodes, &["--reactors", "2", "--private-fd-tables"]);
    // Handshakes and requests of operators are told to the director.
    let mut clients = balancer.clients(CLIENTS);
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
    for _ in 0..CLIENTS {
        let answer = Web::connect(balancer.http).request("POST", "/api/backends/b1/enable", "", "");
        assert_eq!((answer.status, &answer.json()["id"]), (200, &Value::from("b1")), "{answer:?}");
    }
    let http = balancer.http;
    let join = move |part| (0..CLIENTS).for_each(|number| drop(Client::join(http, part * CLIENTS + number)));
    let joining: Vec<_> = (0..4).map(|part| thread::spawn(move || join(part))).collect();
    for thread in joining {
        thread.join().unwrap();
    }
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
    drop(clients);
    eventually("the nodes have no clients left", || {
        nodes.iter().all(|node| node.json("/health")["connections"] == 0)
    });
}

/// A pair takes two, which its operator is told of at the start.
#[test]
fn a_limit_below_what_pairs_need_is_told_of_at_the_start() {
    for (limit, part) in [(2128, None), (2127, Some("1000 connections need 2128"))] {
        let flags = ["--max-connections", "1000", "--lame-duck", "0s", "--drain-window", "0s"];
        let launch = launch(&["127.0.0.1:1".to_owned()], &flags).descriptors(limit);
        let balancer = Balancer::launched(&launch);
        balancer.process.signal(libc::SIGTERM);
        let lines = balancer.process.rest_of_stderr();
        let told = lines.iter().find(|line| line.contains("descriptors may be open"));
        assert_eq!(told.is_some(), part.is_some(), "{limit}: {lines:#?}");
        assert!(told.is_none_or(|line| part.is_some_and(|part| line.contains(part))), "{told:?}");
    }
}
