//! What is refused before it costs anything.

use crate::node::{Node, eventually};
use crate::socket::Socket;
use crate::web::Response;

fn refusal(node: &Node, headers: &str) -> Response {
    match Socket::try_connect(node.http, "/ws", headers) {
        Err(answer) => answer,
        Ok(_) => panic!("it was not refused"),
    }
}

fn retry_after(answer: &Response) -> u32 {
    answer.header("retry-after").expect("it says when to come back").parse().unwrap()
}

#[test]
fn a_full_node_says_so_and_goes_on_answering() {
    let node = Node::start(&["--max-connections", "5", "--reactors", "2"]);
    let mut sockets: Vec<Socket> = (0..5).map(|n| node.user(&format!("user-{n}"))).collect();
    for _ in 0..20 {
        let refused = refusal(&node, "");
        assert_eq!(refused.status, 503);
        assert!((1..=60).contains(&retry_after(&refused)));
        assert_eq!(node.json("/health")["connections"], 5);
    }
    assert_eq!(node.get("/readyz").status, 200);
    for socket in &mut sockets {
        socket.assert_alive();
    }
    assert_eq!(node.metric(r#"throng_handshakes_total{outcome="capacity"}"#), 20);
    drop(sockets.pop());
    eventually("a place is free", || Socket::try_connect(node.http, "/ws", "").is_ok());
}

#[test]
fn an_address_that_connects_too_often_has_to_wait() {
    let node = Node::start(&["--connections-per-address", "5/60", "--reactors", "2"]);
    let sockets: Vec<Socket> = (0..5).map(|_| node.socket("/ws")).collect();
    // That they have gone makes no difference, nor what a client says of itself.
    drop(sockets);
    for header in ["", "X-Forwarded-For: 198.51.100.7\r\n", "X-Real-IP: 198.51.100.7\r\n"] {
        let refused = refusal(&node, header);
        assert_eq!(refused.status, 429, "{header}");
        assert!((1..=120).contains(&retry_after(&refused)), "{refused:?}");
    }
    assert_eq!(node.get("/health").status, 200, "HTTP is not limited");
    assert_eq!(node.metric(r#"throng_handshakes_total{outcome="address_rate"}"#), 3);
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    let node = Node::start(&[
        "--connections-per-address",
        "5/60",
        "--trusted-proxy",
        "127.0.0.0/8",
        "--trusted-proxy",
        "10.0.0.0/8",
    ]);
    let connect = |header: &str| Socket::try_connect(node.http, "/ws", header);
    for client in ["198.51.100.1", "198.51.100.2", "2001:db8::1"] {
        // What the client itself put in front is not believed.
        let header = format!("X-Forwarded-For: 203.0.113.9, {client}, 10.1.2.3\r\n");
        for _ in 0..5 {
            let mut socket = connect(&header).unwrap_or_else(|answer| panic!("{answer:?}"));
            assert_eq!(socket.json()["client_ip"], client);
        }
        assert!(connect(&header).is_err_and(|answer| answer.status == 429), "{client}");
    }
    let mut by_nginx = connect("X-Real-IP: 198.51.100.3\r\n").unwrap_or_else(|answer| panic!("{answer:?}"));
    assert_eq!(by_nginx.json()["client_ip"], "198.51.100.3");
}

#[test]
fn a_stranger_is_not_believed() {
    let node = Node::start(&["--trusted-proxy", "192.0.2.0/24"]);
    let mut socket = Socket::connect(node.http, "/ws", "X-Forwarded-For: 198.51.100.1\r\n");
    assert_eq!(socket.json()["client_ip"], "127.0.0.1");
}
