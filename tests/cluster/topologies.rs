//! Redis behind TLS and access control, behind Sentinel, and as a Cluster.

use serde_json::json;

use crate::node::{Launch, eventually};
use crate::redis_servers::{Cluster, Options, Redis, Sentinel};
use crate::{BEAT, EXPIRY, assert_routed, nodes, send, wait_until_on, wait_until_ready};

#[test]
fn nodes_meet_over_tls_with_a_user_of_their_own() {
    let redis = Redis::with(Options::default().tls().user("app", "s3cret"));
    let ca = redis.ca_file().unwrap();
    let start = |id: &str| {
        let ca = ca.to_str().unwrap();
        let args =
            ["--node-id", id, "--redis-ca-file", ca, "--cluster-beat", BEAT, "--cluster-expiry", EXPIRY];
        let node = Launch::serve(&args).variable("REDIS_URL", &redis.url()).start();
        wait_until_ready(&node);
        node
    };
    let (a, b) = (start("a"), start("b"));
    let mut bob = b.user("bob");
    wait_until_on(&a, "bob", &["b"]);
    assert_eq!(send(&a, "bob", "1"), "delivered");
    assert_eq!(bob.json(), json!(1));
}

#[test]
fn a_failover_of_the_master_is_followed() {
    let mut sentinel = Sentinel::start();
    let url = format!("redis+sentinel://127.0.0.1:{}/{}", sentinel.sentinel.port(), sentinel.master_name());
    let [a, b] = nodes(&url);
    let (mut ann, mut bob, mut cay) = (a.user("ann"), b.user("bob"), a.user("cay"));
    wait_until_on(&a, "bob", &["b"]);
    let mut sent = 0_u64;
    let before = sentinel.master_port();
    sentinel.master.kill();
    eventually("a replica was promoted", || sentinel.master_port() != before);
    // Users who are far from each other and those who are not, while it lasts.
    eventually("the nodes meet at the new master", || {
        ann.send_message("bob", sent);
        sent += 1;
        cay.assert_alive();
        send(&a, "bob", "\"mark\"") == "delivered"
    });
    let mut last = None;
    loop {
        let message = bob.json();
        if message == "mark" {
            break;
        }
        let number = message["content"].as_u64();
        assert!(number > last, "{message} came twice or late");
        last = number;
    }
    wait_until_on(&b, "cay", &["a"]);
    assert_routed(&mut bob, &mut cay, "cay", "the other way");
}

#[test]
fn a_redis_cluster_carries_the_traffic_and_may_lose_a_master() {
    let mut cluster = Cluster::quick_to_fail_over();
    let hosts: Vec<String> =
        cluster.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    let url = format!("redis+cluster://{}", hosts.join(","));
    let [a, b] = nodes(&url);
    let (mut ann, mut bob) = (a.user("ann"), b.user("bob"));
    wait_until_on(&a, "bob", &["b"]);
    wait_until_on(&b, "ann", &["a"]);
    assert_eq!(send(&a, "bob", "1"), "delivered");
    assert_eq!(bob.json(), json!(1));
    let sharded = |server: &Redis| server.ask::<Vec<String>>(&["PUBSUB", "SHARDCHANNELS"]);
    let heard: Vec<String> = cluster.servers.iter().flat_map(sharded).collect();
    assert!(heard.contains(&"throng:node:b".to_owned()), "subscribed by shard: {heard:?}");
    let channel = cluster.master_of("throng:node:{b}");
    cluster.servers[channel].kill();
    eventually("the promoted replica serves", || send(&a, "bob", "2") == "delivered");
    eventually("in both directions", || send(&b, "ann", "2") == "delivered");
    assert_eq!(bob.json(), json!(2));
    assert_eq!(ann.json(), json!(2));
}
