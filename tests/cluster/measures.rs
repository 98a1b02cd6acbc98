//! What the metrics say of the cluster.

use crate::node::eventually;
use crate::{join, redis_servers};

#[test]
fn redis_is_timed_and_the_link_is_shown() {
    let redis = redis_servers::Redis::start();
    let [one, two] = ["one", "two"].map(|id| join(id, &redis.url()));
    let (_bob, mut anna) = (two.user("bob"), one.user("anna"));
    let link = |state: &str| one.metric(&format!("throng_cluster_link{{state=\"{state}\"}}"));
    // A user who has just come makes the node join again for a moment.
    eventually("ready", || ["alone", "down", "joining", "ready"].map(link) == [0, 0, 0, 1]);
    anna.send_message("bob", "hello");
    let timed = |operation: &str| {
        one.metric(&format!("throng_cluster_redis_seconds_count{{operation=\"{operation}\"}}"))
    };
    for operation in ["publish", "lookup", "register", "beat"] {
        eventually(operation, || timed(operation) > 0);
    }
    drop(redis);
    eventually("the link is down", || link("down") == 1 && link("ready") == 0);
}
