//! Listening sockets that outlive the node, as a service manager passes them.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::SockRef;

use crate::node::{Launch, Node};
use crate::socket::{self, Socket};
use crate::web::Web;

/// A node with this socket instead of one of its own, of one reactor unless told otherwise.
fn launch(listener: &TcpListener, name: &str, args: &[&str]) -> Launch {
    SockRef::from(listener).set_cloexec(false).unwrap();
    // The descriptors begin at 3, and are for the process of this number (sd_listen_fds(3)).
    let pass = format!(
        r#"exec 3<&{}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}; exec "$0" "$@""#,
        listener.as_raw_fd()
    );
    let reactors: &[&str] = if args.contains(&"--reactors") { &[] } else { &["--reactors", "1"] };
    Launch::serve(&[reactors, &["--lame-duck", "0s"], args].concat()).within(&["bash", "-c", &pass])
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Where a node listens that has such a socket.
fn start(listener: &TcpListener, args: &[&str]) -> Node {
    let node = launch(listener, "http", args).start();
    assert_eq!(node.http, listener.local_addr().unwrap());
    node
}

#[test]
fn who_connects_while_a_node_leaves_is_served_by_the_next() {
    let listener = listener();
    let mut first = start(&listener, &["--drain-window", "0s"]);
    first.process.log_line("127.0.0.1:0, is not used");
    // It stays until the deadline: it does not answer the close frame.
    let mut resident = first.user("resident");
    first.process.signal(libc::SIGTERM);
    assert_eq!(resident.json()["type"], "shutdown");
    assert_eq!(resident.close_frame().0, 1012);
    let mut waiting = Web::connect(first.http);
    waiting.send(socket::upgrade("/ws?user_id=waiting", ""));
    assert!(!first.process.ends_within(Duration::from_millis(200)), "it waits for the resident");
    resident.answer_close(1012);
    assert_eq!(first.process.wait().code(), Some(0));
    let second = start(&listener, &[]);
    let mut served = Socket::accept(waiting).unwrap();
    assert_eq!(served.json()["type"], "welcome");
    assert_eq!(second.json("/api/users/waiting")["online"], true);
}

#[test]
fn who_was_accepted_is_let_in_told_and_closed() {
    let listener = listener();
    let mut node = start(&listener, &["--drain-window", "0s"]);
    let mut late = Web::connect(node.http);
    let mut resident = node.user("resident");
    // Accepted in order: with the resident's, the earlier connection is in too.
    node.process.signal(libc::SIGTERM);
    assert_eq!(resident.json()["type"], "shutdown");
    late.send(socket::upgrade("/ws?user_id=late", ""));
    let mut late = Socket::accept(late).unwrap();
    assert_eq!(late.json()["type"], "welcome");
    let notice = late.json();
    assert_eq!((&notice["type"], &notice["reconnect_after_ms"]), (&"shutdown".into(), &0.into()));
    assert_eq!(late.closed_with().0, 1012);
    assert_eq!(resident.closed_with().0, 1012);
    assert_eq!(node.process.wait().code(), Some(0));
}

#[test]
fn a_request_that_is_on_its_way_is_waited_for() {
    let listener = listener();
    let mut node = start(&listener, &[]);
    let mut late = Web::connect(node.http);
    assert_eq!(node.get("/livez").status, 200);
    node.process.signal(libc::SIGTERM);
    node.process.log_line("telling 0 connections");
    late.send(socket::upgrade("/ws", ""));
    let mut late = Socket::accept(late).unwrap();
    assert_eq!(late.json()["type"], "welcome");
    assert_eq!(late.json()["type"], "shutdown");
    assert_eq!(late.closed_with().0, 1012);
    assert_eq!(node.process.wait().code(), Some(0));
}

#[test]
fn reactors_with_tables_of_their_own_share_a_socket() {
    let listener = listener();
    let mut node = start(&listener, &["--reactors", "3", "--private-fd-tables", "--drain-window", "0s"]);
    let mut clients: Vec<Socket> = (0..50).map(|_| node.socket("/ws")).collect();
    assert!(clients.iter_mut().all(|client| client.json()["type"] == "welcome"));
    node.process.signal(libc::SIGTERM);
    for client in &mut clients {
        assert_eq!(client.json()["type"], "shutdown");
        assert_eq!(client.closed_with().0, 1012);
    }
    assert_eq!(node.process.wait().code(), Some(0));
    let mut waiting = Web::connect(node.http);
    waiting.send("GET /livez HTTP/1.1\r\nHost: node\r\n\r\n");
    let _next = start(&listener, &[]);
    assert_eq!(waiting.response().status, 200);
}

#[test]
fn the_second_port_can_be_inherited_too() {
    let listener = listener();
    let node = launch(&listener, "ws", &[]).start();
    node.process.log_line("are refused while the node restarts");
    assert_eq!(node.ws, Some(listener.local_addr().unwrap()), "although none is configured");
    let mut socket = Socket::connect(node.ws.unwrap(), "/any/path", "");
    assert_eq!(socket.json()["type"], "welcome");
}

#[test]
fn a_socket_of_an_unknown_name_is_refused() {
    let mut process = launch(&listener(), "throng.socket", &[]).spawn();
    process.log_line("a socket is named \"throng.socket\", known are http and ws: set FileDescriptorName=");
    assert_eq!(process.wait().code(), Some(1));
}
