//! The rights that the documentation says a node needs in Redis are enough.

use redis::Value;
use serde_json::json;

use crate::node::{Node, eventually};
use crate::redis_servers::{Cluster, Redis};
use crate::{assert_routed, join, launch, link, nodes, nodes_of, send, wait_until_on, wait_until_ready};

const DOCUMENTATION: &str = include_str!("../../docs/cluster.md");
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// The rules after the password, as they are documented.
fn documented() -> Vec<&'static str> {
    let line = DOCUMENTATION.lines().find_map(|line| line.strip_prefix("user throng on >PASSWORD "));
    line.expect("the rules of the nodes' user").split(' ').collect()
}

/// What a Redis Cluster needs besides, as it is documented.
fn documented_for_a_cluster() -> Vec<&'static str> {
    let text = DOCUMENTATION.split_once("A Redis Cluster needs `").expect("the rules for a Redis Cluster").1;
    text.split_once('`').expect("their end").0.split(' ').collect()
}

/// Makes a user with these rights and no others.
fn grant(server: &Redis, rights: &[&str]) {
    server.ask::<()>(&[&["ACL", "SETUSER", "throng", "on", ">secret"][..], rights].concat());
    server.ask::<()>(&["CONFIG", "RESETSTAT"]);
}

/// Every command that is granted was called, if only in a script.
fn assert_nothing_was_granted_in_vain(server: &Redis, rights: &[&str]) {
    let called: String = server.ask(&["INFO", "commandstats"]);
    let is_called = |name: &&str| called.contains(&format!("cmdstat_{name}:calls="));
    let granted = rights.iter().filter_map(|right| right.strip_prefix('+'));
    let in_vain: Vec<&str> = granted.filter(|name| !is_called(name)).collect();
    assert!(in_vain.is_empty(), "{in_vain:?}");
}

fn assert_nothing_was_denied(server: &Redis) {
    let denied: Vec<Value> = server.ask(&["ACL", "LOG"]);
    assert!(denied.is_empty(), "{denied:?}");
}

/// Users come, are listed, sent to and kicked, a node dies and is swept, another leaves.
fn a_cluster_at_work(a: &Node, b: &Node, url: &str) {
    let (mut ann, mut bob) = (a.user("ann"), b.user("bob"));
    wait_until_on(a, "bob", &["b"]);
    wait_until_on(b, "ann", &["a"]);
    assert_routed(&mut ann, &mut bob, "bob", "hello");
    assert_eq!(send(a, "bob", "1"), "delivered");
    assert_eq!(bob.json(), json!(1));
    a.post("/api/broadcast", r#"{"message":2}"#);
    assert_eq!((ann.json(), bob.json()), (json!(2), json!(2)));
    eventually("both are listed", || {
        a.json("/api/users?limit=10")["users"].as_array().is_some_and(|users| users.len() == 2)
    });
    let dying = join("c", url);
    let _cay = dying.user("cay");
    wait_until_on(a, "cay", &["c"]);
    dying.process.signal(SIGKILL);
    eventually("the dead node's user is offline", || nodes_of(a, "cay").is_empty());
    let leaving = join("d", url);
    let _dan = leaving.user("dan");
    wait_until_on(a, "dan", &["d"]);
    leaving.process.signal(SIGTERM);
    eventually("the user of the node that left is offline", || nodes_of(a, "dan").is_empty());
    a.post("/api/kick", r#"{"user_id":"bob"}"#);
    eventually("he is gone", || nodes_of(a, "bob").is_empty());
}

#[test]
fn a_server_need_not_grant_more_than_is_documented() {
    let redis = Redis::start();
    let rights = documented();
    grant(&redis, &rights);
    let url = format!("redis://throng:secret@127.0.0.1:{}", redis.port());
    let [a, b] = nodes(&url);
    a_cluster_at_work(&a, &b, &url);
    assert_nothing_was_granted_in_vain(&redis, &rights);
    assert_nothing_was_denied(&redis);
}

#[test]
fn a_redis_cluster_need_not_grant_more_than_is_documented() {
    let cluster = Cluster::start();
    let rights = [documented(), documented_for_a_cluster()].concat();
    cluster.servers.iter().for_each(|server| grant(server, &rights));
    let hosts: Vec<String> =
        cluster.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    let url = format!("redis+cluster://throng:secret@{}", hosts.join(","));
    let [a, b] = nodes(&url);
    a_cluster_at_work(&a, &b, &url);
    cluster.servers.iter().for_each(assert_nothing_was_denied);
}

/// The reason that counts is the one it fails for now, not the one it began with.
#[test]
fn the_log_says_why_redis_lets_a_node_in_no_more() {
    let redis = Redis::start();
    let a = join("a", &redis.url());
    redis.ask::<()>(&["CONFIG", "SET", "requirepass", "new"]);
    let url = format!("redis://:new@127.0.0.1:{}", redis.port());
    let mut admin = redis::Client::open(url).unwrap().get_connection().unwrap();
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).exec(&mut admin).unwrap();
    a.process.log_line("the link to Redis broke");
    a.process.log_line("NOAUTH");
    redis::cmd("CONFIG").arg(&["SET", "requirepass", ""]).exec(&mut admin).unwrap();
    wait_until_ready(&a);
}

#[test]
fn the_log_says_why_a_node_hears_nothing() {
    let redis = Redis::start();
    redis.ask::<()>(&["ACL", "SETUSER", "default", "-subscribe"]);
    let a = launch("a", &redis.url()).start();
    let line = a.process.log_line("cannot subscribe");
    assert!(line.contains("NOPERM"), "{line}");
    assert_eq!(link(&a), "joining");
    redis.ask::<()>(&["ACL", "SETUSER", "default", "+subscribe"]);
    wait_until_ready(&a);
}

#[test]
fn the_log_says_that_redis_may_throw_users_away() {
    let redis = Redis::start();
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1gb"]);
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let a = join("a", &redis.url());
    a.process.log_line("maxmemory-policy allkeys-lru");
}
