//! What becomes of a cluster when a node or Redis fails. In none of it does a
//! node stop serving its own clients, and nothing is delivered twice.

use std::time::Instant;

use serde_json::json;

use crate::events::Events;
use crate::node::{Launch, Node, eventually};
use crate::redis_servers::Redis;
use crate::socket::Socket;
use crate::{join, link, listed, nodes, nodes_of, send, wait_until_on, wait_until_ready};

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;
const SIGTERM: i32 = 15;

fn event(kind: &str, user: &str) -> (String, String) {
    (kind.to_owned(), user.to_owned())
}

#[test]
fn the_users_of_a_killed_node_are_offline_in_time_and_can_come_back_elsewhere_at_once() {
    let redis = Redis::start();
    let events = Events::of(&redis);
    let [a, b] = nodes(&redis.url());
    let _ann = a.user("ann");
    assert_eq!(events.next(), event("online", "ann"));
    let _bob = a.user("bob");
    assert_eq!(events.next(), event("online", "bob"));
    wait_until_on(&b, "ann", &["a"]);
    a.process.signal(SIGKILL);
    let killed = Instant::now();
    // He does not wait for his old node to be buried.
    let mut bob = b.user("bob");
    eventually("bob is reached on his new node", || send(&b, "bob", "1") == "delivered");
    assert_eq!(bob.json(), json!(1));
    assert_eq!(events.next(), event("offline", "ann"));
    println!("offline {:?} after the kill", killed.elapsed());
    assert!(nodes_of(&b, "ann").is_empty());
    eventually("the dead node is not listed", || listed(&b).len() == 1);
    eventually("bob is known to be on one node only", || nodes_of(&b, "bob") == ["b"]);
    let _cay = b.user("cay");
    assert_eq!(events.next(), event("online", "cay"), "bob was online all the time");
}

#[test]
fn a_node_that_restarts_under_its_name_neither_inherits_nor_loses_users() {
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    for wait_for_expiry in [false, true] {
        let node = if wait_for_expiry { join("c", &redis.url()) } else { join("d", &redis.url()) };
        let name = node.id.clone();
        let _old = node.user("old");
        let _both = node.user("both");
        wait_until_on(&b, "both", &[&name]);
        node.process.signal(SIGKILL);
        if wait_for_expiry {
            eventually("the node is buried", || listed(&a).iter().all(|node| node["id"] != *name));
        }
        let again = join(&name, &redis.url());
        let mut both = again.user("both");
        wait_until_on(&b, "both", &[&name]);
        eventually("the predecessor's user is gone", || nodes_of(&b, "old").is_empty());
        assert_eq!(send(&b, "both", "1"), "delivered");
        assert_eq!(both.json(), json!(1));
    }
}

#[test]
fn a_frozen_node_notices_that_it_was_declared_dead() {
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let mut ann = a.user("ann");
    wait_until_on(&b, "ann", &["a"]);
    a.process.signal(SIGSTOP);
    eventually("it is declared dead", || listed(&b).len() == 1);
    eventually("its users are gone", || send(&b, "ann", "0") == "offline");
    a.process.signal(SIGCONT);
    wait_until_on(&b, "ann", &["a"]);
    assert_eq!(send(&b, "ann", "1"), "delivered");
    assert_eq!(ann.json(), json!(1));
}

#[test]
fn after_redis_was_lost_with_all_it_knew_everybody_can_be_reached_again() {
    const USERS: usize = 1000;
    let mut redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let mut sockets: Vec<Socket> = (0..USERS).map(|n| [&a, &b][n % 2].user(&format!("user-{n}"))).collect();
    eventually("all are registered", || registered(&redis) == USERS);
    redis.kill();
    eventually("both notice", || link(&a) == "down" && link(&b) == "down");
    // Local traffic goes on.
    assert_eq!(send(&a, "user-0", "1"), "delivered");
    assert_eq!(sockets[0].json(), json!(1));
    assert_eq!(send(&a, "user-1", "1"), "unavailable");
    let mut tester = a.user("tester");
    tester.send_message("user-1", 1);
    assert_eq!(tester.json()["message"], "Other nodes cannot be reached at present");
    redis.restart();
    let back = Instant::now();
    eventually("all are registered again", || registered(&redis) == USERS + 1);
    wait_until_ready(&a);
    wait_until_ready(&b);
    println!("{USERS} users can be reached {:?} after Redis was back", back.elapsed());
    for (n, socket) in sockets.iter_mut().enumerate() {
        let other = [&b, &a][n % 2];
        assert_eq!(send(other, &format!("user-{n}"), "2"), "delivered");
        assert_eq!(socket.json(), json!(2));
    }
}

