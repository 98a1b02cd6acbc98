//! How a node leaves.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{DEADLINE, Launch, Node, eventually};
use crate::process::File;
use crate::socket::{self, CLOSE, FIN, Socket};

/// What a client saw of a drain.
struct Seen {
    /// Messages it sent to its partner before the signal.
    sent_before: u64,
    /// Messages it had from its partner, numbered without a gap from 0.
    received: u64,
    /// From the notice to the close frame.
    open_for: Duration,
    /// What the notice said about that.
    reconnect_after: Duration,
}

/// A client that trades numbered messages with a partner for as long as it
/// may, and checks all it is sent.
struct Trader {
    socket: Socket,
    partner: String,
    sent: u64,
    received: u64,
    business: u64,
    sent_before: Option<u64>,
}

impl Trader {
    fn join(address: SocketAddr, user: &str, partner: &str) -> Self {
        let mut socket = Socket::connect(address, &format!("/ws?user_id={user}"), "");
        assert_eq!(socket.json()["type"], "welcome");
        Trader { socket, partner: partner.to_owned(), sent: 0, received: 0, business: 0, sent_before: None }
    }

    fn send_some(&mut self) {
        for _ in 0..5 {
            self.socket.send_message(&self.partner, self.sent);
            self.sent += 1;
        }
    }

    /// Trades until told that the node goes; the notice.
    fn trade(&mut self, signalled: &AtomicBool) -> Value {
        loop {
            let message = self.socket.json();
            if signalled.load(Ordering::SeqCst) {
                self.sent_before.get_or_insert(self.sent);
            }
            match message["type"].as_str().unwrap() {
                "business" => {
                    self.business += 1;
                    assert_eq!(message["seq"], self.business);
                    assert!(message["data"].is_string() || message["data"].is_object(), "{message}");
                    self.send_some();
                }
                "message" => self.take(&message),
                "shutdown" => return message,
                _ => panic!("{message}"),
            }
        }
    }

    fn take(&mut self, message: &Value) {
        assert_eq!(
            (&message["from"], &message["content"]),
            (&self.partner.as_str().into(), &self.received.into())
        );
        self.received += 1;
    }

    /// Takes what is still owed, to the close frame; then the connection ends.
    fn leave(mut self, notice: &Value) -> Seen {
        let told = Instant::now();
        let finals = notice["final_messages"].as_u64().unwrap();
        assert!((1..=10).contains(&finals), "{notice}");
        assert_eq!(notice["last_seq"], self.business + finals);
        assert_eq!(notice["reason"], "draining");
        let open_for = loop {
            let answer = self.socket.message();
            if answer.first == FIN | CLOSE {
                assert_eq!(socket::close_of(&answer), (1012, "Server is draining".to_owned()));
                break told.elapsed();
            }
            let message: Value = serde_json::from_slice(&answer.payload).unwrap();
            match message["type"].as_str().unwrap() {
                "business" => {
                    self.business += 1;
                    assert_eq!(message["seq"], self.business);
                }
                "message" => self.take(&message),
                // The partner has left already.
                "error" => {}
                _ => panic!("{message}"),
            }
        };
        assert_eq!(notice["last_seq"], self.business, "it had all of them");
        self.socket.answer_close(1012);
        Seen {
            sent_before: self.sent_before.unwrap_or(self.sent),
            received: self.received,
            open_for,
            reconnect_after: Duration::from_millis(notice["reconnect_after_ms"].as_u64().unwrap()),
        }
    }
}

