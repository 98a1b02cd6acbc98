//! Whom a client trusts on `wss://`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::tls::Trust;

/// What a TLS connection is made with.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server: ServerName<'static>,
}

/// Reads the certificates to trust: those in `ca_file`, else the machine's.
///
/// # Errors
/// The file cannot be read or holds none, or `host` is no name for a server.
pub(super) fn load(host: &str, ca_file: Option<&Path>) -> io::Result<Tls> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let trust = ca_file.map_or(Trust::Machine, |file| Trust::Only(file.to_owned()));
    let server =
        ServerName::try_from(host.to_owned()).map_err(|error| wrong(format!("{host:?}: {error}")))?;
    Ok(Tls { config: trust.load().map_err(wrong)?, server })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let nowhere = load("localhost", Some(Path::new("/nowhere/ca.pem"))).err().unwrap().to_string();
        assert!(nowhere.contains("/nowhere/ca.pem"), "{nowhere}");
        let none = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let empty = load("localhost", Some(Path::new(none))).err().unwrap().to_string();
        assert!(empty.contains("no certificates"), "{empty}");
    }
}
