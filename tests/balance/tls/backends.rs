//! Backends that speak TLS, and must prove who they are.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{QUICK, Secure, UNCHECKED, pattern, secure_node, to_backends};
use crate::authority::{Authority, Certified, text};
use crate::balancer::{Balancer, launch};
use crate::node::{DEADLINE, Node, eventually};
use crate::socket::{self, BINARY, FIN, Socket};

/// Why the balancer does not take its only backend.
fn why(balancer: &Balancer) -> String {
    balancer.backends()[0]["why"].as_str().unwrap_or_default().to_owned()
}

/// A balancer whose clients speak no TLS, in front of this node.
fn in_front_of(node: &Node, args: &[&str]) -> Balancer {
    Balancer::launched(&launch(&[node.http.to_string()], &[&QUICK[..], args].concat()))
}

#[test]
fn nodes_are_reached_by_tls_from_either_kind_of_client() {
    let authority = Authority::new();
    let shown = authority.server("node");
    let args =
        ["--message-bytes-max", "1MiB", "--outbound-bytes-max", "4MiB", "--trusted-proxy", "127.0.0.0/8"];
    let nodes = [secure_node(&shown, &args), secure_node(&shown, &args)];
    let (addresses, ca) = (nodes.each_ref().map(|node| node.http), authority.ca());
    let plain = Balancer::over(&addresses, &to_backends(&ca));
    let secure = Secure::over(&addresses, &to_backends(&ca));
    for balancer in [&plain, &secure.balancer] {
        let mut sockets: Vec<Socket> = (0..10).map(|_| Socket::over(balancer.web(), "/echo")).collect();
        for length in [1, 125, 16_384, 65_536, 256 << 10, 1 << 20] {
            for socket in &mut sockets {
                socket.send(socket::frame(FIN | BINARY, &pattern(length)));
            }
            for socket in &mut sockets {
                assert!(socket.frame().payload == pattern(length), "{length}");
            }
        }
        assert_eq!(balancer.get("/nodes").status, 200);
        let mut user = Socket::over(balancer.web(), "/ws?user_id=alice");
        assert_eq!(user.json()["client_ip"], "127.0.0.1");
        user.assert_alive();
        assert!(
            balancer.backends().iter().all(|backend| backend["failures"] == 0),
            "{:?}",
            balancer.backends()
        );
    }
}

#[test]
fn a_backend_must_be_who_it_says() {
    let (authority, other) = (Authority::new(), Authority::new());
    let named = authority.server_named("named", &["node.internal"]);
    let node = secure_node(&named, &[]);
    let (ca, other_ca) = (authority.ca(), other.ca());
    let by_name = [&to_backends(&ca)[..], &["--backend-tls-name", "node.internal"]].concat();
    let known = in_front_of(&node, &by_name);
    known.wait_until_all_are("up");
    let mut socket = Socket::over(known.web(), "/ws");
    assert_eq!(socket.json()["type"], "welcome");
    let refuses = |args: &[&str], mentions: &str| {
        let balancer = in_front_of(&node, args);
        balancer.wait_until_all_are("down");
        assert!(why(&balancer).contains(mentions), "{mentions} in {:?}", balancer.backends());
        let refused = Socket::try_over(balancer.web(), "/ws").err().expect("nobody serves it");
        assert_eq!(refused.status, 503);
    };
    // Known by its address, which is not in its certificate.
    refuses(&to_backends(&ca), "not valid for name");
    refuses(
        &[&to_backends(&ca)[..], &["--backend-tls-name", "other.internal"]].concat(),
        "not valid for name",
    );
    refuses(
        &[&to_backends(&other_ca)[..], &["--backend-tls-name", "node.internal"]].concat(),
        "UnknownIssuer",
    );
    // It speaks TLS, and is not spoken to in it.
    refuses(&[], "400");
}

#[test]
fn a_backend_that_speaks_no_tls_is_down() {
    let node = Node::start(&[]);
    let ca = Authority::new();
    let balancer = in_front_of(&node, &to_backends(&ca.ca()));
    balancer.wait_until_all_are("down");
    assert!(!why(&balancer).is_empty());
    assert_eq!(node.json("/health")["connections"], 0);
}

#[test]
fn new_authorities_of_backends_count_after_a_reload() {
    let (first, second) = (Authority::new(), Authority::new());
    let shown = first.server("node");
    let node = secure_node(&shown, &[]);
    let ca = first.file("backends.pem", &fs::read_to_string(first.ca()).unwrap());
    let balancer = in_front_of(&node, &to_backends(&ca));
    balancer.wait_until_all_are("up");
    let mut old = Socket::over(balancer.web(), "/ws");
    assert_eq!(old.json()["type"], "welcome");
    fs::copy(second.ca(), &ca).unwrap();
    balancer.process.signal(libc::SIGHUP);
    balancer.wait_until_all_are("down");
    shown.replace_with(&second.server("node"));
    node.process.signal(libc::SIGHUP);
    balancer.wait_until_all_are("up");
    let mut new = Socket::over(balancer.web(), "/ws");
    assert_eq!(new.json()["type"], "welcome");
    old.assert_alive();
    new.assert_alive();
    fs::write(&ca, "no certificate").unwrap();
    balancer.process.signal(libc::SIGHUP);
    let line = balancer.process.log_line("stays as it was");
    assert!(line.contains(text(&ca)), "{line}");
    new.assert_alive();
    assert_eq!(balancer.get("/nodes").status, 200);
}