#[test]
fn a_drain_under_traffic_loses_nothing() {
    const CLIENTS: usize = 200;
    const WINDOW: Duration = Duration::from_secs(2);
    let mut node = Node::start(&[
        "--reactors",
        "4",
        "--simulate",
        "--simulate-interval",
        "200ms",
        "--lame-duck",
        "3s",
        "--drain-window",
        "2s",
        "--drain-timeout",
        "20s",
    ]);
    let signalled = Arc::new(AtomicBool::new(false));
    let join = |n: usize| Trader::join(node.http, &format!("user-{n}"), &format!("user-{}", n ^ 1));
    let traders: Vec<Trader> = (0..CLIENTS).map(join).collect();
    let (traded, trading) = mpsc::channel();
    let clients: Vec<_> = traders
        .into_iter()
        .map(|mut trader| {
            let (signalled, traded) = (signalled.clone(), traded.clone());
            thread::spawn(move || {
                while trader.received == 0 {
                    let message = trader.socket.json();
                    match message["type"].as_str().unwrap() {
                        "business" => {
                            trader.business += 1;
                            trader.send_some();
                        }
                        _ => trader.take(&message),
                    }
                }
                traded.send(()).unwrap();
                let notice = trader.trade(&signalled);
                trader.leave(&notice)
            })
        })
        .collect();
    for _ in 0..CLIENTS {
        trading.recv_timeout(DEADLINE).unwrap();
    }
    let start = Instant::now();
    node.process.signal(libc::SIGTERM);
    eventually("it is not ready any more", || node.get("/readyz").status == 503);
    signalled.store(true, Ordering::SeqCst);
    let ready = node.get("/readyz");
    assert_eq!(ready.json(), serde_json::json!({"ready": false, "phase": "lame_duck"}));
    assert_eq!(node.get("/livez").status, 200);
    assert_eq!(node.json("/health")["status"], "draining");
    assert_eq!(node.json("/nodes")[0]["status"], "draining");
    let mut late = Trader::join(node.http, "late", "late");
    let notice = late.trade(&signalled);
    assert!(start.elapsed() >= Duration::from_millis(2990), "the lame duck lasted {:?}", start.elapsed());
    let refused = Socket::try_connect(node.http, "/ws", "").err().expect("it takes no more clients");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    assert_eq!((node.get("/livez").status, node.get("/readyz").status), (200, 503));
    late.leave(&notice);

    let mut seen: Vec<Seen> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    for (n, client) in seen.iter().enumerate() {
        let partner = &seen[n ^ 1];
        assert!(
            client.received >= partner.sent_before,
            "{n} lacks {} of {}",
            client.received,
            partner.sent_before
        );
    }
    assert_eq!(node.process.wait().code(), Some(0));
    let summary = node.process.log_line("drained in");
    assert!(summary.contains("201 clients told, 201 closed, 0 cut off"), "{summary}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

    // Every client was closed when it had been told, and they were spread.
    let late_by = |client: &Seen| client.open_for.abs_diff(client.reconnect_after);
    seen.sort_by_key(late_by);
    assert!(late_by(&seen[CLIENTS / 2]) < Duration::from_secs(1), "{:?}", late_by(&seen[CLIENTS / 2]));
    assert!(late_by(&seen[CLIENTS - 1]) < Duration::from_secs(10), "{:?}", late_by(&seen[CLIENTS - 1]));
    for quarter in 0..4 {
        let span = WINDOW * quarter / 4..WINDOW * (quarter + 1) / 4;
        let closed = seen.iter().filter(|client| span.contains(&client.reconnect_after)).count();
        assert!((CLIENTS / 10..CLIENTS / 2).contains(&closed), "{closed} in {span:?}");
    }
}

#[test]
fn what_is_owed_to_a_slow_reader_is_sent_first() {
    const MESSAGES: usize = 60;
    let mut node = Node::start(&[
        "--reactors",
        "2",
        "--lame-duck",
        "0s",
        "--drain-window",
        "0s",
        "--outbound-bytes-max",
        "8MiB",
    ]);
    let mut slow = Socket::connect_narrow(node.http, "/ws?user_id=slow", 8 * 1024);
    assert_eq!(slow.json()["type"], "welcome");
    let mut batched = node.socket("/ws?user_id=batched&batch=1");
    assert_eq!(batched.json()["type"], "welcome");
    let padding = "x".repeat(100_000);
    for n in 0..MESSAGES {
        let sent = node.post("/api/send", &format!(r#"{{"user_id":"slow","message":[{n},"{padding}"]}}"#));
        assert_eq!(sent.json()["status"], "delivered");
    }
    assert!(node.metric("throng_outbound_bytes") > 0, "something is owed");
    let sent = node.post("/api/send", r#"{"user_id":"batched","message":"gathered"}"#);
    assert_eq!(sent.json()["status"], "delivered");
    node.process.signal(libc::SIGTERM);
    assert_eq!(batched.json()["messages"], serde_json::json!(["gathered"]));
    assert_eq!(batched.json()["type"], "shutdown");
    assert_eq!(batched.closed_with().0, 1012);
    for n in 0..MESSAGES {
        assert_eq!(slow.json()[0], n);
    }
    assert_eq!(slow.json()["type"], "shutdown");
    assert_eq!(slow.closed_with().0, 1012);
    assert_eq!(node.process.wait().code(), Some(0));
}

#[test]
fn who_does_not_answer_is_cut_off_at_the_deadline() {
    let mut node = Node::start(&[
        "--reactors",
        "2",
        "--lame-duck",
        "0s",
        "--drain-window",
        "100ms",
        "--drain-timeout",
        "4s",
    ]);
    let mut rude = node.user("rude");
    let mut polite = node.user("polite");
    let mut stuck = Socket::connect_narrow(node.http, "/ws?user_id=stuck", 8 * 1024);
    assert_eq!(stuck.json()["type"], "welcome");
    for _ in 0..60 {
        let padding = "x".repeat(100_000);
        node.post("/api/send", &format!(r#"{{"user_id":"stuck","message":"{padding}"}}"#));
    }
    let mut idle_http = node.web();
    assert_eq!(idle_http.request("GET", "/livez", "", "").status, 200);
    let start = Instant::now();
    node.process.signal(libc::SIGTERM);
    assert_eq!(polite.json()["type"], "shutdown");
    assert_eq!(polite.closed_with().0, 1012);
    assert_eq!(rude.json()["type"], "shutdown");
    assert_eq!(rude.close_frame().0, 1012);
    assert_eq!(rude.try_frame(), None, "it is cut off");
    let lasted = start.elapsed();
    assert!((Duration::from_millis(3980)..Duration::from_secs(20)).contains(&lasted), "{lasted:?}");
    assert_eq!(node.process.wait().code(), Some(0));
    let summary = node.process.log_line("drained in");
    assert!(summary.contains(" cut off") && !summary.contains(" 0 cut off"), "{summary}");
}

#[test]
fn a_drain_keeps_the_times_it_began_with() {
    let times = |window: &str, timeout: &str| {
        format!("lame_duck = \"3s\"\ndrain_window = \"{window}\"\ndrain_timeout = \"{timeout}\"\n")
    };
    let file = File::new("drain-times.toml", &times("0s", "20s"));
    let mut node = Launch::serve(&["--config", file.path(), "--reactors", "2"]).start();
    let mut clients: Vec<Socket> = (0..8).map(|n| node.user(&format!("client-{n}"))).collect();
    node.process.signal(libc::SIGTERM);
    node.process.log_line("draining: not ready");
    file.write(&times("1h", "2h"));
    node.process.signal(libc::SIGHUP);
    node.process.log_line("reloaded: changed");
    node.process.log_line("closing them over 0 s");
    for client in &mut clients {
        let notice = client.json();
        assert_eq!((&notice["type"], &notice["reconnect_after_ms"]), (&"shutdown".into(), &0.into()));
        assert_eq!(client.closed_with().0, 1012);
    }
    assert_eq!(node.process.wait().code(), Some(0));
}

#[test]
fn nobody_there_is_quickly_left() {
    let mut node = Node::start(&["--lame-duck", "0s"]);
    let mut kept = node.web();
    assert_eq!(kept.request("GET", "/livez", "", "").status, 200);
    let mut half_a_request = node.web();
    half_a_request.send("GET / HTTP/1.1\r\nHost:");
    let start = Instant::now();
    node.process.signal(libc::SIGINT);
    assert_eq!(node.process.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn raw_echo_clients_are_closed_without_a_notice() {
    let mut node = Node::start(&["--lame-duck", "0s", "--drain-window", "0s"]);
    let mut echo = node.socket("/echo");
    echo.send_text("first");
    assert_eq!(echo.frame().payload, b"first");
    node.process.signal(libc::SIGTERM);
    assert_eq!(echo.closed_with().0, 1012);
    assert_eq!(node.process.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut node = Node::start(&["--lame-duck", "1h"]);
    let mut client = node.user("alice");
    let start = Instant::now();
    node.process.signal(libc::SIGTERM);
    node.process.log_line("draining");
    client.assert_alive();
    // One that follows within a moment is taken for the same.
    let mut signals = 1;
    while !node.process.ends_within(Duration::from_millis(50)) {
        assert!(start.elapsed() < DEADLINE, "it does not end");
        node.process.signal(libc::SIGTERM);
        signals += 1;
    }
    assert!(signals > 1);
    assert_eq!(node.process.wait().code(), Some(143));
    assert_eq!(client.try_frame(), None);
}
