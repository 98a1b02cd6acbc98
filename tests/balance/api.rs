//! What the balancer itself answers over HTTP.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::balancer::{Balancer, launch};
use crate::client::{Client, End, instance_of};
use crate::listener::Listener;
use crate::node::{Node, eventually};
use crate::socket::Socket;
use crate::web::Response;

/// Settings with which changes are seen soon.
const QUICK: [&str; 4] = ["--health-interval", "300ms", "--health-timeout", "250ms"];

fn nodes<const N: usize>() -> [Node; N] {
    std::array::from_fn(|_| Node::start(&["--reactors", "1"]))
}

fn keys(value: &Value) -> String {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

/// A call with a body of JSON; the connection ends after it.
fn call(balancer: &Balancer, method: &str, path: &str, headers: &str, body: &Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut web = balancer.web();
    let response = web.request(method, path, headers, &body);
    web.assert_ends();
    response
}

/// The id of a node's backend.
fn id_of(balancer: &Balancer, node: &Node) -> String {
    balancer.find(node.http).unwrap()["id"].as_str().unwrap().to_owned()
}

fn assert_is_error(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.json()["status"], status);
    assert!(!response.json()["error"].as_str().unwrap().is_empty(), "{response:?}");
}

#[test]
fn health_follows_the_backends() {
    let nodes = nodes::<2>();
    let balancer = Balancer::start(&nodes, &["--service-name", "front", "--strategy", "random_two"]);
    let _clients = balancer.clients(3);
    let health = balancer.json("/health");
    assert_eq!(keys(&health), "backends connections phase queued service status strategy timestamp version");
    assert!(humantime::parse_rfc3339(health["timestamp"].as_str().unwrap()).is_ok(), "{health}");
    let expected = json!({
        "status": "healthy", "service": "front", "version": env!("CARGO_PKG_VERSION"), "strategy": "random_two",
        "phase": "serving", "backends": {"total": 2, "available": 2}, "connections": 3, "queued": 0,
        "timestamp": health["timestamp"],
    });
    assert_eq!(health, expected);
    assert_eq!(balancer.json("/livez")["status"], "alive");
    let drain = |id: &str| call(&balancer, "POST", &format!("/api/backends/{id}/drain"), "", &Value::Null);
    assert_eq!(drain("b1").status, 200);
    assert_eq!(balancer.json("/")["status"], "degraded");
    assert_eq!(balancer.json("/readyz"), json!({"ready": true, "phase": "serving"}));
    assert_eq!(drain("b2").status, 200);
    let health = balancer.get("/health");
    assert_eq!((health.status, &health.json()["status"]), (503, &"unhealthy".into()));
    let ready = balancer.get("/readyz");
    assert_eq!((ready.status, ready.json()), (503, json!({"ready": false, "phase": "serving"})));
    assert_eq!(balancer.get("/livez").status, 200, "restarting it would not help");
}

#[test]
fn backends_are_shown_with_what_passes_through_them() {
    let nodes = nodes::<2>();
    let balancer = Balancer::start(&nodes, &[]);
    let mut clients = balancer.clients(4);
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
    let shown = balancer.json("/api/backends");
    assert_eq!(shown["strategy"], "round_robin");
    for (backend, node) in shown["backends"].as_array().unwrap().iter().zip(&nodes) {
        let expected = "address bytes_to_backend bytes_to_clients connections drained failures id last_check \
            max_connections name origin since state total weight why";
        assert_eq!(keys(backend), expected);
        let address = node.http.to_string();
        assert_eq!((&backend["name"], &backend["address"]), (&json!(address), &json!(address)));
        let facts = ["origin", "weight", "max_connections", "state", "drained", "connections", "failures"];
        assert_eq!(
            facts.map(|key| &backend[key]),
            [&json!("flag"), &json!(1), &Value::Null, &json!("up"), &json!(false), &json!(2), &json!(0)]
        );
        assert!(backend["total"].as_u64().unwrap() >= 2, "{backend}");
        // Two welcomes and two pongs.
        assert!(backend["bytes_to_clients"].as_u64().unwrap() > 400, "{backend}");
        assert!((60..400).contains(&backend["bytes_to_backend"].as_u64().unwrap()), "{backend}");
        assert!(humantime::parse_rfc3339(backend["since"].as_str().unwrap()).is_ok());
        let check = &backend["last_check"];
        assert_eq!(
            (&check["ok"], &check["status"], &check["error"]),
            (&json!(true), &json!(200), &Value::Null)
        );
        assert!((0.0..1000.0).contains(&check["latency_ms"].as_f64().unwrap()), "{check}");
        let alone = balancer.json(&format!("/api/backends/{}", backend["id"].as_str().unwrap()));
        assert_eq!((&alone["name"], keys(&alone)), (&backend["name"], keys(backend)));
    }
    for unknown in ["/api/backends/b99", "/api/backends/x", "/api/backends/b1/nothing"] {
        assert_is_error(&balancer.get(unknown), 404);
    }
}