#[test]
fn clients_of_a_node_that_dies_are_told_and_served_by_another() {
    let authority = Authority::new();
    let shown = authority.server("node");
    let nodes = [secure_node(&shown, &[]), secure_node(&shown, &[])];
    let addresses = nodes.each_ref().map(|node| node.http);
    let ca = authority.ca();
    let secure =
        Secure::over(&addresses, &[&to_backends(&ca)[..], &QUICK, &["--failover-window", "100ms"]].concat());
    let mut clients: Vec<Socket> = (0..20).map(|n| secure.user(&format!("user-{n}"))).collect();
    nodes[0].process.signal(libc::SIGKILL);
    eventually("half of them are gone", || secure.balancer.ended("backend_lost") == 10);
    let mut told = 0;
    for client in &mut clients {
        // Pings tell those that are still served; the others have been told already.
        client.web().try_send(&socket::text(r#"{"type":"ping","alive":true}"#)).unwrap_or_default();
        let message = client.message();
        if message.first == FIN | socket::CLOSE {
            assert_eq!(socket::close_of(&message).0, 1012);
            told += 1;
        }
    }
    assert_eq!(told, 10);
    (0..10).for_each(|n| secure.user(&format!("again-{n}")).assert_alive());
}

#[test]
fn a_node_that_leaves_loses_nothing_through_tls_on_both_sides() {
    let authority = Authority::new();
    let shown = authority.server("node");
    let busy =
        ["--simulate", "--simulate-interval", "50ms", "--lame-duck", "500ms", "--drain-window", "300ms"];
    let mut nodes = [secure_node(&shown, &busy), secure_node(&shown, &busy)];
    let addresses = nodes.each_ref().map(|node| node.http);
    let ca = authority.ca();
    let secure = Secure::over(&addresses, &[&to_backends(&ca)[..], &QUICK].concat());
    let mut clients: Vec<Socket> = (0..20).map(|n| secure.user(&format!("user-{n}"))).collect();
    nodes.iter().for_each(|node| node.process.signal(libc::SIGTERM));
    for client in &mut clients {
        let (mut last, mut announced) = (0, None);
        let code = loop {
            let message = client.message();
            if message.first == FIN | socket::CLOSE {
                break socket::close_of(&message).0;
            }
            let message: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            match message["type"].as_str() {
                Some("business") => {
                    last += 1;
                    assert_eq!(message["seq"], last, "{message}");
                }
                Some("shutdown") => announced = message["last_seq"].as_u64(),
                _ => panic!("{message}"),
            }
        };
        assert_eq!((code, announced), (1012, Some(last)), "all that was announced has come");
        client.answer_close(code);
    }
    for node in &mut nodes {
        assert_eq!(node.process.wait().code(), Some(0));
    }
}

/// A server for one connection after the other that takes a PROXY header and then speaks TLS; what it was sent before it answered.
fn serve_behind_proxy_header(
    listener: TcpListener,
    shown: &Certified,
    told: std::sync::mpsc::Sender<(Vec<u8>, String)>,
) {
    let key = PrivateKeyDer::from_pem_file(&shown.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain(), key)
        .unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, config, told) = (stream.unwrap(), config.clone(), told.clone());
            thread::spawn(move || {
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let mut header = vec![0; 16];
                stream.read_exact(&mut header).ok()?;
                let length = header.len() + usize::from(u16::from_be_bytes([header[14], header[15]]));
                header.resize(length, 0);
                stream.read_exact(&mut header[16..]).ok()?;
                let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    tls.read_exact(&mut byte).ok()?;
                    request.push(byte[0]);
                }
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").ok()?;
                tls.conn.send_close_notify();
                tls.flush().ok()?;
                // Whoever asked may have gone.
                let _ = told.send((header, String::from_utf8(request).unwrap()));
                Some(())
            });
        }
    });
}

#[test]
fn tls_comes_behind_the_header_that_tells_backends_the_client() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, requests) = channel();
    serve_behind_proxy_header(listener, &authority.server("backend"), told);
    let ca = authority.ca();
    let args = [&to_backends(&ca)[..], &["--proxy-protocol-out", "v2"], &UNCHECKED].concat();
    let balancer = Balancer::over(&[address], &args);
    let mut web = balancer.web();
    let client = web.stream.local_addr().unwrap();
    assert_eq!(web.request("GET", "/x", "", "").body, b"ok");
    let (header, request) = std::iter::repeat_with(|| requests.recv_timeout(DEADLINE).unwrap())
        .find(|(_, request)| request.starts_with("GET /x "))
        .unwrap();
    // Source address and port (PROXY protocol, section 2.2).
    assert_eq!(header[16..20], [127, 0, 0, 1]);
    assert_eq!(header[24..26], client.port().to_be_bytes());
    assert!(request.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{request}");
}
