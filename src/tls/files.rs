//! What the files of an operator come to: who we are to clients, and whom we
//! trust.
//!
//! Owns: [`Identity`] and [`Trust`]. Files are read when a process starts and
//! when it reloads, never by a reactor. Errors name the file and never what is in it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::validity;
use crate::config::words;
use crate::limits::TLS_FILE_BYTES;
use crate::small_file;

/// The protocol agreed on inside TLS (RFC 7301): both HTTP and WebSocket begin with it.
const ALPN: &[u8] = b"http/1.1";

/// What is left of a certificate's time when the log begins to warn.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Whether a client must show a certificate, where authorities for them are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// One that shows none, or one of another authority, is refused.
    Required,
    /// One that shows none is taken; one of another authority is refused.
    Optional,
}

words!(ClientAuth { Required = "required", Optional = "optional" });

/// Who a server is, and which clients it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM: its certificate first, then those that lead to the authority.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: the authorities of clients' certificates; `None`: none is asked for.
    pub client_ca: Option<PathBuf>,
    /// What that means for a client without one.
    pub client_auth: ClientAuth,
}

impl Identity {
    /// From the keys of a configuration, which say both or neither of certificate and key.
    pub fn from_keys(
        certificate: &Option<PathBuf>,
        key: &Option<PathBuf>,
        client_ca: &Option<PathBuf>,
        client_auth: ClientAuth,
    ) -> Option<Identity> {
        let (certificate, key) = (certificate.clone()?, key.clone()?);
        Some(Identity { certificate, key, client_ca: client_ca.clone(), client_auth })
    }

    /// Reads the files; until when the certificate is valid is returned as well.
    /// With `before`, what was in force until now, clients that connected then
    /// can resume. Where certificates of clients are asked for nobody can: who
    /// resumes shows none, and the one shown before may have expired since, or
    /// be of an authority that is trusted no more.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong with it.
    fn load(&self, before: Option<&ServerConfig>) -> Result<(Arc<ServerConfig>, Option<SystemTime>), String> {
        let certificates = certificates(&self.certificate)?;
        let expires_at = certificates.first().and_then(|first| validity::expires_at(first));
        let key = key(&self.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(file)?), provider());
                let verifier = match self.client_auth {
                    ClientAuth::Required => verifier,
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(file, error))?)
            }
        };
        let mut config = builder.with_single_cert(certificates, key).map_err(|error| {
            format!(
                "{} and {} cannot be used together: {error}",
                self.certificate.display(),
                self.key.display()
            )
        })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if self.client_ca.is_none() {
            config.send_tls13_tickets = 1;
            config.ticketer = ticketer(before)?;
        }
        Ok((Arc::new(config), expires_at))
    }
}

fn ticketer(before: Option<&ServerConfig>) -> Result<Arc<dyn ProducesTickets>, String> {
    match before {
        Some(before) => Ok(before.ticketer.clone()),
        None => ring::Ticketer::new().map_err(|error| format!("no key for tickets: {error}")),
    }
}

/// An identity and what its files held when they could last be used.
pub struct Certificate {
    identity: Identity,
    config: Arc<ServerConfig>,
    expires_at: Option<SystemTime>,
}

impl Certificate {
    /// Reads the files of an identity, if there is one.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong with it.
    pub fn load(identity: Option<Identity>) -> Result<Option<Certificate>, String> {
        let load = |identity: Identity| {
            let (config, expires_at) = identity.load(None)?;
            let certificate = Certificate { identity, config, expires_at };
            certificate.log_expiry();
            Ok(certificate)
        };
        identity.map(load).transpose()
    }

    /// Until when it is valid, in milliseconds since the Unix epoch; 0 if that cannot be read.
    pub fn expiry_millis(&self) -> u64 {
        let since = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
        self.expires_at.and_then(since).map_or(0, |since| since.as_millis() as u64)
    }

    fn log_expiry(&self) {
        let file = self.identity.certificate.display();
        let Some(at) = self.expires_at else {
            return log::warn!("TLS: {file} does not say until when it is valid");
        };
        let until = humantime::format_rfc3339_seconds(at);
        match at.duration_since(SystemTime::now()) {
            Err(_) => log::error!("TLS: {file} has expired at {until}: clients will refuse it"),
            Ok(left) if left < EXPIRES_SOON => log::warn!("TLS: {file} is valid until {until} only"),
            Ok(_) => log::info!("TLS: {file} is valid until {until}"),
        }
    }

    /// What was read last.
    pub fn in_force(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Reads the files again. If they cannot be used the log says so, and what was in force stays.
    pub fn reload(&mut self) -> Option<Arc<ServerConfig>> {
        match self.identity.load(Some(&self.config)) {
            Ok((config, expires_at)) => {
                log::info!("TLS: {} read again, for new connections", self.identity.certificate.display());
                (self.config, self.expires_at) = (config.clone(), expires_at);
                self.log_expiry();
                Some(config)
            }
            Err(why) => {
                log::error!("TLS: the certificate in force stays: {why}");
                None
            }
        }
    }
}

/// Whom a client trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whom the machine trusts.
    Machine,
    /// The authorities in a PEM file, and nobody else.
    Only(PathBuf),
}

impl Trust {
    /// Reads the file, or the machine's.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong with it.
    pub fn load(&self) -> Result<Arc<ClientConfig>, String> {
        let roots = match self {
            Trust::Machine => machine_roots()?,
            Trust::Only(file) => roots(file)?,
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn wrong(file: &Path, what: impl fmt::Display) -> String {
    format!("{}: {what}", file.display())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    small_file::read(file, TLS_FILE_BYTES)
        .map_err(|error| wrong(file, format_args!("cannot be read: {error}")))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wrong(file, "holds no certificates in PEM (-----BEGIN CERTIFICATE-----)")),
    }
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| {
        wrong(file, "holds no private key in PEM, of PKCS #8, PKCS #1 or SEC 1, that is not encrypted")
    })
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| wrong(file, error))?;
    }
    Ok(roots)
}

fn machine_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match added {
        0 => {
            Err("this machine trusts no authorities (Debian: apt install ca-certificates); name one"
                .to_owned())
        }
        _ => Ok(roots),
    }
}
