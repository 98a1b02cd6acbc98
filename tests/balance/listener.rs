//! A listener to the balancer's server-sent events.

use serde_json::Value;

use crate::balancer::Balancer;
use crate::web::Web;

/// Follows `/api/events`.
pub(crate) struct Listener(pub(crate) Web);

impl Listener {
    pub(crate) fn open(balancer: &Balancer) -> Self {
        Self::on(balancer.web())
    }

    /// On a connection that is there.
    pub(crate) fn on(mut web: Web) -> Self {
        web.send("GET /api/events HTTP/1.1\r\nHost: balancer\r\nAccept: text/event-stream\r\n\r\n");
        let head = web.head();
        let headers = ["content-type", "cache-control", "x-accel-buffering"].map(|name| head.header(name));
        assert_eq!((head.status, headers), (200, [Some("text/event-stream"), Some("no-store"), Some("no")]));
        Listener(web)
    }

    /// The next event's name and data.
    pub(crate) fn next(&mut self) -> (String, Value) {
        let end = loop {
            if let Some(end) = self.0.buffer.windows(2).position(|bytes| bytes == b"\n\n") {
                break end;
            }
            assert!(self.0.read_more(), "the stream has ended");
        };
        let text: Vec<u8> = self.0.buffer.drain(..end + 2).collect();
        let text = String::from_utf8(text).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        (field("event: "), serde_json::from_str(&field("data: ")).unwrap())
    }

    /// The next event of that name.
    pub(crate) fn next_of(&mut self, name: &str) -> Value {
        loop {
            let (event, data) = self.next();
            if event == name {
                return data;
            }
        }
    }
}
