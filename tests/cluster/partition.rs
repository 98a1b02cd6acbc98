//! A node that cannot reach Redis, while its clients and the others can be reached.
//!
//! The node runs in a network namespace with two links to the outside: one for
//! its clients and one for Redis, whose far end is taken down. Nothing is
//! refused and nothing reset: what is sent just does not arrive.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::node::eventually;
use crate::redis_servers::{Options, Redis};
use crate::{assert_routed, join, launch, link, listed, nodes_of, send, wait_until_met, wait_until_on};

/// Runs `ip`; whether it succeeded.
fn ip(words: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(words.split(' ')).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn must(words: &str) {
    assert!(ip(words), "ip {words}");
}

/// A network namespace with links `clients` and `redis`, gone when dropped.
struct Namespace {
    name: String,
    /// Third number of the addresses: those of the clients' link; one more is that of Redis's.
    net: u8,
}

impl Namespace {
    /// `None` if this process may not make one.
    fn new() -> Option<Namespace> {
        let id = std::process::id();
        let namespace = Namespace { name: format!("throng-{id}"), net: (id % 120) as u8 * 2 };
        if !ip(&format!("netns add {}", namespace.name)) {
            return None;
        }
        for (which, net) in [("c", namespace.net), ("r", namespace.net + 1)] {
            let (name, outside) = (&namespace.name, namespace.outside(which));
            must(&format!("link add {outside} type veth peer name {which} netns {name}"));
            must(&format!("addr add 10.213.{net}.1/24 dev {outside}"));
            must(&format!("link set {outside} up"));
            must(&format!("-n {name} addr add 10.213.{net}.2/24 dev {which}"));
            must(&format!("-n {name} link set {which} up"));
        }
        must(&format!("-n {} link set lo up", namespace.name));
        Some(namespace)
    }

    fn outside(&self, which: &str) -> String {
        format!("th{which}{}", std::process::id())
    }

    /// Whether what the node and Redis send to each other arrives.
    fn connect(&self, connected: bool) {
        must(&format!("link set {} {}", self.outside("r"), if connected { "up" } else { "down" }));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The links go with it, and the node in it has been killed.
        ip(&format!("link del {}", self.outside("c")));
        ip(&format!("link del {}", self.outside("r")));
        ip(&format!("netns del {}", self.name));
    }
}

#[test]
fn a_node_cut_off_from_redis_serves_its_own_and_comes_back() {
    let Some(namespace) = Namespace::new() else {
        return eprintln!("skipped: a network namespace needs root (ip netns add)");
    };
    let (net, redis_net) = (namespace.net, namespace.net + 1);
    let redis = Redis::with(
        Options::default().line(format!("bind 127.0.0.1 10.213.{redis_net}.1")).line("protected-mode no"),
    );
    let url = format!("redis://10.213.{redis_net}.1:{}", redis.port());
    let address = format!("10.213.{net}.2");
    let a = launch("a", &url).bound_to(&address).within(&["ip", "netns", "exec", &namespace.name]).start();
    let (b, c) = (join("b", &redis.url()), join("c", &redis.url()));
    wait_until_met(&[&a, &b, &c]);
    let (mut ann, mut bob, mut cay) = (a.user("ann"), b.user("bob"), a.user("cay"));
    let mut dan = c.user("dan");
    wait_until_on(&a, "bob", &["b"]);
    for (sender, node) in [(&mut bob, &b), (&mut dan, &c)] {
        wait_until_on(node, "ann", &["a"]);
        assert_routed(sender, &mut ann, "ann", "before");
    }

    namespace.connect(false);
    let cut = Instant::now();
    let mut sent = 0_u64;
    eventually("the node notices", || {
        ann.send_message("bob", sent);
        sent += 1;
        // Through other reactors and back, so that no more is sent than is read.
        cay.assert_alive();
        link(&a) == "down"
    });
    println!("noticed {:?} after it was cut off, {sent} messages sent meanwhile", cut.elapsed());
    eventually("the others call it dead", || listed(&b).len() == 2 && listed(&c).len() == 2);
    eventually("its users are offline", || {
        send(&b, "ann", "0") == "offline" && send(&c, "ann", "0") == "offline"
    });
    cay.send_message("bob", "far");
    assert_eq!(cay.json()["message"], "Other nodes cannot be reached at present");
    let mut eve = a.user("eve");
    assert_routed(&mut cay, &mut eve, "eve", "near");
    assert_routed(&mut dan, &mut bob, "bob", "among the others");

    namespace.connect(true);
    let healed = Instant::now();
    wait_until_met(&[&a, &b, &c]);
    for node in [&b, &c] {
        wait_until_on(node, "ann", &["a"]);
        wait_until_on(node, "cay", &["a"]);
    }
    println!("whole {:?} after it was healed", healed.elapsed());
    assert_routed(&mut bob, &mut cay, "cay", "after");
    assert_routed(&mut dan, &mut cay, "cay", "after");
    cay.send_message("bob", "mark");
    let mut last = None;
    loop {
        let message = bob.json();
        if message["content"] == "mark" {
            break;
        }
        let number = message["content"].as_u64();
        assert!(number > last, "{message} came twice or late");
        last = number;
    }
    assert_eq!(nodes_of(&b, "ann"), ["a"]);
}
