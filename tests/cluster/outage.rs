//! Redis away for a while, with many users connected.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::events::Events;
use crate::node::eventually;
use crate::redis_servers::Redis;
use crate::socket::{Socket, text};
use crate::{
    assert_routed, launch_patient, link, nodes, send, wait_until_met, wait_until_on, wait_until_ready,
};

/// The frames of messages to each of these users.
fn to_each(users: impl Iterator<Item = String>, content: &str) -> Vec<u8> {
    let message = |user: String| {
        text(&json!({"type": "send_message", "target_user": user, "content": content}).to_string())
    };
    users.flat_map(message).collect()
}

fn registered(redis: &Redis) -> usize {
    redis.ask(&["ZCARD", "throng:users"])
}

/// Nobody reconnects, and yet everybody is found again in a Redis that knows nothing.
#[test]
fn thousands_are_routable_again_after_redis_lost_all() {
    const USERS: usize = 5_000;
    let mut redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let on = [&a, &b];
    let name = |n: usize| format!("user-{n:04}");
    let mut sockets: Vec<Socket> = (0..USERS).map(|n| on[n % 2].user(&name(n))).collect();
    let (mut at_a, mut at_b) = (a.user("at-a"), b.user("at-b"));
    eventually("all are registered", || registered(&redis) == USERS + 2);
    redis.kill();
    eventually("both notice", || link(&a) == "down" && link(&b) == "down");
    for (sender, n) in [(&mut at_a, 0), (&mut at_b, 1)] {
        assert_routed(sender, &mut sockets[n], &name(n), "local");
        sender.send_message(&name(1 - n), "not local");
        assert_eq!(sender.json()["message"], "Other nodes cannot be reached at present");
    }
    assert_eq!(send(&b, &name(0), "1"), "unavailable");
    // Who goes and who comes in the meantime is known afterwards.
    drop(sockets.pop());
    let mut late = a.user("late");
    redis.restart();
    let back = Instant::now();
    eventually("all are registered again", || registered(&redis) == USERS + 2);
    let known = back.elapsed();
    wait_until_met(&[&a, &b]);
    at_a.send(to_each((1..USERS - 1).step_by(2).map(name), "again"));
    at_b.send(to_each((0..USERS - 1).step_by(2).map(name), "again"));
    for socket in &mut sockets {
        assert_eq!(socket.json()["content"], "again");
    }
    println!("{USERS} users known {known:?}, all reached {:?} after Redis was back", back.elapsed());
    assert_routed(&mut at_b, &mut late, "late", "found");
    assert_eq!(send(&a, &name(USERS - 1), "1"), "offline");
    for (node, n) in [(&b, 0), (&a, 1)] {
        assert_eq!(send(node, &name(n), "\"once\""), "delivered");
        assert_eq!(sockets[n].json(), "once");
    }
}

/// What is sent meanwhile arrives when Redis goes on, and once.
#[test]
fn a_short_pause_of_redis_delays_and_loses_nothing() {
    const MESSAGES: u64 = 200;
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let (mut ann, mut bob, mut cay) = (a.user("ann"), b.user("bob"), a.user("cay"));
    wait_until_on(&a, "bob", &["b"]);
    redis.pause();
    for n in 0..MESSAGES {
        ann.send_message("bob", n);
        assert_routed(&mut ann, &mut cay, "cay", "local");
    }
    redis.resume();
    for n in 0..MESSAGES {
        assert_eq!(bob.json()["content"], n);
    }
    assert_routed(&mut ann, &mut bob, "bob", "the end");
    assert_eq!(a.metric("throng_cluster_link_losses_total"), 0);
}

