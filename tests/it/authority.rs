//! Certificates that a test signs, and clients that trust them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Both versions that are spoken.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Signs certificates; its files are removed with it.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Certified {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("authority-{}-{number}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
        fs::create_dir_all(&folder).unwrap();
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    /// The file of its own certificate, which those who trust it need.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A file among its own, whatever is in it.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Signs a server's certificate for the loopback.
    pub(crate) fn server(&self, file: &str) -> Certified {
        self.server_named(file, &["localhost", "127.0.0.1"])
    }

    /// Signs a server's certificate for these names and addresses.
    pub(crate) fn server_named(&self, file: &str, names: &[&str]) -> Certified {
        let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
        self.sign(file, CertificateParams::new(names).unwrap(), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Signs a client's certificate.
    pub(crate) fn client(&self, name: &str) -> Certified {
        self.sign(name, CertificateParams::default(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Signs a client's certificate that is valid for so long.
    pub(crate) fn client_for(&self, name: &str, span: Duration) -> Certified {
        let mut params = CertificateParams::default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        params.not_after = date_time_ymd(1970, 1, 1) + now + span;
        self.sign(name, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, file: &str, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Certified {
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certified {
            certificate: self.file(&format!("{file}.pem"), &certificate.pem()),
            key: self.file(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    /// Clients that trust it and show no certificate of their own.
    pub(crate) fn trusting(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.builder(versions).with_no_client_auth()
    }

    /// Clients that trust it and show this certificate.
    pub(crate) fn trusting_as(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        who: &Certified,
    ) -> ClientConfig {
        let key = PrivateKeyDer::from_pem_file(&who.key).unwrap();
        self.builder(versions).with_client_auth_cert(who.chain(), key).unwrap()
    }

    fn builder(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // What is left in the build directory harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Certified {
    /// What is in the file of its certificate.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(&self.certificate).unwrap().map(Result::unwrap).collect()
    }

    /// Flags that have a node or a balancer show it.
    pub(crate) fn flags(&self) -> [&str; 4] {
        ["--tls-cert", text(&self.certificate), "--tls-key", text(&self.key)]
    }

    /// Puts another one in its place.
    pub(crate) fn replace_with(&self, other: &Certified) {
        fs::copy(&other.certificate, &self.certificate).unwrap();
        fs::copy(&other.key, &self.key).unwrap();
    }
}

/// A path of this crate's own making as a flag's value.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
