//! The program: what it prints, how it ends; TLS; `throng health`.

use std::io::{Read, Write};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::scripted::Scripted;
use super::tls::Authority;
use super::{client, url};
use crate::node::{DEADLINE, Launch, Node, eventually};

#[test]
fn what_it_saw_is_printed_for_people() {
    let mut node = Node::start(&["--simulate", "--lame-duck", "0s", "--drain-window", "0s"]);
    let args = ["client", "--url", &url(&node), "--name", "alice", "--simulate", "--interval", "20ms"];
    let mut one = Launch::bare(&args).spawn();
    let line = one.stdout_line().unwrap();
    assert!(line.ends_with(&format!("alice connected to {}", node.http)), "{line}");
    let line = one.stdout_line().unwrap();
    assert!(line.contains("alice welcomed by throng-"), "{line}");
    node.process.signal(libc::SIGTERM);
    let line = one.stdout_line().unwrap();
    assert!(
        line.contains("alice notice: the server leaves (draining), ") && line.contains("come back in"),
        "{line}"
    );
    let line = one.stdout_line().unwrap();
    assert!(line.contains("alice disconnected: 1012 Server is draining; next attempt in"), "{line}");
    node.process.wait();
    one.signal(libc::SIGTERM);
    let mut rest = Vec::new();
    while let Some(line) = one.stdout_line() {
        rest.push(line);
    }
    assert!(rest.iter().any(|line| line.starts_with("announced ")), "{rest:#?}");
    assert_eq!(one.rest_of_stderr(), Vec::<String>::new());
    // A message of its own may have gone with the node.
    let complete = rest.last().unwrap() == "nothing that was announced or sent is missing";
    assert_eq!(one.wait().code(), Some(i32::from(!complete)), "{rest:#?}");
}

#[test]
fn a_server_of_the_environment_and_nobody_there() {
    let server = Scripted::new();
    let (address, unused) = (server.address(), server.url());
    drop(server);
    let launch = Launch::bare(&["client", "--duration", "300ms", "--backoff-first", "50ms", "--quiet"]);
    let mut one = launch.variable("SERVER_URL", &unused).spawn();
    let first = one.stdout_line().unwrap();
    assert!(first.starts_with("connections  1, 0 opened in "), "{first} at {address}");
    assert_eq!(one.wait().code(), Some(1), "it was never connected");
}

#[test]
fn the_sums_so_far_are_shown() {
    let node = Node::start(&[]);
    let mut one = client(&url(&node), &["--interval", "10ms", "--status", "100ms"]);
    one.next("status");
    let status = one.next("status");
    assert!(status["sent"].as_u64().unwrap() > 0 && status["ever_open"] == 1, "{status}");
    assert_eq!(one.end().1, 0);
    let args = ["client", "--quiet", "--url", &url(&node), "--interval", "10ms", "--status", "50ms"];
    let one = Launch::bare(&args).spawn();
    let line = one.stdout_line().unwrap();
    assert!(line.contains("so far: 1 of 1 opened"), "{line}");
}

#[test]
fn a_name_is_resolved() {
    let node = Node::start(&[]);
    let mut one = client(&format!("ws://localhost:{}/ws", node.http.port()), &[]);
    one.next("welcomed");
    assert_eq!(one.end().1, 0);
    let mut nowhere = client("ws://no-such-host.invalid/ws", &["--backoff-first", "10ms"]);
    let failed = nowhere.next("failed");
    assert!(failed["why"].as_str().unwrap().contains("no-such-host.invalid"), "{failed}");
    nowhere.next("failed");
    assert_eq!(nowhere.end().1, 1);
}

#[test]
fn a_mistake_is_one_line_and_exit_status_2() {
    for args in [
        &["client", "--url", "http://localhost/"][..],
        &["client", "--interval", "soon"],
        &["client", "--url", "wss://localhost/", "--ca-file", "/nowhere.pem"],
        &["client", "--url", "wss://localhost/", "--ca-file", "/dev/null"],
        &["health", "ftp://localhost/"],
        &["health", "https://localhost/", "--ca-file", "/dev/null", "--insecure"],
    ] {
        let mut process = Launch::bare(args).spawn();
        let stderr = process.rest_of_stderr();
        assert_eq!((process.wait().code(), stderr.len()), (Some(2), 1), "{args:?}: {stderr:#?}");
        assert!(stderr[0].starts_with("throng: "), "{stderr:?}");
    }
}

