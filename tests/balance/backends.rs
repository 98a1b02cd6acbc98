//! Which backend a client gets: past those that fail, to a place that is free,
//! by the strategy, and as the list of backends changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::balancer::{Balancer, launch};
use crate::client::{Client, End, instance_of};
use crate::node::{Node, eventually};
use crate::socket::{Socket, upgrade};
use crate::stub::{self, Call, SWITCHING, Stub};
use crate::web::Response;

/// Settings with which what checks find has been found at the start, and is not found again.
const UNCHECKED: [&str; 2] = ["--health-interval", "1h"];
/// Settings with which changes are seen soon.
const QUICK: [&str; 6] = ["--health-interval", "300ms", "--health-timeout", "250ms", "--slow-start", "0s"];

fn nodes<const N: usize>() -> [Node; N] {
    std::array::from_fn(|_| Node::start(&["--reactors", "1"]))
}

/// The refusal of a client.
fn refusal(balancer: &Balancer) -> Response {
    match Socket::try_connect(balancer.http, "/ws", "") {
        Err(answer) => answer,
        Ok(_) => panic!("it was served"),
    }
}

fn retry_after(answer: &Response) -> u32 {
    answer.header("retry-after").expect("it says when to come back").parse().unwrap()
}

fn post(balancer: &Balancer, path: &str, body: &Value) -> Response {
    balancer.web().request("POST", path, "", &if body.is_null() { String::new() } else { body.to_string() })
}

/// How many of these clients each instance has.
fn shares(clients: &[Client]) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    clients.iter().for_each(|client| *shares.entry(client.instance.clone()).or_default() += 1);
    shares
}

/// A user's connection, and the instance that serves it.
fn user(balancer: &Balancer, user: usize) -> String {
    let mut socket = Socket::connect(balancer.http, &format!("/ws?user_id=user-{user}"), "");
    socket.json()["service_identity"]["instance_id"].as_str().unwrap().to_owned()
}

/// Behind a node and a backend that fails, clients notice nothing.
#[track_caller]
fn check_failing(bad: SocketAddr, fail: impl FnOnce(), serves_plain: bool, is_fault: bool) {
    let node = Node::start(&["--reactors", "1"]);
    let args = ["--connect-timeout", "300ms", "--answer-timeout", "300ms", "--reactors", "1"];
    let balancer = Balancer::over(&[bad, node.http], &[&UNCHECKED[..], &args].concat());
    fail();
    let mut clients = balancer.clients(4);
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
    if !serves_plain {
        (0..2).for_each(|_| assert_eq!(balancer.get("/nodes").status, 200));
    }
    assert!(balancer.metric("throng_balancer_retries_total") > 0, "nobody was sent there");
    let failures = balancer.find(bad).unwrap()["failures"].as_u64().unwrap();
    assert_eq!(failures > 0, is_fault, "{failures} failures");
    assert_eq!(balancer.find(bad).unwrap()["connections"], 0);
    assert_eq!(balancer.find(node.http).unwrap()["failures"], 0);
}

fn check_answering(answer: &'static str, serves_plain: bool, is_fault: bool) {
    let bad = Stub::always(move |mut call| {
        call.web.send(answer);
        // A balancer that has seen enough closes.
        while !answer.is_empty() && call.web.read_more() {}
    });
    check_failing(bad, || (), serves_plain, is_fault);
}

