//! How connections end in TLS: always with a word of farewell, unless the peer broke something.

use std::time::{Duration, Instant};

use super::Secure;
use crate::node::eventually;
use crate::socket::{CLOSE, FIN, Socket, close_of, frame, text};

#[test]
fn a_close_is_answered_and_the_end_is_said() {
    let secure = Secure::start(&[]);
    let mut socket = secure.socket("/echo");
    socket.send(frame(FIN | CLOSE, &1000u16.to_be_bytes()));
    let close = socket.frame();
    assert_eq!((close.first, close_of(&close).0), (FIN | CLOSE, 1000));
    // The end of a stream in TLS, without which reading fails.
    assert_eq!(socket.try_frame(), None);
    secure.node_has_no_sockets();
}

#[test]
fn whoever_is_closed_is_told_to_the_end() {
    let secure = Secure::start(&[]);
    let mut kicked = secure.user("kicked");
    let kick = r#"{"user_id":"kicked","reason":"enough"}"#;
    assert_eq!(secure.web().request("POST", "/api/kick", "", kick).status, 200);
    assert_eq!(kicked.closed_with(), (4003, "enough".to_owned()));
    let mut rude = secure.socket("/ws");
    assert_eq!(rude.json()["type"], "welcome");
    // An unmasked frame.
    rude.send([FIN | 1, 1, b'x']);
    assert_eq!(rude.close_frame().0, 1002);
    assert_eq!(rude.try_frame(), None);
    let mut web = secure.web();
    let answer = web.request("GET", "/livez", "Connection: close\r\n", "");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    web.assert_ends();
}

#[test]
fn whoever_is_left_for_being_idle_is_told() {
    let secure = Secure::start(&[
        "--handshake-timeout",
        "3s",
        "--heartbeat-interval",
        "200ms",
        "--heartbeat-timeout",
        "500ms",
    ]);
    let mut silent = secure.web();
    silent.assert_ends();
    let mut kept = secure.web();
    assert_eq!(kept.request("GET", "/livez", "", "").status, 200);
    kept.send("GET /livez HT");
    assert_eq!(kept.response().status, 408);
    kept.assert_ends();
    // It answers no ping, but the close frame.
    let mut socket = secure.socket("/echo");
    let close = loop {
        let frame = socket.frame();
        if frame.first == FIN | CLOSE {
            break close_of(&frame);
        }
    };
    assert_eq!(close.0, 1001);
    socket.answer_close(1001);
}

#[test]
fn who_sends_no_more_still_gets_its_answers() {
    let secure = Secure::start(&["--reactors", "4"]);
    let mut socket = secure.socket("/echo");
    socket.send([text("one"), text("two")].concat());
    socket.web().shut();
    assert_eq!(socket.frame().payload, b"one");
    assert_eq!(socket.frame().payload, b"two");
    assert_eq!(socket.try_frame(), None);
    for path in ["/livez", "/api/users/a", "/api/users/b", "/api/users/c"] {
        let mut web = secure.web();
        web.send(format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"));
        // Said in TLS, while the stream below stays open.
        let tls = web.tls.as_deref_mut().unwrap();
        tls.send_close_notify();
        tls.write_tls(&mut web.stream).unwrap();
        assert_eq!(web.response().status, 200, "{path}");
        web.assert_ends();
    }
    secure.node_has_no_sockets();
}

#[test]
fn who_vanishes_leaves_nothing_behind() {
    let secure = Secure::start(&[]);
    let sockets: Vec<Socket> = (0..20).map(|n| secure.user(&format!("user-{n}"))).collect();
    assert_eq!(secure.json("/health")["connections"], 20);
    // Without a word in TLS.
    drop(sockets);
    secure.node_has_no_sockets();
    assert_eq!(secure.json("/api/users/user-3")["online"], false);
}

#[test]
fn a_drain_is_told_to_the_end() {
    let mut secure = Secure::start(&[
        "--reactors",
        "2",
        "--lame-duck",
        "300ms",
        "--drain-window",
        "500ms",
        "--drain-timeout",
        "20s",
    ]);
    let mut users: Vec<Socket> = (0..30).map(|n| secure.user(&format!("user-{n}"))).collect();
    let mut idle_http = secure.web();
    assert_eq!(idle_http.request("GET", "/livez", "", "").status, 200);
    secure.node.process.signal(libc::SIGTERM);
    eventually("it is not ready any more", || secure.get("/readyz").status == 503);
    for user in &mut users {
        let notice = user.json();
        assert_eq!((&notice["type"], &notice["reason"]), (&"shutdown".into(), &"draining".into()));
    }
    for user in &mut users {
        assert_eq!(user.closed_with(), (1012, "Server is draining".to_owned()));
    }
    assert_eq!(secure.node.process.wait().code(), Some(0));
    let summary = secure.node.process.log_line("drained in");
    assert!(summary.contains("30 clients told, 30 closed, 0 cut off"), "{summary}");
}

#[test]
fn what_is_owed_to_a_slow_reader_is_sent_first() {
    const MESSAGES: usize = 60;
    let mut secure =
        Secure::start(&["--lame-duck", "0s", "--drain-window", "0s", "--outbound-bytes-max", "8MiB"]);
    let web = crate::web::Web::connect_narrow(secure.node.http, 8 * 1024).secure(&secure.config).unwrap();
    let mut slow = Socket::over(web, "/ws?user_id=slow");
    assert_eq!(slow.json()["type"], "welcome");
    let padding = "x".repeat(100_000);
    let mut web = secure.web();
    for n in 0..MESSAGES {
        let body = format!(r#"{{"user_id":"slow","message":[{n},"{padding}"]}}"#);
        assert_eq!(web.request("POST", "/api/send", "", &body).json()["status"], "delivered");
    }
    assert!(secure.metric("throng_outbound_bytes") > 0, "something is owed");
    secure.node.process.signal(libc::SIGTERM);
    for n in 0..MESSAGES {
        assert_eq!(slow.json()[0], n);
    }
    assert_eq!(slow.json()["type"], "shutdown");
    assert_eq!(slow.closed_with().0, 1012);
    assert_eq!(secure.node.process.wait().code(), Some(0));
}

#[test]
fn who_never_finished_its_handshake_does_not_hold_a_drain_up() {
    let mut secure = Secure::start(&["--lame-duck", "0s", "--drain-timeout", "10s"]);
    let _silent: Vec<_> = (0..5).map(|_| crate::web::Web::connect(secure.node.http)).collect();
    let mut half = crate::web::Web::connect(secure.node.http);
    half.send([22, 3, 1, 2]);
    eventually("they are there", || secure.sockets() >= 6);
    let start = Instant::now();
    secure.node.process.signal(libc::SIGTERM);
    assert_eq!(secure.node.process.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