#[test]
fn one_interrupt_closes_and_a_second_ends_at_once() {
    let server = Scripted::new();
    let mut polite = client(&server.url(), &[]);
    let mut peer = server.accept();
    polite.next("connected");
    polite.process.signal(libc::SIGINT);
    assert_eq!(peer.closed(true), 1000);
    let (sums, code) = polite.ended();
    assert_eq!((code, &sums["complete"]), (0, &json!(true)));

    let mut stuck = client(&server.url(), &["--close-timeout", "1h"]);
    let mut peer = server.accept();
    stuck.next("connected");
    stuck.process.signal(libc::SIGINT);
    assert_eq!(peer.closed(false), 1000);
    // One that follows within a moment may be taken for the same.
    let start = Instant::now();
    while !stuck.process.ends_within(Duration::from_millis(50)) {
        assert!(start.elapsed() < DEADLINE, "it does not end");
        stuck.process.signal(libc::SIGINT);
    }
    assert_eq!(stuck.process.wait().code(), Some(130));
}

/// One connection of a server with a certificate, answered and echoed on.
fn tls_echo(server: &Scripted, authority: &Authority) -> Result<String, String> {
    let certificates = CertificateDer::pem_file_iter(authority.certificate()).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.key()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.map(Result::unwrap).collect(), key)
        .unwrap();
    let connection = ServerConnection::new(Arc::new(config)).unwrap();
    let stream = StreamOwned::new(connection, server.connection());
    let mut socket = tungstenite::accept(stream).map_err(|error| error.to_string())?;
    let message = socket.read().map_err(|error| error.to_string())?;
    socket.send(message.clone()).map_err(|error| error.to_string())?;
    while socket.read().is_ok() {}
    Ok(message.into_text().unwrap().to_string())
}

#[test]
fn tls_is_spoken_with_those_who_are_trusted() {
    let authority = Authority::new();
    let ca_file = authority.ca_file();
    let server = Scripted::new();
    let url = format!("wss://localhost:{}/ws", server.address().port());
    let args = ["--ca-file", ca_file.to_str().unwrap(), "--messages", "1", "--interval", "1ms"];
    let trusting = client(&url, &args);
    let message = tls_echo(&server, &authority).unwrap();
    assert!(message.contains("client_business"), "{message}");
    let (sums, code) = trusting.ended();
    assert_eq!((code, &sums["confirmed"]), (0, &json!(1)), "{sums:#}");

    let mut wary = client(&url, &[]);
    tls_echo(&server, &authority).unwrap_err();
    let refused = wary.next("refused");
    assert!(refused["why"].as_str().unwrap().contains("TLS"), "{refused}");
    assert_eq!(wary.ended().1, 3);
}

#[test]
fn health_is_an_exit_status() {
    let check = |launch: Launch, code: i32, says: &str| {
        let mut process = launch.spawn();
        let line = process.stdout_line().or_else(|| process.rest_of_stderr().pop()).unwrap_or_default();
        assert!(line.contains(says), "{line}");
        assert_eq!(process.wait().code(), Some(code), "{line}");
    };
    let node = Node::start(&["--lame-duck", "1h"]);
    let url = |path: &str| format!("http://{}{path}", node.http);
    check(Launch::bare(&["health", &url("/readyz")]), 0, "answered 200");
    check(Launch::bare(&["health", "--quiet", &url("/health")]), 0, "");
    check(
        Launch::bare(&["health"]).variable("PORT", &node.http.port().to_string()),
        0,
        "/health answered 200",
    );
    check(Launch::bare(&["health", &url("/nowhere")]), 1, "answered 404");
    node.process.signal(libc::SIGTERM);
    eventually("it is not ready any more", || node.get("/readyz").status == 503);
    check(Launch::bare(&["health", &url("/readyz")]), 1, "answered 503");
    let silent = Scripted::new();
    let url = format!("http://{}/", silent.address());
    check(Launch::bare(&["health", "--timeout", "100ms", &url]), 1, "no answer in time");
    drop(silent);
    check(Launch::bare(&["health", &url]), 1, "refused");
}

/// Waits for the end of a child, which must come by itself.
pub(super) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// What a child that was given `input` on a pipe writes, and its exit status.
pub(super) fn piped(mut child: Child, input: &[u8]) -> (String, String, Option<i32>) {
    child.stdin.take().unwrap().write_all(input).unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let status = wait(&mut child);
    out.read_to_string(&mut stdout).unwrap();
    err.read_to_string(&mut stderr).unwrap();
    (stdout, stderr, status.code())
}
