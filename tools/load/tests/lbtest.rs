//! `throng-lbtest` as a process, against a host that this test acts: TLS or not, with a token or without.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// What the key that lbtest sends must be answered with (RFC 6455, section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A folder of this test's, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("throng-lbtest-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate for localhost that is its own authority, in PEM, and what a server speaks TLS with that has it.
fn certified() -> (String, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    (made.cert.pem(), Arc::new(config))
}

/// Two nodes in turn behind one port, who are shown the token that their number, from 1, belongs to, if there is one.
/// The port; it is served until the test's process ends.
fn host(tls: Option<Arc<ServerConfig>>, token_of: fn(u32) -> Option<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (tls, count) = (tls.clone(), count.clone());
            // A client that does not like us ends.
            thread::spawn(move || match tls {
                None => serve(stream.unwrap(), &count, token_of),
                Some(tls) => {
                    let connection = ServerConnection::new(tls).unwrap();
                    serve(StreamOwned::new(connection, stream.unwrap()), &count, token_of)
                }
            });
        }
    });
    port
}

/// Answers one request and waits for the client to end.
fn serve(
    mut stream: impl Read + Write,
    count: &AtomicU32,
    token_of: fn(u32) -> Option<String>,
) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&buffer[..read]);
        if request[0] != b'G' {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").ok()?;
            return None;
        }
    }
    let request = String::from_utf8(request).unwrap();
    let shown = request.lines().find_map(|line| line.strip_prefix("Authorization: Bearer "));
    let answer = if request.starts_with("GET /health ") {
        assert_eq!(shown, None, "the token is nobody's business here");
        b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"status\":\"health\"}"[..].to_vec()
    } else {
        let target = request.split(' ').nth(1)?;
        let number: u32 = target.rsplit('=').next()?.parse().unwrap();
        match token_of(number) {
            expected if expected.as_deref() == shown => welcome(count.fetch_add(1, Ordering::Relaxed) % 2),
            _ => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec(),
        }
    };
    stream.write_all(&answer).ok()?;
    stream.flush().ok()?;
    while stream.read(&mut [0; 256]).ok()? > 0 {}
    Some(())
}

/// The answer to a handshake and the first message of a node.
fn welcome(node: u32) -> Vec<u8> {
    let text = format!(r#"{{"service_identity":{{"instance_id":"n{node}","display_name":"node-{node}"}}}}"#);
    let head = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
    [head.as_bytes(), &[0x81, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn run(port: u16, words: &[&str], token: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng-lbtest"));
    command.args(["--host", "localhost", "--http-port", &port.to_string(), "--ws-port", "off"]);
    command.args(["--path", "/ws?user_id=%n", "--connections", "4", "--concurrency", "2"]);
    if !words.contains(&"--timeout") {
        // However slow this machine is at present.
        command.args(["--timeout", "60"]);
    }
    command.args(words).env_remove("THRONG_TOKEN").envs(token.map(|token| ("THRONG_TOKEN", token)));
    command.output().unwrap()
}

/// It ends with this status and says so, on stdout or stderr.
#[track_caller]
fn check(port: u16, words: &[&str], token: Option<&str>, status: i32, says: &str) {
    let done = run(port, words, token);
    let said = [&done.stdout[..], &done.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(done.status.code() == Some(status) && said.contains(says), "{:?}: {said}", done.status.code());
}

#[test]
fn tls_is_spoken_with_whom_it_trusts() {
    let folder = Folder::new();
    let (certificate, config) = certified();
    let (other, _) = certified();
    let (ca, wrong) = (folder.file("ca.pem", &certificate), folder.file("wrong.pem", &other));
    let port = host(Some(config), |_| None);
    check(port, &["--tls", "--ca-file", &ca], None, 0, "wss://localhost:");
    check(port, &["--tls", "--insecure"], None, 0, "https://localhost:");
    check(port, &["--tls", "--ca-file", &wrong], None, 3, "TLS: invalid peer certificate");
    let report = run(port, &["--tls", "--ca-file", &ca, "--json"], None);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((&report["tls"], &report["spread"]), (&Value::Bool(true), &Value::Bool(true)), "{report}");
    // One side does, the other does not.
    check(port, &[], None, 3, "/health");
    check(host(None, |_| None), &["--tls", "--insecure"], None, 3, "TLS: ");
    // What cannot be used is the command line's fault, whatever the host.
    for file in ["/nowhere/ca.pem", &folder.file("empty.pem", "")] {
        check(port, &["--tls", "--ca-file", file], None, 2, file);
    }
    check(port, &["--ca-file", &ca], None, 2, "--tls");
}

/// Words in braces mean something to who lays out the help.
#[test]
fn the_help_says_what_stands_for_the_number() {
    let done = Command::new(env!("CARGO_BIN_EXE_throng-lbtest")).arg("--help").output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert_eq!(said.split("%n stands").count(), 3, "{said}");
}

#[test]
fn tokens_are_shown_and_never_said() {
    let folder = Folder::new();
    let port = host(None, |_| Some("a.b.c".to_owned()));
    let file = folder.file("token", "a.b.c\n");
    check(port, &["--token-file", &file], None, 0, "2 instances");
    check(port, &[], Some("a.b.c"), 0, "2 instances");
    check(port, &["--token-file", &file], Some("x.y.z"), 0, "2 instances");
    check(port, &[], None, 3, "401 Unauthorized");
    for (words, token) in [(&["--token-file", &file][..], None), (&[], Some("a.b.c")), (&[], Some("a.b.d"))] {
        let done = run(port, words, token);
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(!said.contains("a.b."), "{said}");
    }
    check(port, &["--token-file", "/nowhere/token"], None, 2, "--token-file: the token file /nowhere/token");
    check(port, &[], Some("two words"), 2, "THRONG_TOKEN: the token is not one");
}

#[test]
fn each_connection_may_have_a_token_of_its_own() {
    let folder = Folder::new();
    let port = host(None, |number| Some(format!("token-of-{number}")));
    for number in 1..=4 {
        folder.file(&format!("token-{number}"), &format!("token-of-{number}"));
    }
    let files = folder.0.join("token-%n").to_str().unwrap().to_owned();
    check(port, &["--token-file", &files], None, 0, "2 instances");
    fs::remove_file(folder.0.join("token-3")).unwrap();
    check(port, &["--token-file", &files], None, 1, "token-3 cannot be read");
}

#[test]
fn a_host_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = thread::spawn(move || -> Option<TcpStream> { Some(listener.accept().ok()?.0) });
    check(port, &["--tls", "--insecure", "--timeout", "1"], None, 3, "nothing came in time");
    drop(silent.join().unwrap());
}