/// Longer than a command waits for its answer, but not so long that nodes are
/// called dead: nobody was offline, and nothing comes twice.
#[test]
fn a_long_pause_of_redis_takes_nobody_offline() {
    let redis = Redis::start();
    let events = Events::of(&redis);
    let [a, b] = ["a", "b"].map(|id| launch_patient(id, &redis.url(), "30s").start());
    wait_until_met(&[&a, &b]);
    let (mut ann, mut bob, mut cay) = (a.user("ann"), b.user("bob"), a.user("cay"));
    let dan = b.user("dan");
    wait_until_on(&a, "bob", &["b"]);
    wait_until_on(&b, "ann", &["a"]);
    assert_eq!(events.until_now(&a), ["ann online", "bob online", "cay online", "dan online"]);
    redis.pause();
    let (mut sent, paused) = (0_u64, Instant::now());
    eventually("both notice", || {
        ann.send_message("bob", sent);
        sent += 1;
        cay.assert_alive();
        link(&a) == "down" && link(&b) == "down"
    });
    let noticed = paused.elapsed();
    assert!(noticed < Duration::from_secs(10), "noticed after {noticed:?}");
    drop(dan);
    eventually("dan has gone", || b.json("/health")["connections"] == 1);
    redis.resume();
    let resumed = Instant::now();
    wait_until_ready(&a);
    wait_until_ready(&b);
    eventually("bob is reached", || send(&a, "bob", "\"mark\"") == "delivered");
    println!("noticed after {noticed:?}, {sent} sent meanwhile, whole {:?} after the end", resumed.elapsed());
    let mut seen = BTreeSet::new();
    loop {
        let message = bob.json();
        if message == "mark" {
            break;
        }
        assert!(seen.insert(message["content"].as_u64().unwrap()), "{message} came twice");
    }
    wait_until_on(&b, "ann", &["a"]);
    let mut told = 0;
    ann.send_message("bob", "the end");
    assert_eq!(bob.json()["content"], "the end");
    // Of what did not arrive the sender was told, if it was not on its way.
    ann.send_text(r#"{"type":"ping","alive":true}"#);
    while ann.json()["type"] == "error" {
        told += 1;
    }
    println!("{} of {sent} arrived, of {told} the sender was told that they did not", seen.len());
    assert!(seen.len() as u64 + told <= sent);
    wait_until_on(&a, "dan", &[]);
    assert_eq!(events.until_now(&a), ["dan offline"], "only who left");
}

/// So long that each node would call the other dead: whose users are known
/// again, without a reconnect, and nothing comes twice.
#[test]
fn a_pause_of_redis_beyond_the_expiry_leaves_no_ghosts_and_doubles_nothing() {
    const PAUSE: Duration = Duration::from_secs(10);
    let redis = Redis::start();
    let [a, b] = nodes(&redis.url());
    let (mut ann, mut bob, mut cay) = (a.user("ann"), b.user("bob"), a.user("cay"));
    let mut listener = b.user("listener");
    let dan = b.user("dan");
    wait_until_on(&a, "bob", &["b"]);
    wait_until_on(&b, "ann", &["a"]);
    redis.pause();
    let paused = Instant::now();
    let mut sent = 0_u64;
    while paused.elapsed() < PAUSE {
        ann.send_message("bob", sent);
        ann.send_text(&json!({"type": "broadcast", "content": sent}).to_string());
        sent += 1;
        // Each answer is waited for, which sets the pace; those at hand are served as ever.
        assert_eq!(cay.json()["content"], sent - 1);
        assert_routed(&mut bob, &mut listener, "listener", "local");
    }
    assert_eq!((link(&a), link(&b)), ("down".to_owned(), "down".to_owned()));
    drop(dan);
    eventually("dan has gone", || b.json("/health")["connections"] == 2);
    redis.resume();
    let resumed = Instant::now();
    wait_until_met(&[&a, &b]);
    eventually("bob is reached", || send(&a, "bob", "\"mark\"") == "delivered");
    println!("{sent} sent meanwhile, whole {:?} after the end", resumed.elapsed());
    let (mut direct, mut broadcast) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let message = bob.json();
        if message == "mark" {
            break;
        }
        let seen = if message["type"] == "broadcast" { &mut broadcast } else { &mut direct };
        assert!(seen.insert(message["content"].as_u64().unwrap()), "{message} came twice");
    }
    wait_until_on(&b, "ann", &["a"]);
    wait_until_on(&a, "bob", &["b"]);
    wait_until_on(&a, "dan", &[]);
    assert_eq!(send(&a, "bob", "\"again\""), "delivered");
    assert_eq!(bob.json(), "again");
}