#[test]
fn clients_are_shown_page_by_page() {
    const CLIENTS: usize = 25;
    let nodes = nodes::<2>();
    let balancer = Balancer::start(&nodes, &["--reactors", "2"]);
    let mut clients = balancer.clients(CLIENTS);
    let page = |query: &str| balancer.json(&format!("/api/clients?{query}"));
    let (mut seen, mut reactors, mut pages) = (BTreeSet::new(), BTreeSet::new(), 0);
    let mut query = "limit=4".to_owned();
    loop {
        let found = page(&query);
        pages += 1;
        assert_eq!(found["total"], CLIENTS, "{found}");
        for client in found["clients"].as_array().unwrap() {
            assert!(seen.insert(client["id"].as_str().unwrap().to_owned()), "{client} is shown twice");
            reactors.insert(client["connection"].as_str().unwrap().split('-').next().unwrap().to_owned());
        }
        let Some(next) = found["next"].as_str() else { break };
        assert_eq!(found["clients"].as_array().unwrap().len(), 4);
        query = format!("limit=4&after={next}");
    }
    assert_eq!((seen.len(), pages, reactors.len()), (CLIENTS, CLIENTS.div_ceil(4), 2));

    let one = page("q=CLIENT-17");
    assert_eq!((&one["total"], &one["next"]), (&json!(1), &Value::Null));
    let shown = &one["clients"][0];
    let expected =
        "address backend bytes_from_client bytes_to_client connection generated id name since user_id";
    assert_eq!(keys(shown), expected);
    let names = ["id", "user_id", "name", "generated"].map(|key| &shown[key]);
    assert_eq!(names, [&json!("client-17"), &json!("user-17"), &Value::Null, &json!(false)]);
    let local = clients[17].socket.web().stream.local_addr().unwrap();
    assert_eq!(shown["address"], local.to_string());
    assert!(shown["bytes_to_client"].as_u64().unwrap() > 100, "{shown}");
    assert_eq!(page("q=user-17")["total"], 1);
    assert_eq!(page("q=nobody"), json!({"clients": [], "next": null, "total": 0}));
    assert_eq!(page(&format!("q=127.0.0.1%3A{}", local.port()))["total"], 1);

    for node in &nodes {
        let (id, instance) = (id_of(&balancer, node), instance_of(node));
        let there = page(&format!("backend={id}"));
        let expected: BTreeSet<_> =
            clients.iter().filter(|client| client.instance == instance).map(Client::id).collect();
        let found = there["clients"].as_array().unwrap();
        assert!(found.iter().all(|client| client["backend"] == id.as_str()), "{there}");
        let found: BTreeSet<_> =
            found.iter().map(|client| client["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(found, expected);
    }
    for bad in ["limit=0", "limit=1001", "limit=x", "after=x", "after=0", "backend=zz"] {
        assert_is_error(&balancer.get(&format!("/api/clients?{bad}")), 400);
    }
}

#[test]
fn a_client_is_found_by_what_it_is_called() {
    let nodes = nodes::<1>();
    let balancer = Balancer::start(&nodes, &["--reactors", "2"]);
    let connect = |target: &str| Socket::connect(balancer.http, target, "");
    let _open =
        ["/ws?client_id=alice", "/ws?client_id=alice&user_id=u1", "/ws?user_id=bob", "/ws?name=Carol+C"]
            .map(connect);
    let query = |id: &str| balancer.get(&format!("/api/query?client_id={id}"));
    let alice = query("alice").json();
    assert_eq!((&alice["client_id"], alice["connections"].as_array().unwrap().len()), (&json!("alice"), 2));
    assert_eq!(query("bob").json()["connections"][0]["user_id"], "bob");
    assert_eq!(query("Carol%20C").json()["connections"][0]["name"], "Carol C");
    assert_is_error(&query("u1"), 404);
    assert_is_error(&query("ALICE"), 404);
    assert_is_error(&balancer.get("/api/query"), 400);

    let anonymous = Socket::connect(balancer.http, "/ws", "");
    let all = balancer.json("/api/clients");
    let shown = all["clients"].as_array().unwrap().iter().find(|client| client["generated"] == true).unwrap();
    let id = shown["id"].as_str().unwrap();
    assert_eq!(shown["connection"], id, "its connection names it");
    assert_eq!(query(id).json()["connections"][0]["id"], id);
    drop(anonymous);
    eventually("it is gone", || query(id).status == 404);
}

#[test]
fn operators_add_drain_enable_and_remove() {
    let nodes = nodes::<3>();
    let balancer = Balancer::start(&nodes[..2], &QUICK);
    let [first, second, third] = [0, 1, 2].map(|index| instance_of(&nodes[index]));
    let mut clients = balancer.clients(4);
    let post = |path: &str, body: &Value| call(&balancer, "POST", path, "", body);
    let address = nodes[2].http.to_string();
    let added = post("/api/backends", &json!({"address": address, "weight": 2, "max_connections": 50}));
    assert_eq!((added.status, added.header("location")), (201, Some("/api/backends/b3")), "{added:?}");
    let facts = ["id", "name", "origin", "weight", "max_connections"];
    assert_eq!(
        facts.map(|key| added.json()[key].clone()),
        [json!("b3"), json!(address), json!("api"), json!(2), json!(50)]
    );
    assert_is_error(&post("/api/backends", &json!({"address": address})), 409);
    for malformed in [
        json!({}),
        json!([address]),
        json!({"address": "nowhere"}),
        json!({"address": "a:0"}),
        json!({"address": "a:1", "weight": 0}),
        json!({"address": "a:1", "max_connections": 0}),
        json!({"address": "a:1", "colour": "red"}),
    ] {
        assert_is_error(&post("/api/backends", &malformed), 400);
    }
    eventually("clients get to it", || Client::join(balancer.http, 9).instance == third);

    let first_id = id_of(&balancer, &nodes[0]);
    let drained = post(&format!("/api/backends/{first_id}/drain"), &Value::Null).json();
    assert_eq!((&drained["drained"], &drained["state"]), (&json!(true), &json!("draining")));
    for client in balancer.clients(6) {
        assert_ne!(client.instance, first, "it takes nobody new");
    }
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
    let enabled = post(&format!("/api/backends/{first_id}/enable"), &Value::Null).json();
    assert_eq!(enabled["drained"], false);
    eventually("it is used again", || Client::join(balancer.http, 9).instance == first);

    let removed = format!("/api/backends/{}", id_of(&balancer, &nodes[1]));
    assert_eq!(call(&balancer, "DELETE", &removed, "", &Value::Null).status, 200);
    for client in clients.iter_mut().filter(|client| client.instance == second) {
        assert!(matches!(client.end(), End::Told(1012, _)));
    }
    eventually("it is forgotten", || balancer.find(nodes[1].http).is_none());
    assert_is_error(&call(&balancer, "DELETE", &removed, "", &Value::Null), 404);
    for client in clients.iter_mut().filter(|client| client.instance == first) {
        client.socket.assert_alive();
    }
    let wrong = call(&balancer, "GET", "/api/backends/b1/drain", "", &Value::Null);
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
}

#[test]
fn who_may_change_something() {
    let nodes = nodes::<1>();
    let change = |balancer: &Balancer, headers: &str| {
        call(balancer, "POST", "/api/backends/b1/drain", headers, &Value::Null).status
    };
    let local = Balancer::start(&nodes, &[]);
    for remote in ["X-Forwarded-For: 127.0.0.1\r\n", "Forwarded: for=a\r\n", "Origin: http://127.0.0.1\r\n"] {
        assert_eq!(change(&local, remote), 403, "{remote}");
    }
    assert_eq!(local.backends()[0]["drained"], false);
    assert_eq!(change(&local, ""), 200);

    let backends = [nodes[0].http.to_string()];
    let guarded = Balancer::launched(&launch(&backends, &[]).variable("THRONG_ADMIN_TOKEN", "open-sesame"));
    for wrong in ["", "Authorization: Bearer open\r\n", "Authorization: Basic b3Blbi1zZXNhbWU=\r\n"] {
        assert_eq!(change(&guarded, wrong), 401, "{wrong}");
    }
    let remove = call(&guarded, "DELETE", "/api/backends/b1", "", &Value::Null);
    assert_eq!((remove.status, remove.header("www-authenticate")), (401, Some("Bearer")));
    let add = json!({"address": "127.0.0.1:9"});
    assert_eq!(call(&guarded, "POST", "/api/backends", "", &add).status, 401);
    assert_eq!(guarded.backends()[0]["drained"], false);
    assert_eq!(change(&guarded, "X-Forwarded-For: 192.0.2.1\r\nAuthorization: bearer open-sesame\r\n"), 200);
    assert_eq!(guarded.backends()[0]["drained"], true);
}

#[test]
fn a_body_that_is_waited_for_is_asked_for() {
    let nodes = nodes::<1>();
    let balancer = Balancer::start(&nodes, &[]);
    let body = r#"{"address":"127.0.0.1:9"}"#;
    let mut web = balancer.web();
    let length = body.len();
    web.send(format!(
        "POST /api/backends HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(web.head().status, 100);
    web.send(body);
    assert_eq!(web.response().status, 201);
}

#[test]
fn listeners_see_what_happens() {
    let mut nodes = nodes::<2>();
    let balancer = Balancer::start(
        &nodes,
        &["--reactors", "2", "--health-interval", "300ms", "--health-timeout", "250ms"],
    );
    let _clients = balancer.clients(4);
    let mut listeners: Vec<Listener> = (0..5).map(|_| Listener::open(&balancer)).collect();
    for listener in &mut listeners {
        let (name, history) = listener.next();
        assert_eq!((name.as_str(), keys(&history)), ("history", "connections events".to_owned()));
        let kinds: Vec<_> =
            history["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == "backend_up").count(), 2, "{history}");
        let snapshot = loop {
            let snapshot = listener.next_of("snapshot");
            if snapshot["connections"] == 4 {
                break snapshot;
            }
        };
        let expected =
            "accepted at backends bytes_per_second connections new_per_second phase queued refused strategy";
        assert_eq!(keys(&snapshot), expected);
        assert_eq!(keys(&snapshot["bytes_per_second"]), "to_backends to_clients");
        assert_eq!(snapshot["backends"].as_array().unwrap().len(), 2);
        assert!(snapshot["accepted"].as_u64().unwrap() >= 4, "{snapshot}");
    }
    assert_eq!(balancer.metric("throng_balancer_listeners"), 5);
    let drained = call(&balancer, "POST", "/api/backends/b1/drain", "", &Value::Null);
    assert_eq!(drained.status, 200);
    nodes[1].process.signal(libc::SIGKILL);
    nodes[1].process.wait();
    for listener in &mut listeners {
        let mut seen = Vec::new();
        while !seen.contains(&"backend_down".to_owned()) || !seen.contains(&"failover".to_owned()) {
            let event = listener.next_of("event");
            assert_eq!(keys(&event), "at backend clients kind text");
            if event["kind"] == "failover" {
                assert_eq!((&event["backend"], &event["clients"]), (&json!("b2"), &json!(2)), "{event}");
            }
            seen.push(event["kind"].as_str().unwrap().to_owned());
        }
        assert_eq!(seen[0], "backend_draining", "{seen:?}");
    }
    // Whoever comes later is told what happened before.
    let (_, history) = Listener::open(&balancer).next();
    let events = history["events"].as_array().unwrap();
    assert!(
        events.iter().any(|event| event["kind"] == "backend_down" && event["backend"] == "b2"),
        "{history}"
    );
    drop(listeners);
    eventually("nobody listens", || balancer.metric("throng_balancer_listeners") == 0);
}

#[test]
fn a_browser_is_shown_the_page() {
    let nodes = nodes::<1>();
    let balancer = Balancer::start(&nodes, &[]);
    let root = balancer.web().request("GET", "/", "Accept: text/html,*/*;q=0.8\r\n", "");
    assert_eq!((root.status, root.header("location")), (302, Some("/web-loadbalancer.html")));
    let page = balancer.get("/web-loadbalancer.html");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert!(page.body.starts_with(b"<!doctype html>") || page.body.starts_with(b"<!DOCTYPE html>"));
    let mut web = balancer.web();
    let head = web.request("HEAD", "/web-loadbalancer.html", "", "");
    assert_eq!((head.status, head.header("content-length")), (200, page.header("content-length")));
    web.assert_ends();
}

#[test]
fn a_body_that_is_too_large_is_not_waited_for() {
    let balancer = Balancer::launched(&launch(&[], &["--backends-dns", "nobody.invalid:1"]));
    for (method, path) in [("POST", "/api/backends"), ("GET", "/health"), ("DELETE", "/api/backends/b1")] {
        let mut web = balancer.web();
        web.send(format!("{method} {path} HTTP/1.1\r\nHost: b\r\nContent-Length: 16385\r\n\r\n{{"));
        assert_is_error(&web.response(), 413);
        web.assert_ends();
    }
}

#[test]
fn a_head_is_an_answer_without_its_body() {
    let nodes = nodes::<1>();
    let balancer = Balancer::start(&nodes, &[]);
    let _client = balancer.clients(1);
    for path in ["/health", "/readyz", "/metrics", "/api/backends", "/api/backends/b1", "/api/clients"]
        .into_iter()
        .chain(["/api/query?client_id=client-0", "/api/events", "/api/query?client_id=none"])
    {
        let mut web = balancer.web();
        let head = web.request("HEAD", path, "", "");
        assert_eq!(head.status, if path.ends_with("none") { 404 } else { 200 }, "{path}");
        web.assert_ends();
        let wrong = balancer.web().request("PUT", path, "", "");
        assert_eq!(wrong.status, 405, "{path}");
        assert!(wrong.header("allow").unwrap().starts_with("GET, HEAD"), "{wrong:?}");
    }
}

#[test]
fn metrics_are_an_exposition() {
    let nodes = nodes::<1>();
    let balancer = Balancer::start(&nodes, &["--reactors", "2"]);
    let mut clients = balancer.clients(3);
    clients.iter_mut().for_each(|client| client.socket.assert_alive());
    let metrics = balancer.get("/metrics");
    assert!(metrics.header("content-type").unwrap().contains("openmetrics"), "{metrics:?}");
    assert!(metrics.body.ends_with(b"# EOF\n"));
    let requests =
        |kind: &str| balancer.metric(&format!(r#"throng_balancer_requests_total{{kind="{kind}"}}"#));
    assert_eq!((requests("upgrade"), requests("plain")), (3, 0));
    let address = nodes[0].http;
    let backend = format!(r#"{{backend="{address}",address="{address}"}}"#);
    assert_eq!(balancer.metric(&format!("throng_balancer_backend_connections{backend}")), 3);
    assert_eq!(balancer.metric(&format!("throng_balancer_backend_up{backend}")), 1);
    let pairs =
        [0, 1].map(|reactor| balancer.metric(&format!(r#"throng_balancer_pairs{{reactor="{reactor}"}}"#)));
    assert_eq!(pairs.iter().sum::<u64>(), 3);
    drop(clients);
    balancer.wait_for_connections(0);
    eventually("they are counted", || {
        ["closed", "client_left", "client_broke"].map(|why| balancer.ended(why)).iter().sum::<u64>() == 3
    });
}
