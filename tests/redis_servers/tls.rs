//! A private certificate authority and a server's certificate for 127.0.0.1.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::Folder;

/// What openssl made; the files are there as long as a clone of it is.
#[derive(Clone)]
pub(crate) struct Authority {
    folder: Arc<Folder>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let folder = Folder::new();
        openssl(folder.path(), "ca.key", "ca.pem", "/CN=throng test authority", &[]);
        let server =
            ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
        openssl(
            folder.path(),
            "server.key",
            "server.pem",
            "/CN=throng test server",
            &[&server[..], &leaf].concat(),
        );
        Authority { folder: Arc::new(folder) }
    }

    /// The authority's certificate, which a client is to trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The server's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// The server's key.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }
}

/// Makes a key and a certificate for it.
fn openssl(folder: &Path, key: &str, certificate: &str, name: &str, more: &[&str]) {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
    command.args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    command.args(["-keyout", key, "-out", certificate, "-subj", name]).args(more);
    let output = command.output().unwrap_or_else(|error| panic!("this test needs openssl: {error}"));
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
