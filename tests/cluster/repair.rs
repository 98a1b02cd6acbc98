//! What was missed while a subscription was lost comes later, and once.

use std::collections::BTreeSet;

use crate::node::{Node, eventually};
use crate::redis_servers::Redis;
use crate::socket::{Socket, text};
use crate::{launch_patient, send, wait_until_met, wait_until_on};

/// The numbers of the next messages, which differ and are each below their count.
fn assert_all_once(socket: &mut Socket, count: u64) {
    let mut seen = BTreeSet::new();
    while seen.len() < count as usize {
        let message = socket.json();
        let number = message["content"]["n"].as_u64().unwrap_or_else(|| panic!("{message}"));
        assert!(number < count && seen.insert(number), "{number} came twice");
    }
}

fn assert_nothing_lost(nodes: &[&Node]) {
    for node in nodes {
        assert_eq!(node.metric("throng_cluster_envelopes_lost_total"), 0);
    }
}

/// Sends from `from` to `target`, or to all.
fn numbered(target: Option<&str>, n: u64, filler: &str) -> Vec<u8> {
    let content = format!(r#"{{"n":{n},"filler":"{filler}"}}"#);
    text(&match target {
        Some(user) => format!(r#"{{"type":"send_message","target_user":"{user}","content":{content}}}"#),
        None => format!(r#"{{"type":"broadcast","content":{content}}}"#),
    })
}

#[test]
fn subscriptions_cut_again_and_again_lose_and_double_nothing() {
    const CUTS: u64 = 10;
    const PER_CUT: u64 = 200;
    let redis = Redis::start();
    // A node that is starved for a moment is not to be called dead here.
    let [a, b, c] = ["a", "b", "c"].map(|id| launch_patient(id, &redis.url(), "60s").start());
    wait_until_met(&[&a, &b, &c]);
    let (mut ann, mut bob, mut cay) = (a.user("ann"), b.user("bob"), c.user("cay"));
    wait_until_on(&a, "bob", &["b"]);
    let mut at_b = b.user("listener");
    for cut in 0..CUTS {
        for n in cut * PER_CUT..(cut + 1) * PER_CUT {
            ann.send(numbered(Some("bob"), n, ""));
            cay.send(numbered(Some("bob"), n + CUTS * PER_CUT, ""));
        }
        ann.send(numbered(None, cut, ""));
        let killed: i64 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert!(killed <= 3, "one subscription a node, not {killed}");
        eventually("all have subscribed again", || {
            redis.ask::<Vec<(String, u64)>>(&["PUBSUB", "NUMSUB", "throng:broadcast"])[0].1 == 3
        });
    }
    let mut direct = BTreeSet::new();
    let mut broadcasts = BTreeSet::new();
    while direct.len() < 2 * (CUTS * PER_CUT) as usize || broadcasts.len() < CUTS as usize {
        let message = bob.json();
        let number = message["content"]["n"].as_u64().unwrap();
        let fresh = match message["type"].as_str() {
            Some("broadcast") => broadcasts.insert(number),
            _ => direct.insert(number),
        };
        assert!(fresh, "{message} came twice");
    }
    assert_all_once(&mut at_b, CUTS);
    assert_eq!(send(&a, "bob", "\"end\""), "delivered");
    assert_eq!(bob.json(), "end", "nothing came twice");
    assert_nothing_lost(&[&a, &b, &c]);
}

/// Redis drops a subscriber that does not read; its node reads again before
/// it is called dead.
#[test]
fn a_subscriber_that_redis_dropped_for_being_slow_misses_nothing() {
    const MESSAGES: u64 = 600;
    let redis = Redis::start();
    redis.ask::<()>(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 0 0"]);
    let [a, b] = ["a", "b"].map(|id| launch_patient(id, &redis.url(), "60s").start());
    wait_until_met(&[&a, &b]);
    let (mut ann, mut bob) = (a.user("ann"), b.user("bob"));
    wait_until_on(&a, "bob", &["b"]);
    ann.send(numbered(Some("bob"), 0, ""));
    assert_eq!(bob.json()["content"]["n"], 0);
    let subscribers = || redis.ask::<Vec<(String, u64)>>(&["PUBSUB", "NUMSUB", "throng:node:b"])[0].1;
    assert_eq!(subscribers(), 1);
    b.process.signal(libc::SIGSTOP);
    // Less than is kept to be sent again, more than Redis and the kernel hold.
    let filler = "x".repeat(10_000);
    for n in 0..MESSAGES {
        ann.send(numbered(Some("bob"), n, &filler));
    }
    eventually("Redis drops it", || subscribers() == 0);
    b.process.signal(libc::SIGCONT);
    assert_all_once(&mut bob, MESSAGES);
    assert_eq!(send(&a, "bob", "\"end\""), "delivered");
    assert_eq!(bob.json(), "end", "nothing came twice");
    assert_nothing_lost(&[&a, &b]);
    assert!(b.metric("throng_cluster_gaps_total") > 0, "there was something to repair");
}
