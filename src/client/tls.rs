//! Whom a client trusts on `wss://`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

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
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => add_file(&mut roots, path)?,
        None => {
            // What cannot be read is not trusted; the handshake will say so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?}: {error}")))?;
    Ok(Tls { config: Arc::new(config), server })
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> io::Result<()> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {why}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(bad("no certificate in it".to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let nowhere = load("localhost", Some(Path::new("/nowhere/ca.pem"))).err().unwrap().to_string();
        assert!(nowhere.contains("/nowhere/ca.pem"), "{nowhere}");
        let empty = load("localhost", Some(Path::new("/dev/null"))).err().unwrap().to_string();
        assert!(empty.contains("no certificate"), "{empty}");
    }
}
