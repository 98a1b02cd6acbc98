//! Messages on their way to a user who leaves the node they go to: each one
//! arrives once where the user has gone, or its sender is told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::Value;

use crate::node::{Launch, Node, eventually};
use crate::redis_servers::Redis;
use crate::socket::{CLOSE, FIN, Socket, frame};
use crate::{assert_routed, send, wait_until_met, wait_until_on, wait_until_ready};

/// Messages that may be on their way, so that no client is a slow consumer.
const ON_THEIR_WAY: u64 = 300;

/// What became of Ann's messages to Bob.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    received: AtomicU64,
    told: AtomicU64,
    over: AtomicBool,
}

impl Tally {
    fn settled(&self) -> u64 {
        self.received.load(Ordering::SeqCst) + self.told.load(Ordering::SeqCst)
    }

    /// Sends numbered messages until it is over; counts those that were said not to have arrived.
    fn send_all(&self, ann: &mut Socket) {
        while !self.over.load(Ordering::SeqCst) {
            let sent = self.sent.load(Ordering::SeqCst);
            if sent < self.settled() + ON_THEIR_WAY {
                (sent..sent + 10).for_each(|n| ann.send_message("bob", n));
                self.sent.store(sent + 10, Ordering::SeqCst);
            }
            self.count_told(ann);
        }
    }

