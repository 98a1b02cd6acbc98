//! Certificates and keys in files: at the start, and when they are read again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;

use super::Secure;
use crate::authority::{Authority, Certified, VERSIONS, text};
use crate::node::Launch;
use crate::web::Web;

/// What a new client is shown; one that has never been here.
fn shown(secure: &Secure) -> Vec<CertificateDer<'static>> {
    let config = Arc::new(secure.authority.trusting(&VERSIONS));
    secure.web_at(secure.node.http, &config).tls.unwrap().peer_certificates().unwrap().to_vec()
}

/// The node reads its files again; the line in which it says what came of it.
fn reloaded(secure: &Secure, says: &str) -> String {
    secure.node.process.signal(libc::SIGHUP);
    secure.node.process.log_line(says)
}

#[test]
fn a_new_certificate_is_shown_to_new_clients() {
    let secure = Secure::start(&["--reactors", "4"]);
    let mut old = secure.user("old");
    let first = secure.shown.chain();
    assert_eq!(shown(&secure), first);
    let second = secure.authority.server("second");
    secure.shown.replace_with(&second);
    assert_eq!(shown(&secure), first, "nobody has said that it should be read");
    let line = reloaded(&secure, "read again");
    assert!(line.contains(text(&secure.shown.certificate)), "{line}");
    // Every reactor shows it; each client comes to one of them.
    crate::node::eventually("the new one is shown", || shown(&secure) == second.chain());
    for _ in 0..20 {
        assert_eq!(shown(&secure), second.chain());
    }
    old.assert_alive();
    // Who was here before need not look at it.
    let mut web = secure.web_at(secure.node.http, &secure.config);
    assert_eq!(web.tls.as_deref().unwrap().handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(web.request("GET", "/livez", "", "").status, 200);
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let secure = Secure::start(&["--reactors", "2"]);
    let mut old = secure.user("old");
    let kept = secure.shown.chain();
    let good = fs::read_to_string(&secure.shown.certificate).unwrap();
    let other = secure.authority.server("other");
    let other_key = fs::read_to_string(&other.key).unwrap();
    let key = fs::read_to_string(&secure.shown.key).unwrap();
    let check = |certificate: Option<&str>, key: Option<&str>, mentions: &str| {
        for (path, content) in [(&secure.shown.certificate, certificate), (&secure.shown.key, key)] {
            match content {
                Some(content) => fs::write(path, content).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
        let line = reloaded(&secure, "the certificate in force stays");
        assert!(line.contains(mentions) && line.contains("ERROR"), "{line}");
        // Nothing of a file that may be a key is to be seen.
        assert!(!line.contains("BEGIN") || line.contains("-----BEGIN CERTIFICATE-----"), "{line}");
        assert_eq!(shown(&secure), kept);
    };
    let (certificate, key_file) = (text(&secure.shown.certificate), text(&secure.shown.key));
    check(Some("no certificate"), Some(&key), certificate);
    check(Some(""), Some(&key), certificate);
    check(None, Some(&key), certificate);
    check(Some(&good[..good.len() / 2]), Some(&key), certificate);
    check(Some(&good), Some("no key"), key_file);
    check(Some(&good), Some(&other_key), key_file);
    old.assert_alive();
    fs::write(&secure.shown.key, &key).unwrap();
    reloaded(&secure, "read again");
    assert_eq!(shown(&secure), kept);
    old.assert_alive();
}

#[test]
fn new_authorities_of_clients_count_from_the_next_connection() {
    let (authority, first, second) = (Authority::new(), Authority::new(), Authority::new());
    let (one, two) = (first.client("one"), second.client("two"));
    let ca = authority.file("clients.pem", &fs::read_to_string(first.ca()).unwrap());
    let certificate = authority.server("server");
    let node = Launch::serve(&[&certificate.flags()[..], &["--tls-client-ca", text(&ca)]].concat()).start();
    let as_one = Arc::new(authority.trusting_as(&VERSIONS, &one));
    let as_two = Arc::new(authority.trusting_as(&VERSIONS, &two));
    let is_served = |config: &Arc<rustls::ClientConfig>| {
        let Ok(mut web) = Web::connect(node.http).secure(config) else { return false };
        let _ = web.try_send(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n");
        web.try_read_more().is_ok_and(|has_more| has_more)
    };
    assert_eq!((is_served(&as_one), is_served(&as_two)), (true, false));
    fs::copy(second.ca(), &ca).unwrap();
    node.process.signal(libc::SIGHUP);
    node.process.log_line("read again");
    // Not even with a ticket of an earlier connection.
    crate::node::eventually("the new one counts", || {
        (is_served(&as_one), is_served(&as_two)) == (false, true)
    });
}

/// Exit status and stderr of a node that does not start.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let mut process = Launch::serve(args).spawn();
    assert_eq!(process.stdout_line(), None, "it says nothing on stdout");
    let lines = process.rest_of_stderr();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    (process.wait().code(), lines.into_iter().next().unwrap())
}

#[test]
fn a_node_does_not_start_with_files_that_cannot_be_used() {
    let authority = Authority::new();
    let good = authority.server("server");
    let other = authority.server("other");
    let empty = authority.file("empty.pem", "");
    let nonsense =
        authority.file("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let large = authority.file("large.pem", &"x".repeat((1 << 20) + 1));
    let locked = authority.file(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let check = |certificate: &str, key: &str, more: &[&str], mentions: &[&str]| {
        let (code, line) = refused(&[&["--tls-cert", certificate, "--tls-key", key], more].concat());
        assert_eq!(code, Some(1), "{line}");
        assert!(mentions.iter().all(|text| line.contains(text)), "{mentions:?} in {line}");
        assert!(!line.contains("c2VjcmV0"), "{line}");
    };
    let (certificate, key) = (text(&good.certificate), text(&good.key));
    check("/nowhere/cert.pem", key, &[], &["/nowhere/cert.pem", "No such file"]);
    check(certificate, "/nowhere/key.pem", &[], &["/nowhere/key.pem", "No such file"]);
    check(text(&empty), key, &[], &["empty.pem"]);
    check(text(&nonsense), key, &[], &["nonsense.pem"]);
    check(text(&large), key, &[], &["large.pem"]);
    check(key, certificate, &[], &["server.key"]);
    check(certificate, text(&empty), &[], &["empty.pem"]);
    check(certificate, text(&locked), &[], &["locked.key", "encrypted"]);
    check(certificate, text(&other.key), &[], &["server.pem", "other.key"]);
    check(certificate, key, &["--tls-client-ca", "/nowhere/ca.pem"], &["/nowhere/ca.pem"]);
    check(certificate, key, &["--tls-client-ca", text(&empty)], &["empty.pem"]);
    check(certificate, key, &["--tls-client-ca", text(&nonsense)], &["nonsense.pem"]);
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let authority = Authority::new();
    let Certified { certificate, key } = authority.server("server");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&key).is_ok() {
        // Whoever may do everything is not kept from it: a directory can be read by nobody.
        fs::remove_file(&key).unwrap();
        fs::create_dir(&key).unwrap();
    }
    let (code, line) = refused(&["--tls-cert", text(&certificate), "--tls-key", text(&key)]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(text(&key)) && line.contains("cannot be read"), "{line}");
}

#[test]
fn keys_that_need_others_are_a_mistake() {
    let authority = Authority::new();
    let good = authority.server("server");
    let check = |args: &[&str], mentions: &str| {
        let (code, line) = refused(args);
        assert_eq!(code, Some(2), "{line}");
        assert!(line.contains(mentions), "{line}");
    };
    check(&["--tls-cert", text(&good.certificate)], "tls_key");
    check(&["--tls-key", text(&good.key)], "tls_cert");
    check(&["--tls-client-ca", text(&good.certificate)], "tls_cert");
    check(&["--tls-client-auth", "sometimes"], "tls");
    check(&[&good.flags()[..], &["--tls-listener", "ws", "--ws-port", "off"]].concat(), "tls-listener");
}
