//! What Redis publishes about users.

use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use crate::node::{DEADLINE, Node};
use crate::redis_servers::Redis;

/// Who came online and went offline, in order.
pub(crate) struct Events(Receiver<(String, String)>);

impl Events {
    /// Listens from now on.
    pub(crate) fn of(redis: &Redis) -> Self {
        let (sender, receiver) = channel();
        let mut connection = redis.connection();
        connection.set_read_timeout(None).unwrap();
        let (ready, is_ready) = channel();
        thread::spawn(move || {
            let mut subscription = connection.as_pubsub();
            subscription.subscribe("throng:user:events").unwrap();
            ready.send(()).unwrap();
            // Ends with Redis, or with the test.
            while let Ok(message) = subscription.get_message() {
                let event: Value = serde_json::from_slice(message.get_payload_bytes()).unwrap();
                let field = |name: &str| event[name].as_str().unwrap().to_owned();
                if sender.send((field("event"), field("user_id"))).is_err() {
                    break;
                }
            }
        });
        is_ready.recv_timeout(DEADLINE).unwrap();
        Events(receiver)
    }

    /// The next event and whom it is about.
    pub(crate) fn next(&self) -> (String, String) {
        self.0.recv_timeout(DEADLINE).expect("an event")
    }

    /// All events that have come and were not asked for yet, as `user online`,
    /// sorted. A new user of `node` marks where they end.
    pub(crate) fn until_now(&self, node: &Node) -> Vec<String> {
        let _marker = node.user("the-end");
        let mut events = Vec::new();
        loop {
            let (event, user) = self.next();
            match (&*user, &*event) {
                ("the-end", "online") => break,
                ("the-end", _) => {}
                _ => events.push(format!("{user} {event}")),
            }
        }
        events.sort_unstable();
        events
    }
}
