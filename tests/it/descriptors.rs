//! When the process may open no more files.

use std::thread;
use std::time::Duration;

use crate::node::{Launch, eventually};
use crate::socket::{FIN, PING, Socket};
use crate::web::Response;

const DESCRIPTORS: u32 = 60;

fn connect(address: std::net::SocketAddr) -> Result<Socket, Response> {
    Socket::try_connect(address, "/ws", "")
}

#[test]
fn without_descriptors_the_node_serves_whom_it_has() {
    let flags = ["--reactors", "2", "--heartbeat-interval", "1s", "--heartbeat-timeout", "30s"];
    let node = Launch::serve(&flags).descriptors(DESCRIPTORS).start();
    let mut sockets = Vec::new();
    let refused = loop {
        match connect(node.http) {
            Ok(mut socket) => {
                assert_eq!(socket.json()["type"], "welcome");
                sockets.push(socket);
            }
            Err(answer) => break answer,
        }
        assert!(sockets.len() < DESCRIPTORS as usize, "it has more than it may have");
    };
    assert!(sockets.len() > 20, "{}", sockets.len());
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{refused:?}");

    // A crowd waits: each is refused, or taken in when there is room again.
    let crowd: Vec<_> = (0..40)
        .map(|_| {
            thread::spawn({
                let address = node.http;
                move || connect(address)
            })
        })
        .collect();
    // Once a silent second has passed, a ping comes.
    sockets[0].assert_alive();
    let before = node.process.processor_time();
    assert_eq!(sockets[0].frame().first, FIN | PING);
    let used = node.process.processor_time() - before;
    assert!(used < Duration::from_millis(300), "it spins: {used:?} of a second");
    for socket in &mut sockets {
        socket.send_text(r#"{"type":"broadcast","content":1}"#);
        assert_eq!(socket.json()["type"], "broadcast");
    }
    drop(sockets);
    eventually("descriptors are free", || connect(node.http).is_ok());
    for client in crowd {
        if let Err(answer) = client.join().unwrap() {
            assert_eq!(answer.status, 503, "{answer:?}");
        }
    }
    assert!(node.metric("throng_accept_errors_total") > 0);
}

/// A kubelet kills a pod whose probes are not answered.
#[test]
fn a_node_that_is_full_for_want_of_descriptors_answers_probes() {
    const CONNECTIONS: usize = 150;
    let node = Launch::serve(&["--reactors", "1"]).descriptors(200).start();
    assert_eq!(node.metric("throng_connections_max"), CONNECTIONS as u64);
    let mut sockets: Vec<_> = (0..CONNECTIONS).map(|_| connect(node.http).expect("a descriptor")).collect();
    let refused = connect(node.http).err().expect("no more are let in");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{refused:?}");
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(node.get(path).status, 200, "{path}");
    }
    node.process.signal(libc::SIGHUP);
    node.process.log_line("reloaded: nothing changed");
    assert_eq!(connect(node.http).err().expect("nor after a reload").status, 503);
    sockets.pop();
    eventually("there is room again", || connect(node.http).is_ok());
    assert_eq!(node.metric("throng_accept_errors_total"), 0);
}

#[test]
fn each_reactor_may_have_descriptors_of_its_own() {
    const DESCRIPTORS: u32 = 200;
    const CONNECTIONS: usize = 270;
    let flags = ["--private-fd-tables", "--reactors", "2", "--lame-duck", "0s", "--drain-window", "0s"];
    let mut node = Launch::serve(&flags).descriptors(DESCRIPTORS).start();
    let mut sockets: Vec<Socket> = (0..CONNECTIONS).map(|n| node.user(&format!("user-{n}"))).collect();
    assert_eq!(node.json("/health")["connections"], CONNECTIONS);
    sockets[0].send_text(r#"{"type":"broadcast","content":1}"#);
    for socket in &mut sockets {
        assert_eq!(socket.json()["content"], 1);
    }
    let target = format!("user-{}", CONNECTIONS - 1);
    for socket in &mut sockets[..CONNECTIONS - 1] {
        socket.send_message(&target, "across the tables");
    }
    for _ in 0..CONNECTIONS - 1 {
        assert_eq!(sockets[CONNECTIONS - 1].json()["content"], "across the tables");
    }
    node.process.signal(libc::SIGTERM);
    for socket in &mut sockets {
        assert_eq!(socket.json()["type"], "shutdown");
        assert_eq!(socket.close_frame().0, 1012);
    }
    for socket in &mut sockets {
        socket.answer_close(1012);
    }
    assert_eq!(node.process.wait().code(), Some(0));
    let port = node.http.port().to_string();
    let again = Launch::serve(&["--private-fd-tables", "--port", &port]).start();
    assert_eq!(again.http, node.http, "the port is free");
}

/// Who operates it is told at the start, not when clients are refused.
#[test]
fn a_low_limit_is_raised_as_far_as_it_goes_and_one_that_is_too_low_told_of() {
    let limited = |script: &str, flags: &[&str]| {
        Launch::serve(flags).within(&["sh", "-c", &format!(r#"{script} && exec "$0" "$@""#)]).start()
    };
    let node = limited("ulimit -Sn 70 && ulimit -Hn 400", &["--max-connections", "200"]);
    let sockets: Vec<_> = (0..150).map(|_| connect(node.http).expect("a descriptor")).collect();
    assert_eq!(node.metric("process_max_fds"), 400);
    drop(sockets);

    let check = |limit: u32, flags: &[&str], expected: Option<&str>| {
        let quick = ["--lame-duck", "0s", "--drain-window", "0s", "--reactors", "2"];
        let flags = [&["--max-connections", "1000"], &quick[..], flags].concat();
        let node = limited(&format!("ulimit -n {limit}"), &flags);
        node.process.signal(libc::SIGTERM);
        let lines = node.process.rest_of_stderr();
        let told = lines.iter().find(|line| line.contains("descriptors may be open"));
        match (told, expected) {
            (Some(line), Some(part)) => {
                let is_whole = line.contains("WARN") && line.contains("LimitNOFILE=");
                assert!(is_whole && line.contains(part), "{line}");
            }
            (None, None) => {}
            _ => panic!("{limit} {flags:?}: {lines:#?}"),
        }
    };
    check(1128, &[], None);
    check(1127, &[], Some("only 1127 descriptors may be open, 1000 connections need 1128"));
    let private = ["--private-fd-tables"];
    check(628, &private, None);
    check(627, &private, Some("in each of 2 tables, 1000 connections need 628"));
}
