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

#[test]
fn a_low_limit_is_raised_as_far_as_it_goes() {
    let limited = |script: &str, flags: &[&str]| {
        Launch::serve(flags).within(&["sh", "-c", &format!(r#"{script} && exec "$0" "$@""#)]).start()
    };
    let node = limited("ulimit -Sn 70 && ulimit -Hn 300", &["--max-connections", "200"]);
    let sockets: Vec<_> = (0..150).map(|_| connect(node.http).expect("a descriptor")).collect();
    assert_eq!(node.metric("process_max_fds"), 300);
    drop(sockets);

    let node = limited("ulimit -n 300", &["--max-connections", "1000"]);
    node.process.log_line("300 files may be open, but as many connections as are allowed take 1000");
    // Each table has a limit of its own.
    let flags = ["--max-connections", "1000", "--reactors", "5", "--private-fd-tables"];
    let mut node = limited("ulimit -n 300", &flags);
    node.process.signal(libc::SIGKILL);
    node.process.wait();
    let log = node.process.rest_of_stderr();
    assert!(!log.iter().any(|line| line.contains("files may be open")), "{log:#?}");
}