/// Users in the index.
fn registered(redis: &Redis) -> usize {
    redis.ask(&["ZCARD", "throng:users"])
}

#[test]
fn while_redis_hangs_a_node_serves_its_own_clients() {
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let (mut ann, mut bob, mut cay) = (a.user("ann"), b.user("bob"), a.user("cay"));
    wait_until_on(&a, "bob", &["b"]);
    redis.pause();
    eventually("the hang is noticed", || {
        ann.send_message("cay", 1);
        assert_eq!(cay.json()["content"], 1, "what is local goes on meanwhile");
        link(&a) == "down"
    });
    redis.resume();
    wait_until_ready(&a);
    wait_until_ready(&b);
    wait_until_on(&a, "bob", &["b"]);
    assert_eq!(send(&a, "bob", "2"), "delivered");
    assert_eq!(bob.json(), json!(2), "nothing came twice");
}

#[test]
fn what_was_missed_while_a_subscription_was_lost_is_repeated_once() {
    const MESSAGES: u64 = 400;
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let (mut ann, mut bob) = (a.user("ann"), b.user("bob"));
    wait_until_on(&a, "bob", &["b"]);
    for n in 0..MESSAGES {
        if n % 100 == 50 {
            let _: i64 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        ann.send_message("bob", n);
    }
    let mut seen: Vec<u64> = (0..MESSAGES).map(|_| bob.json()["content"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>(), "each message once");
    assert_eq!(b.metric("throng_cluster_envelopes_lost_total"), 0);
}

#[test]
fn a_node_that_drains_takes_its_users_along() {
    let redis = Redis::start();
    let events = Events::of(&redis);
    let [a, mut b]: [Node; 2] = nodes(&redis.url());
    let mut ann = b.user("ann");
    assert_eq!(events.next(), event("online", "ann"));
    b.process.signal(SIGTERM);
    assert_eq!(ann.json()["type"], "shutdown");
    assert_eq!(ann.closed_with().0, 1012);
    assert_eq!(b.process.wait().code(), Some(0));
    assert_eq!(events.next(), event("offline", "ann"));
    eventually("it is not listed", || listed(&a).len() == 1);
    let keys: Vec<String> = redis.ask(&["KEYS", "throng:user:*"]);
    assert_eq!(keys, Vec::<String>::new());
}

/// As many lives as a node has in a night in which it joins and fails.
#[test]
fn what_many_lives_left_is_swept_without_waiting_for_as_many_beats() {
    const LIVES: usize = 200;
    let redis = Redis::start();
    for life in 1..=LIVES {
        let (life, users) = (life.to_string(), format!("throng:node:{{z}}:{life}:users"));
        redis.ask::<()>(&["HSET", "throng:node:{z}:graves", &life, "0"]);
        redis.ask::<()>(&["SADD", &users, &format!("user-{life}")]);
        redis.ask::<()>(&["HSET", &format!("throng:user:user-{life}"), "z", &life]);
    }
    redis.ask::<()>(&["SADD", "throng:nodes", "z"]);
    let args = ["--node-id", "a", "--redis-url", &redis.url(), "--cluster-beat", "10s"];
    let _a = Launch::serve(&args).start();
    eventually("nothing is left of them", || {
        redis.ask::<Vec<String>>(&["KEYS", "*{z}*"]).is_empty()
            && redis.ask::<Vec<String>>(&["KEYS", "throng:user:*"]).is_empty()
    });
}
