//! A node that leaves while callers wait for what other nodes have to say.

use serde_json::json;

use crate::node::{Launch, Node, eventually};
use crate::redis_servers::Redis;
use crate::socket::Socket;
use crate::web::Web;
use crate::{wait_until_met, wait_until_ready};

/// Users whom callers ask for, each by another request.
const USERS: [&str; 4] = ["to-send", "to-send-too", "to-kick", "to-find"];

/// A node that is not called dead while it is frozen.
fn join(id: &str, redis: &Redis, more: &[&str]) -> Node {
    let args =
        ["--node-id", id, "--redis-url", &redis.url(), "--reactors", "2", "--cluster-beat", crate::BEAT];
    let patient = ["--cluster-expiry", "60s", "--lame-duck", "0s"];
    let node = Launch::serve(&[&args[..], &patient, more].concat()).start();
    wait_until_ready(&node);
    node
}

/// Callers of `a` who wait for `b`, which is frozen and has these users.
struct Callers {
    waiting: Vec<Web>,
    there: Vec<Socket>,
}

impl Callers {
    fn wait(a: &Node, b: &Node, redis: &Redis) -> Callers {
        wait_until_met(&[a, b]);
        let there = USERS.map(|user| b.user(user)).into();
        eventually("all are registered", || {
            USERS.iter().all(|user| redis.ask::<bool>(&["EXISTS", &format!("throng:user:{user}")]))
        });
        b.process.signal(libc::SIGSTOP);
        let mut waiting: Vec<Web> = Vec::new();
        for user in USERS {
            let (method, path, body) = match user {
                "to-find" => ("GET", format!("/api/users/{user}"), String::new()),
                "to-kick" => ("POST", "/api/kick".to_owned(), json!({"user_id": user}).to_string()),
                _ => ("POST", "/api/send".to_owned(), json!({"user_id": user, "message": 1}).to_string()),
            };
            let length = body.len();
            let mut web = a.web();
            web.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
            waiting.push(web);
        }
        eventually("everybody has been looked up", || {
            a.metric("throng_cluster_lookups_total") == USERS.len() as u64
        });
        Callers { waiting, there }
    }

    /// What each was told in the end.
    fn told(&mut self) -> Vec<String> {
        let told = self.waiting.iter_mut().map(|web| {
            let response = web.response();
            assert_eq!(response.status, 200, "{response:?}");
            let answer = response.json();
            answer["status"].as_str().map_or_else(|| answer["online"].to_string(), str::to_owned)
        });
        told.collect()
    }
}

#[test]
fn a_node_that_drains_answers_its_callers_first() {
    let redis = Redis::start();
    let (mut a, b) = (join("a", &redis, &[]), join("b", &redis, &[]));
    let mut callers = Callers::wait(&a, &b, &redis);
    a.process.signal(libc::SIGTERM);
    // No client is left to be waited for.
    a.process.log_line("draining: telling 0 connections");
    b.process.signal(libc::SIGCONT);
    assert_eq!(callers.told(), ["delivered", "delivered", "kicked", "true"]);
    assert_eq!((callers.there[0].json(), callers.there[1].json()), (json!(1), json!(1)));
    assert_eq!(a.process.wait().code(), Some(0));
}

#[test]
fn at_the_end_of_its_drain_a_node_answers_its_callers_with_what_it_knows() {
    let redis = Redis::start();
    let hasty = ["--drain-window", "100ms", "--drain-timeout", "1s"];
    let (mut a, b) = (join("a", &redis, &hasty), join("b", &redis, &[]));
    let mut callers = Callers::wait(&a, &b, &redis);
    a.process.signal(libc::SIGTERM);
    assert_eq!(callers.told(), ["timed_out", "timed_out", "timed_out", "false"]);
    assert_eq!(a.process.wait().code(), Some(0));
    b.process.signal(libc::SIGCONT);
}