/// Where there is no other backend, none is tried: the alert goes by what was.
#[test]
fn the_only_backend_is_tried_once() {
    let bad = Stub::always(|mut call| call.web.send("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    let balancer = Balancer::over(&[bad], &UNCHECKED);
    assert_eq!(refusal(&balancer).status, 503);
    assert_eq!(balancer.metric("throng_balancer_handshakes_failed_total"), 1);
    assert_eq!(balancer.metric("throng_balancer_retries_total"), 0);
}

#[test]
fn past_a_backend_that_refuses_connections() {
    let mut bad = Stub::start();
    check_failing(bad.address, || bad.close(), false, true);
}

#[test]
fn past_a_backend_that_does_not_answer_connects() {
    let mut bad = Stub::start();
    check_failing(bad.address, || bad.hang(), false, true);
}

#[test]
fn past_a_backend_that_accepts_and_never_answers() {
    let bad = Stub::always(|mut call| while call.web.read_more() {});
    check_failing(bad, || (), false, true);
}

#[test]
fn past_a_backend_that_closes() {
    check_answering("", false, true);
    let half = Stub::always(|mut call| call.web.send("HTTP/1.1 101 Sw"));
    check_failing(half, || (), false, true);
}

#[test]
fn past_a_backend_that_answers_garbage() {
    check_answering("SSH-2.0-OpenSSH_9.2\r\n", false, true);
    check_answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", false, true);
    let endless = Stub::always(|mut call| {
        call.web.send(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(20_000)));
        while call.web.read_more() {}
    });
    check_failing(endless, || (), false, true);
}

#[test]
fn past_a_backend_that_never_comes_to_its_answer() {
    const INTERIM: &str = "HTTP/1.1 102 Processing\r\n\r\n";
    let (talker, good) = (Stub::start(), Stub::start());
    let args = [&UNCHECKED[..], &["--reactors", "1", "--buffer-bytes-max", "16MiB"]].concat();
    let balancer = Balancer::over(&[talker.address, good.address], &args);
    let mut web = balancer.web();
    web.send("GET /x HTTP/1.1\r\nHost: b\r\n\r\n");
    let mut call = talker.call();
    // The balancer may have closed before it was all sent.
    let _ = call.web.stream.write_all(INTERIM.repeat(100_000).as_bytes());
    good.call().answer(b"at last");
    let mut interim = 0;
    let answer = loop {
        let answer = web.response();
        if answer.status != 102 {
            break answer;
        }
        interim += 1;
    };
    assert_eq!((answer.status, answer.body), (200, b"at last".to_vec()));
    assert!((1..=16).contains(&interim), "{interim}");
    assert_eq!(balancer.find(talker.address).unwrap()["failures"], 1);
}

#[test]
fn past_a_backend_that_has_an_error_or_is_leaving() {
    check_answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", true, true);
    check_answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", true, false);
}

#[test]
fn when_nobody_serves_the_client_is_told_to_come_back() {
    let stubs: [Stub; 3] = std::array::from_fn(|_| Stub::start());
    let addresses: Vec<_> = stubs.iter().map(|stub| stub.address).collect();
    let args = [&UNCHECKED[..], &["--connect-attempts", "2", "--reactors", "1"]].concat();
    let balancer = Balancer::over(&addresses, &args);
    let mut web = balancer.web();
    web.send(upgrade("/ws", ""));
    // Round robin: they are asked in their order, each but once.
    for stub in &stubs[..2] {
        let mut call = stub.call();
        call.web.send("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    }
    let answer = web.response();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!((1..=60).contains(&retry_after(&answer)));
    web.assert_ends();
    stubs.iter().for_each(Stub::assert_unused);
    assert_eq!(balancer.metric(r#"throng_balancer_refused_total{reason="no_backend"}"#), 1);
    assert_eq!(balancer.metric("throng_balancer_retries_total"), 1, "two were tried");

    let nowhere = Balancer::launched(&launch(&[stub::nobody().to_string()], &[]));
    nowhere.wait_until_all_are("down");
    assert!((1..=60).contains(&retry_after(&refusal(&nowhere))));
    let plain = nowhere.get("/nodes");
    assert_eq!(plain.status, 503);
    assert!((1..=60).contains(&retry_after(&plain)));
    assert_eq!(nowhere.get("/health").status, 503);
}

#[test]
fn what_a_request_may_have_done_is_not_done_twice() {
    let stubs: [Stub; 2] = std::array::from_fn(|_| Stub::start());
    let addresses = [stubs[0].address, stubs[1].address];
    let args = [&UNCHECKED[..], &["--answer-timeout", "200ms", "--reactors", "1"]].concat();
    let balancer = Balancer::over(&addresses, &args);
    for (index, silent) in [(0, false), (1, true)] {
        let mut web = balancer.web();
        web.send("POST /order HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nbuy");
        let mut call = stubs[index].call();
        assert_eq!(call.body(), b"buy");
        if silent {
            assert!(!call.web.read_more());
        }
        drop(call);
        assert_eq!(web.response().status, 502);
        stubs.iter().for_each(Stub::assert_unused);
    }
    // What only asks is asked again.
    let mut web = balancer.web();
    web.send("GET /orders HTTP/1.1\r\nHost: b\r\n\r\n");
    drop(stubs[0].call());
    stubs[1].call().answer(b"one");
    assert_eq!(web.response().body, b"one");
    // Unless part of it is gone for good.
    let mut web = balancer.web();
    web.send("GET /orders HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n12");
    let mut call = stubs[0].call();
    web.send("34");
    assert_eq!(call.body(), b"1234");
    drop(call);
    assert_eq!(web.response().status, 502);
    stubs.iter().for_each(Stub::assert_unused);
}

#[test]
fn a_body_that_does_not_come_is_not_the_backends_fault() {
    let stub = Stub::start();
    let args = [&UNCHECKED[..], &["--answer-timeout", "200ms", "--handshake-timeout", "300ms"]].concat();
    let balancer = Balancer::over(&[stub.address], &args);
    let mut web = balancer.web();
    web.send("POST /order HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nbu");
    let mut call = stub.call();
    assert_eq!(web.response().status, 408);
    assert_eq!(call.bytes(2), b"bu");
    assert!(!call.web.read_more());
    // Nor if the backend is the one to lose patience.
    let balancer = Balancer::over(&[stub.address], &UNCHECKED);
    let mut web = balancer.web();
    web.send("POST /order HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nbu");
    let mut call = stub.call();
    assert_eq!(call.bytes(2), b"bu");
    drop(call);
    assert_eq!(web.response().status, 502);
    assert_eq!(balancer.find(stub.address).unwrap()["failures"], 0);
}

#[test]
fn a_draining_node_s_clients_are_served_elsewhere() {
    let nodes: [Node; 2] = std::array::from_fn(|_| {
        Node::start(&["--reactors", "1", "--lame-duck", "0s", "--drain-window", "20s"])
    });
    let balancer = Balancer::start(&nodes, &UNCHECKED);
    let other = instance_of(&nodes[1]);
    let _keeps_it = Client::join(nodes[0].http, 0);
    nodes[0].process.signal(libc::SIGTERM);
    eventually("it refuses", || Socket::try_connect(nodes[0].http, "/ws", "").is_err());
    // No check has told the balancer.
    balancer.clients(6).iter().for_each(|client| assert_eq!(client.instance, other));
    assert_eq!(balancer.find(nodes[0].http).unwrap()["failures"], 0);
}

/// A balancer in front of one node that takes one client.
fn one_place(node: &Node, args: &[&str]) -> Balancer {
    Balancer::over(&[format!("{},max=1", node.http)], &[&["--reactors", "1"], args].concat())
}

/// A client that asks to be let in; what comes of it is to be waited for.
fn knock(balancer: &Balancer) -> crate::web::Web {
    let mut web = balancer.web();
    web.send(upgrade("/ws", ""));
    web
}

#[test]
fn who_finds_no_place_waits_for_one() {
    let node = Node::start(&["--reactors", "1"]);
    let balancer = one_place(&node, &["--queue-timeout", "1m"]);
    let first = Client::join(balancer.http, 1);
    let second = knock(&balancer);
    balancer.wait_for_queued(1);
    let third = knock(&balancer);
    balancer.wait_for_queued(2);
    let health = balancer.json("/health");
    assert_eq!((&health["connections"], &health["status"]), (&json!(1), &json!("healthy")));
    assert_eq!(balancer.metric("throng_balancer_queued"), 2);
    let shown = balancer.json("/api/clients");
    let waiting = shown["clients"].as_array().unwrap().iter().filter(|client| client["backend"].is_null());
    assert_eq!(waiting.count(), 2, "{shown}");
    drop(first);
    let mut second = Socket::accept(second).unwrap();
    assert_eq!(second.json()["type"], "welcome");
    balancer.wait_for_queued(1);
    drop(second);
    let mut third = Socket::accept(third).unwrap();
    assert_eq!(third.json()["type"], "welcome");
    third.assert_alive();
    balancer.wait_for_queued(0);
    assert_eq!(balancer.backends()[0]["total"], 3);
}

#[test]
fn who_waits_in_vain_is_told_to_come_back() {
    let node = Node::start(&["--reactors", "1"]);
    let balancer = one_place(&node, &["--queue-timeout", "200ms"]);
    let mut first = Client::join(balancer.http, 1);
    let since = Instant::now();
    let answer = refusal(&balancer);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!((1..=60).contains(&retry_after(&answer)));
    // Clocks are read in whole milliseconds.
    assert!(since.elapsed() >= Duration::from_millis(198), "it did not wait");
    assert_eq!(balancer.json("/health")["queued"], 0);
    assert_eq!(balancer.metric(r#"throng_balancer_refused_total{reason="queue_full"}"#), 1);
    first.socket.assert_alive();
}

#[test]
fn the_queue_has_an_end() {
    let node = Node::start(&["--reactors", "1"]);
    let balancer = one_place(&node, &["--queue-connections", "2", "--queue-timeout", "1m"]);
    let mut first = Client::join(balancer.http, 1);
    // Who leaves it makes room in it, over and over.
    for _ in 0..3 {
        let waiting = [knock(&balancer), knock(&balancer)];
        balancer.wait_for_queued(2);
        let answer = refusal(&balancer);
        assert_eq!(answer.status, 503);
        assert!((1..=60).contains(&retry_after(&answer)));
        drop(waiting);
        balancer.wait_for_queued(0);
    }
    // So does who is refused in it.
    let waiting = [knock(&balancer), knock(&balancer)];
    balancer.wait_for_queued(2);
    assert_eq!(post(&balancer, "/api/backends/b1/drain", &Value::Null).status, 200);
    for mut web in waiting {
        assert_eq!(web.response().status, 503);
    }
    balancer.wait_for_queued(0);
    first.socket.assert_alive();
    assert_eq!(balancer.json("/api/backends")["backends"][0]["connections"], 1);
}

/// A file that a test may write, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let scratch = Scratch(std::env::temp_dir().join(format!("throng-{}-{name}", std::process::id())));
        scratch.write(text);
        scratch
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Replaces the file as a whole, as careful editors do.
    fn write(&self, text: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Of no use to anybody else.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn backends_come_and_go_with_their_file() {
    let nodes = nodes::<3>();
    let line = |index: usize| nodes[index].http.to_string();
    let file =
        Scratch::new("backends", &format!("# nodes\n{}\n\n{},weight=2 # the second\n", line(0), line(1)));
    let args = [&QUICK[..], &["--backends-file", file.path()]].concat();
    let balancer = Balancer::launched(&launch(&[], &args));
    balancer.wait_until_all_are("up");
    let shown: Vec<_> =
        balancer.backends().iter().map(|one| (one["origin"].clone(), one["weight"].clone())).collect();
    assert_eq!(shown, [(json!("file"), json!(1)), (json!("file"), json!(2))]);
    let mut clients = balancer.clients(3);
    let first = instance_of(&nodes[0]);

    file.write(&format!("{}\n{}\n", line(1), line(2)));
    eventually("the new one serves", || balancer.find(nodes[2].http).is_some_and(|one| one["state"] == "up"));
    let left = balancer.find(nodes[0].http).unwrap();
    assert_eq!((&left["state"], &left["why"]), (&json!("draining"), &json!("no longer listed")));
    assert_eq!(balancer.find(nodes[1].http).unwrap()["weight"], 1);
    balancer.clients(6).iter().for_each(|client| assert_ne!(client.instance, first));
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
    clients.retain(|client| client.instance != first);
    eventually("without clients it is forgotten", || balancer.find(nodes[0].http).is_none());

    file.write(&format!("{}\nnonsense\n", line(0)));
    balancer.process.log_line("cannot be used");
    let known: BTreeSet<_> =
        balancer.backends().iter().map(|one| one["address"].as_str().unwrap().to_owned()).collect();
    assert_eq!(known, BTreeSet::from([line(1), line(2)]));
    assert!(balancer.backends().iter().all(|one| one["state"] == "up"));
    file.write(&format!("{}\n", line(0)));
    eventually("the one it says is back", || {
        balancer.find(nodes[0].http).is_some_and(|one| one["state"] == "up")
    });
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
}

#[test]
fn the_addresses_of_a_name_are_backends() {
    let node = Node::start(&["--reactors", "1"]);
    let name = format!("localhost:{}", node.http.port());
    let args = [&QUICK[..], &["--backends-dns", &name, "--dns-interval", "100ms"]].concat();
    let balancer = Balancer::launched(&launch(&[], &args));
    eventually("its address is up", || balancer.find(node.http).is_some_and(|one| one["state"] == "up"));
    assert_eq!(balancer.find(node.http).unwrap()["origin"], "dns");
    assert_eq!(Client::join(balancer.http, 1).instance, instance_of(&node));
}

#[test]
fn a_reload_changes_what_is_live() {
    let nodes = nodes::<3>();
    let text = |strategy: &str, count: usize, rest: &str| {
        let backends: Vec<_> = nodes[..count].iter().map(|node| format!("\"{}\"", node.http)).collect();
        format!(
            "strategy = \"{strategy}\"\nbackends = [{}]\nslow_start = \"0s\"\n{rest}",
            backends.join(", ")
        )
    };
    let file = Scratch::new("balance.toml", &text("round_robin", 2, ""));
    let balancer = Balancer::launched(&launch(&[], &["--config", file.path(), "--reactors", "2"]));
    balancer.wait_until_all_are("up");
    let mut kept = balancer.clients(6);
    assert_eq!(shares(&kept).into_values().collect::<Vec<_>>(), [3, 3]);
    file.write(&text("ip_hash", 3, "buffer_bytes_max = \"8KiB\"\n"));
    balancer.process.signal(libc::SIGHUP);
    eventually("it is in force", || balancer.get("/health").json()["strategy"] == "ip_hash");
    eventually("the third one is known", || {
        balancer.find(nodes[2].http).is_some_and(|one| one["state"] == "up")
    });
    // A reactor may be a moment behind.
    eventually("one address has one place", || shares(&balancer.clients(9)).len() == 1);
    kept.iter_mut().for_each(|client| client.socket.assert_alive());

    file.write("strategy = \"by_luck\"\n");
    balancer.process.signal(libc::SIGHUP);
    balancer.process.log_line("not reloaded");
    assert_eq!(balancer.json("/health")["strategy"], "ip_hash");
    file.write(&text("round_robin", 3, "idle_timeout = \"1s\"\n"));
    balancer.process.signal(libc::SIGHUP);
    for client in &mut kept {
        assert_eq!(client.end(), End::Cut, "the idle timeout holds for those who are there");
    }
    assert_eq!(balancer.ended("idle_timeout"), 6);
}

#[test]
fn weights_are_shares() {
    let nodes = nodes::<2>();
    let specs = [format!("{},weight=3", nodes[0].http), nodes[1].http.to_string()];
    let balancer = Balancer::over(&specs, &["--reactors", "2"]);
    let shares = shares(&balancer.clients(40));
    assert_eq!([0, 1].map(|index| shares[&instance_of(&nodes[index])]), [30, 10]);
    let least = Balancer::over(&specs, &["--reactors", "2", "--strategy", "least_connections"]);
    let shares = self::shares(&least.clients(40));
    assert_eq!([0, 1].map(|index| shares[&instance_of(&nodes[index])]), [30, 10]);
}

#[test]
fn the_least_loaded_gets_more() {
    let nodes = nodes::<2>();
    for strategy in ["least_connections", "random_two"] {
        let args = [&QUICK[..], &["--strategy", strategy, "--reactors", "2"]].concat();
        let balancer = Balancer::start(&nodes[..1], &args);
        let _first = balancer.clients(10);
        let added = post(&balancer, "/api/backends", &json!({"address": nodes[1].http.to_string()}));
        assert_eq!(added.status, 201);
        balancer.wait_until_all_are("up");
        let second = instance_of(&nodes[1]);
        // With one request of a page's under way, a tie is not as it looks.
        let share = balancer.clients(9).iter().filter(|client| client.instance == second).count();
        assert_eq!(share, 9, "{strategy}");
    }
}

#[test]
fn a_user_has_one_place() {
    const USERS: usize = 30;
    let nodes = nodes::<3>();
    let balancer = Balancer::start(&nodes, &["--strategy", "user_hash", "--reactors", "2"]);
    let before: Vec<_> = (0..USERS).map(|number| user(&balancer, number)).collect();
    let again: Vec<_> = (0..USERS).map(|number| user(&balancer, number)).collect();
    assert_eq!(again, before);
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3);
    // Another balancer agrees, whatever the order.
    let turned = [nodes[2].http, nodes[0].http, nodes[1].http];
    let second = Balancer::over(&turned, &["--strategy", "user_hash"]);
    assert_eq!((0..USERS).map(|number| user(&second, number)).collect::<Vec<_>>(), before);
    // Only those of a backend that goes have to move.
    let gone = instance_of(&nodes[0]);
    let id = balancer.find(nodes[0].http).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(post(&balancer, &format!("/api/backends/{id}/drain"), &Value::Null).status, 200);
    for (number, before) in before.iter().enumerate() {
        let now = user(&balancer, number);
        assert!(if *before == gone { now != gone } else { now == *before }, "user {number}");
    }
}

#[test]
fn an_address_has_one_place() {
    let nodes = nodes::<3>();
    let args = ["--strategy", "ip_hash", "--reactors", "2", "--trusted-proxy", "127.0.0.0/8"];
    let balancer = Balancer::start(&nodes, &args);
    let place = |host: u8| {
        let header = format!("X-Forwarded-For: 198.51.100.{host}\r\n");
        let mut socket =
            Socket::connect(balancer.http, &format!("/ws?user_id={}", fastrand::u32(..)), &header);
        socket.json()["service_identity"]["instance_id"].as_str().unwrap().to_owned()
    };
    let places: Vec<_> = (0..30).map(place).collect();
    assert_eq!((0..30).map(place).collect::<Vec<_>>(), places);
    assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn who_comes_up_beside_others_begins_slowly() {
    let nodes = nodes::<2>();
    let args = ["--health-interval", "300ms", "--health-timeout", "250ms", "--slow-start", "3s"];
    let balancer = Balancer::start(&nodes[..1], &args);
    let second = instance_of(&nodes[1]);
    let address = json!({"address": nodes[1].http.to_string()});
    // The first one has to have been up for a while to count as warm.
    let state = || balancer.find(nodes[1].http).map(|one| one["state"].as_str().unwrap().to_owned());
    eventually("there is one that is warm", || {
        assert_eq!(post(&balancer, "/api/backends", &address).status, 201);
        eventually("it was checked", || state().unwrap() != "checking");
        if state().unwrap() == "slow_start" {
            return true;
        }
        let id = balancer.find(nodes[1].http).unwrap()["id"].as_str().unwrap().to_owned();
        assert_eq!(balancer.web().request("DELETE", &format!("/api/backends/{id}"), "", "").status, 200);
        eventually("it is gone", || state().is_none());
        false
    });
    let share = balancer.clients(20).iter().filter(|client| client.instance == second).count();
    assert!(share <= 8, "{share} of 20 at the start");
    balancer.wait_until_all_are("up");
    let share = balancer.clients(20).iter().filter(|client| client.instance == second).count();
    assert!((9..=11).contains(&share), "{share} of 20 at the end");
}

#[test]
fn a_backend_that_is_not_ready_gets_nobody_and_keeps_its_own() {
    let stubs: [Stub; 2] = std::array::from_fn(|_| Stub::start());
    let balancer = Balancer::over(&stubs.each_ref().map(|stub| stub.address), &QUICK);
    let connect = |stub: &Stub| {
        let mut web = balancer.web();
        web.send(upgrade("/ws", ""));
        let mut call = stub.call();
        call.web.send(SWITCHING);
        (Socket::accept(web).unwrap(), call)
    };
    let (mut socket, mut call): (Socket, Call) = connect(&stubs[0]);
    stubs[0].set_health(503);
    eventually("it is seen", || balancer.state_at(stubs[0].address) == "draining");
    let _others: Vec<_> = (0..4).map(|_| connect(&stubs[1])).collect();
    call.web.send(stub::frame(0x81, b"still here"));
    assert_eq!(socket.frame().payload, b"still here");
    stubs[0].set_health(500);
    // Its clients are not lost before it is down for sure.
    assert_eq!(socket.close_frame().0, 1012);
    assert_eq!(balancer.state_at(stubs[0].address), "down");
    stubs[0].set_health(204);
    balancer.wait_until_all_are("up");
    let _both = [knock(&balancer), knock(&balancer)];
    for stub in &stubs {
        assert_eq!(stub.call().target(), "/ws");
    }
}
