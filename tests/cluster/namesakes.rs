//! Two nodes that were given one name by mistake.

use crate::node::{Launch, eventually};
use crate::redis_servers::Redis;
use crate::{BEAT, assert_routed, link, nodes_of, send, wait_until_met, wait_until_on, wait_until_ready};

/// Beats to look on for. Each could change who has the name.
const BEATS: usize = 10;

#[test]
fn of_two_nodes_with_one_name_the_later_is_in_the_cluster_until_it_goes() {
    let redis = Redis::start();
    // A node that is starved for a moment is not to be called gone here.
    let url = redis.url();
    let usual = ["--redis-url", &url, "--cluster-beat", BEAT, "--cluster-expiry", "60s", "--lame-duck", "0s"];
    let start = |id| Launch::serve(&[&["--node-id", id], &usual[..]].concat()).start();
    let (first, other) = (start("a"), start("b"));
    wait_until_met(&[&first, &other]);
    let (mut ann, mut ada) = (first.user("ann"), first.user("ada"));
    wait_until_on(&other, "ann", &["a"]);
    let second = start("a");
    let mut bob = second.user("bob");
    let line = first.process.log_line("has joined as node a");
    assert!(line.contains(&second.http.to_string()) && line.contains("--node-id"), "{line}");
    eventually("the later is reached", || send(&other, "bob", "\"found\"") == "delivered");
    assert_eq!(bob.json(), "found");
    let joined = incarnation(&redis);
    let beat = || redis.ask::<String>(&["HGET", "throng:node:{a}", "beat_ms"]);
    for _ in 0..BEATS {
        let last = beat();
        eventually("another beat", || beat() != last);
        // Whoever is at hand is reached as ever, and nobody changes places.
        assert_routed(&mut ann, &mut ada, "ada", "local");
        assert_eq!(send(&other, "bob", "7"), "delivered");
        assert_eq!(bob.json(), 7);
        assert_eq!((link(&first), send(&first, "bob", "7")), ("down".to_owned(), "unavailable".to_owned()));
    }
    assert_eq!(incarnation(&redis), joined);
    assert_eq!(nodes_of(&other, "ann"), [""; 0], "what the first had registered was removed");
    drop(bob);
    second.process.signal(libc::SIGTERM);
    wait_until_ready(&first);
    eventually("the first is reached again", || send(&other, "ann", "\"back\"") == "delivered");
    assert_eq!(ann.json(), "back");
}

/// It may learn of it from a user who joins, long before its next beat.
#[test]
fn a_user_who_joins_does_not_take_the_name_back() {
    let redis = Redis::start();
    let start = |id| Launch::serve(&["--node-id", id, "--redis-url", &redis.url()]).start();
    let (first, other) = (start("a"), start("b"));
    wait_until_met(&[&first, &other]);
    let second = start("a");
    wait_until_ready(&second);
    let joined = incarnation(&redis);
    let (mut ann, mut bob) = (first.user("ann"), second.user("bob"));
    first.process.log_line("has joined as node a");
    assert_eq!((link(&first), incarnation(&redis)), ("down".to_owned(), joined));
    eventually("the later is reached", || send(&other, "bob", "1") == "delivered");
    assert_eq!(bob.json(), 1);
    assert_eq!(send(&first, "ann", "2"), "delivered");
    assert_eq!(ann.json(), 2);
}

fn incarnation(redis: &Redis) -> String {
    redis.ask(&["HGET", "throng:node:{a}", "incarnation"])
}
