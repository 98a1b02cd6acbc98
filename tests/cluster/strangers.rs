//! Keys of the nodes that somebody else wrote to: none of it is believed, and
//! none of it takes a node out of the cluster.

use crate::node::{Node, eventually};
use crate::redis_servers::Redis;
use crate::{assert_routed, launch_patient, send, wait_until_met, wait_until_on};

/// Two nodes that know each other; one that is starved for a moment is not to be called dead.
fn meet(redis: &Redis) -> [Node; 2] {
    let nodes = ["a", "b"].map(|id| launch_patient(id, &redis.url(), "60s").start());
    wait_until_met(&[&nodes[0], &nodes[1]]);
    nodes
}

/// Waits until each node has beaten twice, so that it has looked at every record.
fn await_beats(redis: &Redis, nodes: &[&Node]) {
    for node in nodes {
        let beat = || redis.ask::<u64>(&["HGET", &format!("throng:node:{{{}}}", node.id), "beat_ms"]);
        for _ in 0..2 {
            let last = beat();
            eventually("a beat", || beat() != last);
        }
    }
}

fn assert_joined(nodes: &[&Node]) {
    for node in nodes {
        assert_eq!(node.metric("throng_cluster_link_losses_total"), 0, "{}", node.id);
    }
    wait_until_met(nodes);
}

#[test]
fn a_node_that_is_none_harms_nobody() {
    const RECORD: &str = "throng:node:{x}";
    const GRAVES: &str = "throng:node:{x}:graves";
    let redis = Redis::start();
    let [a, b] = meet(&redis);
    let strange: [&[&str]; 8] = [
        &["HSET", RECORD, "incarnation", "5", "beat_ms", "soon"],
        &["HSET", RECORD, "incarnation", "soon"],
        &["HSET", RECORD, "incarnation", "99999999999999999999999999"],
        &["HSET", GRAVES, "9", "soon"],
        &["HSET", GRAVES, "soon", "0"],
        &["SET", RECORD, "?"],
        &["SET", GRAVES, "?"],
        &["SET", "throng:node:{x}:9:users", "?"],
    ];
    for write in strange {
        redis.ask::<()>(&["DEL", RECORD, GRAVES]);
        redis.ask::<()>(write);
        if write[1].ends_with(":users") {
            redis.ask::<()>(&["HSET", GRAVES, "9", "0"]);
        }
        redis.ask::<()>(&["SADD", "throng:nodes", "x"]);
        await_beats(&redis, &[&a, &b]);
    }
    assert_joined(&[&a, &b]);
}

#[test]
fn a_row_that_is_none_is_nobodys_and_harms_nobody_else() {
    let redis = Redis::start();
    let [a, b] = meet(&redis);
    let mut ann = a.user("ann");
    wait_until_on(&b, "ann", &["a"]);
    redis.ask::<()>(&["SET", "throng:user:bob", "?"]);
    redis.ask::<()>(&["HSET", "throng:user:cay", "b", "soon"]);
    for user in ["bob", "cay"] {
        ann.send_message(user, 1);
        assert_eq!(ann.json()["message"], "User is not connected");
        assert_eq!(send(&a, user, "1"), "offline");
    }
    // Bob is reached where he is; what is not a number is no later life of his node.
    let (mut bob, mut cay) = (b.user("bob"), b.user("cay"));
    wait_until_on(&a, "cay", &["b"]);
    assert_routed(&mut ann, &mut cay, "cay", "there");
    assert_routed(&mut cay, &mut bob, "bob", "here");
    b.process.log_line("throng:user:bob in Redis is no hash");
    await_beats(&redis, &[&a, &b]);
    assert_joined(&[&a, &b]);
    drop(bob);
    eventually("he has left", || b.json("/health")["connections"] == 1);
    assert_joined(&[&a, &b]);
}
