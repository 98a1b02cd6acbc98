//! Nodes that die, come back, or were thought dead.

use std::time::{Duration, Instant};

use crate::events::Events;
use crate::node::{Node, eventually};
use crate::redis_servers::Redis;
use crate::{
    EXPIRY, assert_routed, launch, nodes, nodes_of, send, wait_until_met, wait_until_on, wait_until_ready,
};

/// The expiry, and the time survivors have to notice it and to sweep.
const SWEPT_WITHIN: Duration = Duration::from_millis(3_500);

/// As `kill -9` does.
fn kill(node: Node) {
    drop(node);
}

#[test]
fn the_users_of_a_dead_node_are_offline_in_time_wherever_one_asks() {
    let redis = Redis::start();
    let events = Events::of(&redis);
    let [a, b, c] = nodes(&redis.url());
    let mut erin = b.user("erin");
    let _on_a: Vec<_> = ["alice", "bob", "dave"].map(|user| a.user(user)).into();
    let mut dave = b.user("dave");
    for node in [&b, &c] {
        wait_until_on(node, "alice", &["a"]);
        wait_until_on(node, "dave", &["a", "b"]);
    }
    events_are(&events, &b, &["alice online", "bob online", "dave online", "erin online"]);
    kill(a);
    let killed = Instant::now();
    // Whoever comes back elsewhere does not have to wait for that.
    let mut alice = c.user("alice");
    eventually("alice is reached where she is now", || send(&b, "alice", "1") == "delivered");
    let found_again = killed.elapsed();
    assert_eq!(alice.json(), 1);
    for node in [&b, &c] {
        eventually("bob is offline", || node.json("/api/users/bob")["online"] == false);
        eventually("only the living are seen", || node.json("/nodes").as_array().unwrap().len() == 2);
    }
    let swept = killed.elapsed();
    println!("routable elsewhere after {found_again:?}, swept after {swept:?} (expiry {EXPIRY})");
    assert!(swept < SWEPT_WITHIN, "swept after {swept:?}");
    for node in [&b, &c] {
        wait_until_on(node, "alice", &["c"]);
        wait_until_on(node, "dave", &["b"]);
    }
    assert_routed(&mut erin, &mut dave, "dave", "still there");
    assert_routed(&mut erin, &mut alice, "alice", "nothing came twice");
    erin.send_message("bob", "gone?");
    assert_eq!(erin.json()["message"], "User is not connected");
    events_are(&events, &b, &["bob offline"]);
}

fn events_are(events: &Events, node: &Node, expected: &[&str]) {
    let heard = events.until_now(node);
    assert_eq!(heard, expected);
}

/// `kill -9`, then the same name again, before or after it was declared dead.
fn restarted(is_swept_before: bool) {
    let redis = Redis::start();
    let events = Events::of(&redis);
    let [a, b, c] = nodes(&redis.url());
    let (mut erin, mut carol) = (b.user("erin"), c.user("carol"));
    let on_a = [a.user("alice"), a.user("bob")];
    for node in [&b, &c] {
        wait_until_on(node, "alice", &["a"]);
        wait_until_on(node, "bob", &["a"]);
    }
    events_are(&events, &b, &["alice online", "bob online", "carol online", "erin online"]);
    kill(a);
    drop(on_a);
    if is_swept_before {
        eventually("alice is offline", || b.json("/api/users/alice")["online"] == false);
        eventually("bob is offline", || b.json("/api/users/bob")["online"] == false);
    }
    let a = launch("a", &redis.url()).start();
    let mut alice = a.user("alice");
    for node in [&b, &c] {
        eventually("alice is reached", || send(node, "alice", "7") == "delivered");
        assert_eq!(alice.json(), 7);
        // Nobody inherits the users of who had the name before.
        eventually("bob is offline", || node.json("/api/users/bob")["online"] == false);
    }
    wait_until_met(&[&a, &b, &c]);
    wait_until_on(&a, "erin", &["b"]);
    assert_routed(&mut erin, &mut alice, "alice", "welcome back");
    assert_routed(&mut carol, &mut alice, "alice", "welcome back");
    assert_routed(&mut alice, &mut erin, "erin", "here I am");
    let heard = events.until_now(&b);
    let count = |event: &str| heard.iter().filter(|one| *one == event).count();
    assert_eq!(count("bob offline"), 1, "{heard:?}");
    assert_eq!(count("alice offline"), count("alice online"), "{heard:?}");
    // She was offline if the old entry was swept before she came back.
    assert!((usize::from(is_swept_before)..=1).contains(&count("alice online")), "{heard:?}");
    assert!(heard.iter().all(|event| event.starts_with("alice") || event.starts_with("bob")), "{heard:?}");
}

#[test]
fn a_node_restarted_under_its_name_at_once_does_not_inherit_users() {
    restarted(false);
}

#[test]
fn a_node_restarted_under_its_name_after_it_was_swept_is_a_new_one() {
    restarted(true);
}

#[test]
fn a_node_that_slept_past_its_expiry_registers_anew() {
    let redis = Redis::start();
    let events = Events::of(&redis);
    let [a, b, c] = nodes(&redis.url());
    let (mut alice, mut bob, mut carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
    for (sender, node) in [(&mut bob, &b), (&mut carol, &c)] {
        wait_until_on(node, "alice", &["a"]);
        assert_routed(sender, &mut alice, "alice", "before");
    }
    wait_until_on(&a, "bob", &["b"]);
    assert_routed(&mut alice, &mut bob, "bob", "before");
    a.process.signal(libc::SIGSTOP);
    eventually("alice is called offline", || b.json("/api/users/alice")["online"] == false);
    eventually("all know it", || send(&c, "alice", "1") == "offline");
    a.process.signal(libc::SIGCONT);
    let woken = Instant::now();
    alice.assert_alive();
    // From both: one of them declared the node dead, the other was not asked.
    for (sender, node) in [(&mut bob, &b), (&mut carol, &c)] {
        eventually("alice is reached", || send(node, "alice", "7") == "delivered");
        assert_eq!(alice.json(), 7);
        assert_routed(sender, &mut alice, "alice", "after");
    }
    println!("routable again {:?} after it woke", woken.elapsed());
    wait_until_ready(&a);
    eventually("bob is reached", || nodes_of(&a, "bob") == ["b"]);
    assert_routed(&mut alice, &mut bob, "bob", "after");
    wait_until_met(&[&a, &b, &c]);
    let expected = ["alice offline", "alice online", "alice online", "bob online", "carol online"];
    events_are(&events, &b, &expected);
}