    /// Counts what the sender was told up to now.
    fn count_told(&self, ann: &mut Socket) {
        ann.send_text(r#"{"type":"ping"}"#);
        loop {
            let message = ann.json();
            if message["type"] == "pong" {
                return;
            }
            assert_eq!(message["message"], "User is not connected", "{message}");
            self.told.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Has Ann stop sending, whatever happens.
struct Stop<'a>(&'a Tally);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// Bob, who counts what he is sent.
struct Bob<'a> {
    redis: &'a Redis,
    tally: &'a Tally,
    seen: BTreeSet<u64>,
}

impl Bob<'_> {
    fn note(&mut self, message: &Value) {
        let Some(number) = message["content"].as_u64() else { return };
        assert!(self.seen.insert(number), "{number} came twice");
        self.tally.received.fetch_add(1, Ordering::SeqCst);
    }

    /// Comes to a node and is sent so many messages there.
    fn visit(&mut self, node: &Node, count: usize) -> Socket {
        let mut socket = node.user("bob");
        (0..count).for_each(|_| self.note(&socket.json()));
        socket
    }

    /// Reads up to what was sent to Bob over HTTP just now.
    fn read_on(&mut self, node: &Node, socket: &mut Socket) {
        assert_eq!(send(node, "bob", "\"mark\""), "delivered");
        loop {
            let message = socket.json();
            if message == "mark" {
                return;
            }
            self.note(&message);
        }
    }

    /// Leaves, and takes in what was sent before the node knew.
    fn leave(&mut self, mut socket: Socket) {
        socket.send(frame(FIN | CLOSE, &1000u16.to_be_bytes()));
        while let Some(frame) = socket.try_frame() {
            if frame.first != FIN | CLOSE {
                self.note(&serde_json::from_slice(&frame.payload).unwrap());
            }
        }
    }

    /// Waits until Redis knows him on so many nodes.
    fn wait_until_on(&self, nodes: u64) {
        eventually("bob is registered", || self.redis.ask::<u64>(&["HLEN", "throng:user:bob"]) == nodes);
    }
}

/// Ann on `a` sends to Bob, who does as told and stays on `last` in the end.
/// Returns what came and what she was told did not.
fn while_ann_sends(redis: &Redis, a: &Node, last: &Node, moves: impl FnOnce(&mut Bob<'_>)) -> (u64, u64) {
    let tally = Tally::default();
    let mut bob = Bob { redis, tally: &tally, seen: BTreeSet::new() };
    let mut ann = a.user("ann");
    let mut socket = thread::scope(|scope| {
        scope.spawn(|| tally.send_all(&mut ann));
        let _stop = Stop(&tally);
        moves(&mut bob);
        bob.visit(last, 20)
    });
    let sent = tally.sent.load(Ordering::SeqCst);
    eventually("every message has arrived or its sender was told", || {
        bob.read_on(last, &mut socket);
        tally.count_told(&mut ann);
        tally.settled() == sent
    });
    bob.read_on(last, &mut socket);
    tally.count_told(&mut ann);
    assert_eq!(tally.settled(), sent, "nothing is said or delivered twice");
    (tally.received.load(Ordering::SeqCst), tally.told.load(Ordering::SeqCst))
}

/// A node that has joined; with one reactor it hears at once of a connection that ends.
fn join_with(id: &str, url: &str, more: &[&str]) -> Node {
    let args =
        ["--node-id", id, "--redis-url", url, "--cluster-beat", crate::BEAT, "--cluster-expiry", "60s"];
    let node = Launch::serve(&[&args[..], more].concat()).start();
    wait_until_ready(&node);
    node
}

/// How fast Bob moves.
#[derive(PartialEq)]
enum Pace {
    /// When Redis has learnt that he left, he goes on.
    Waits,
    /// He may come and leave again before Redis learns of it.
    Hurries,
}

fn assert_nothing_vanishes(route: &[usize], pace: Pace) {
    let redis = Redis::start();
    // Of a connection on another reactor a user's home hears later; of two at once only one gives back.
    let reactors = if pace == Pace::Waits { "2" } else { "1" };
    let nodes = [("a", "1"), ("b", reactors), ("c", reactors)]
        .map(|(id, reactors)| join_with(id, &redis.url(), &["--reactors", reactors]));
    wait_until_met(&[&nodes[0], &nodes[1], &nodes[2]]);
    let (received, told) = while_ann_sends(&redis, &nodes[0], &nodes[1], |bob| {
        for (step, &at) in route.iter().cycle().take(60).enumerate() {
            let count = if pace == Pace::Waits { 5 + step % 40 } else { step % 3 };
            let socket = bob.visit(&nodes[at], count);
            bob.leave(socket);
            if pace == Pace::Waits {
                bob.wait_until_on(0);
            }
        }
    });
    let returned = nodes[0].metric("throng_cluster_messages_returned_total");
    println!("{received} arrived, {told} did not, {returned} came back");
    assert!(returned > 0, "he never left while something was on its way");
}

#[test]
fn nothing_vanishes_when_its_user_changes_nodes() {
    assert_nothing_vanishes(&[1, 2], Pace::Waits);
}

#[test]
fn nothing_vanishes_when_its_user_comes_to_the_senders_node_and_leaves() {
    assert_nothing_vanishes(&[1, 2, 0, 2, 2], Pace::Waits);
}

#[test]
fn nothing_vanishes_when_its_user_moves_faster_than_redis_learns() {
    assert_nothing_vanishes(&[1, 2, 0, 2, 1, 0], Pace::Hurries);
}

#[test]
fn nothing_vanishes_that_is_for_a_user_of_a_node_that_was_killed() {
    const MESSAGES: u64 = 50;
    let redis = Redis::start();
    let [a, b, c] = ["a", "b", "c"].map(|id| join_with(id, &redis.url(), &["--reactors", "2"]));
    wait_until_met(&[&a, &b, &c]);
    let mut ann = a.user("ann");
    let mut there = ["bob", "cay"].map(|user| b.user(user));
    for (user, socket) in ["bob", "cay"].iter().zip(&mut there) {
        wait_until_on(&a, user, &["b"]);
        assert_routed(&mut ann, socket, user, "there");
    }
    drop(b);
    eventually("nobody listens", || {
        redis.ask::<Vec<(String, u64)>>(&["PUBSUB", "NUMSUB", "throng:node:b"])[0].1 == 0
    });
    // Long before the node is called dead.
    (0..MESSAGES).for_each(|n| ann.send_message("bob", n));
    (0..MESSAGES).for_each(|n| ann.send_message("cay", n));
    let mut bob = c.user("bob");
    let mut seen: Vec<u64> = (0..MESSAGES).map(|_| bob.json()["content"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>(), "each once");
    for _ in 0..MESSAGES {
        let told = ann.json();
        assert_eq!(
            (&told["message"], &told["target_user"]),
            (&"User is not connected".into(), &"cay".into())
        );
    }
    assert_routed(&mut ann, &mut bob, "bob", "the next");
}

#[test]
fn nothing_vanishes_while_its_users_node_drains() {
    let redis = Redis::start();
    let [a, mut b, c] =
        ["a", "b", "c"].map(|id| join_with(id, &redis.url(), &["--reactors", "2", "--lame-duck", "0s"]));
    wait_until_met(&[&a, &b, &c]);
    // As long as she has not left, the node stays.
    let mut cay = b.user("cay");
    let (received, told) = while_ann_sends(&redis, &a, &c, |bob| {
        let mut socket = bob.visit(&b, 100);
        b.process.signal(libc::SIGTERM);
        loop {
            let message = socket.message();
            if message.first == FIN | CLOSE {
                break;
            }
            bob.note(&serde_json::from_slice(&message.payload).unwrap());
        }
        socket.answer_close(1012);
        bob.wait_until_on(0);
    });
    println!("{received} arrived, {told} did not");
    assert_eq!(cay.json()["type"], "shutdown");
    assert_eq!(cay.closed_with().0, 1012);
    assert_eq!(b.process.wait().code(), Some(0));
}
