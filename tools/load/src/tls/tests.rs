use super::*;
use crate::cli::{Cli, Common};
use clap::Parser;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate for localhost that trusts itself, and its key, made by openssl in a folder of this test.
struct Identity(PathBuf);

impl Identity {
    fn new(name: &str) -> Identity {
        let folder = std::env::temp_dir().join(format!("throng-load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("openssl");
        command.current_dir(&folder).args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
        command.args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=throng-load test"]);
        command.args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
        command.args(["-keyout", "key.pem", "-out", "certificate.pem"]);
        let made = command.output().unwrap_or_else(|error| panic!("this test needs openssl: {error}"));
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        Identity(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn server(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(self.path("certificate.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(builder.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // What is left in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn common(flags: &[&str]) -> Common {
    let words = ["throng-load", "echo", "--url", "wss://localhost:1"];
    let cli = Cli::parse_from(words.iter().chain(flags));
    match cli.mode {
        crate::cli::Mode::Echo(args) => args.common,
        _ => unreachable!(),
    }
}

/// A session and a server that has its other end, whose bytes arrive `chunk` at a time.
struct Pair {
    session: Session,
    server: ServerConnection,
    chunk: usize,
    is_closed: bool,
    received: Vec<u8>,
}

impl Pair {
    fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, chunk: usize) -> Pair {
        let name = ServerName::try_from("localhost").unwrap();
        Pair {
            session: Session::new(client, &name).unwrap(),
            server: ServerConnection::new(server.clone()).unwrap(),
            chunk,
            is_closed: false,
            received: Vec::new(),
        }
    }

    /// Carries bytes both ways until neither side has more.
    fn settle(&mut self) -> Result<(), String> {
        let mut out = Vec::new();
        self.session.open(&mut [], &mut self.received, &mut out)?;
        loop {
            self.give(&out);
            let mut back = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut back).unwrap();
            }
            if back.is_empty() {
                return Ok(());
            }
            out.clear();
            for part in back.chunks(self.chunk) {
                let mut sealed = [self.session.held(), part].concat();
                self.is_closed |= self.session.open(&mut sealed, &mut self.received, &mut out)?;
            }
        }
    }

    fn give(&mut self, mut sealed: &[u8]) {
        while !sealed.is_empty() {
            self.server.read_tls(&mut sealed).unwrap();
            // A refusal shows at the other side.
            let _ = self.server.process_new_packets();
        }
    }

    /// Sends to the server and back.
    fn echo(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.session.seal(bytes, &mut sealed).unwrap();
        for part in sealed.chunks(4096) {
            self.give(part);
            let mut plain = [0; 8192];
            while let Ok(count @ 1..) = self.server.reader().read(&mut plain) {
                self.server.writer().write_all(&plain[..count]).unwrap();
            }
            self.settle().unwrap();
        }
        std::mem::take(&mut self.received)
    }
}

#[test]
fn bytes_arrive_however_the_stream_is_cut() {
    let identity = Identity::new("cuts");
    let server = identity.server();
    let ca = identity.path("certificate.pem");
    let large: Vec<u8> = (0..100_000u32).map(|index| (index % 251) as u8).collect();
    for version in ["1.2", "1.3"] {
        let client = config(&common(&["--ca", ca.to_str().unwrap(), "--tls-version", version])).unwrap();
        for chunk in [1, 2, 3, 5, 7, 100, 1 << 20] {
            let mut pair = Pair::new(&client, &server, chunk);
            pair.settle().unwrap();
            assert!(pair.session.is_secure() && !pair.session.is_resumed(), "{version}, {chunk}");
            assert_eq!(pair.server.alpn_protocol(), None);
            assert_eq!(pair.echo(b"x"), b"x", "{version}, {chunk}");
            assert!(pair.echo(&large) == large, "{version}, {chunk}");
            assert!(!pair.is_closed && pair.session.held.capacity() == 0, "{version}, {chunk}");
            pair.server.send_close_notify();
            pair.settle().unwrap();
            assert!(pair.is_closed, "{version}, {chunk}");
        }
    }
}

#[test]
fn sessions_are_resumed_only_if_that_is_asked_for() {
    let identity = Identity::new("tickets");
    let server = identity.server();
    for (version, flags, is_resumed) in [
        ("1.3", &["--insecure", "--resume"][..], true),
        ("1.2", &["--insecure", "--resume"], true),
        ("1.3", &["--insecure"], false),
        ("1.2", &["--insecure"], false),
    ] {
        let client = config(&common(&[flags, &["--tls-version", version]].concat())).unwrap();
        for expected in [false, is_resumed, is_resumed] {
            let mut pair = Pair::new(&client, &server, 1 << 20);
            pair.settle().unwrap();
            assert_eq!(pair.session.is_resumed(), expected, "{version} {flags:?}");
        }
    }
}

#[test]
fn a_stranger_is_trusted_only_if_that_is_asked_for() {
    let (known, stranger) = (Identity::new("known"), Identity::new("stranger"));
    let ca = known.path("certificate.pem");
    let client = config(&common(&["--ca", ca.to_str().unwrap()])).unwrap();
    let refused = Pair::new(&client, &stranger.server(), 1 << 20).settle().unwrap_err();
    assert!(refused.starts_with("TLS: "), "{refused}");
    let anyone = config(&common(&["--insecure"])).unwrap();
    Pair::new(&anyone, &stranger.server(), 1 << 20).settle().unwrap();
}

#[test]
fn whom_to_trust_must_be_said() {
    let check = |flags: &[&str], mentions: &str| {
        let error = config(&common(flags)).err().unwrap();
        assert!(error.contains(mentions), "{error}");
    };
    check(&[], "--ca");
    check(&["--ca", "/nowhere/ca.pem"], "/nowhere/ca.pem");
    check(&["--ca", "/dev/null"], "no certificate");
    assert!(Path::new("/dev/null").exists());
}
