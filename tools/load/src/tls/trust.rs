//! With what the load generator speaks TLS.

use super::tickets::Tickets;
use crate::belief::{anyone, roots};
use crate::cli::{Common, TlsVersion};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use std::sync::Arc;

/// What all connections of a run are made with: HTTP/1.1, and tickets only if they are to be used.
pub(crate) fn config(common: &Common) -> Result<Arc<ClientConfig>, String> {
    let versions: &[&SupportedProtocolVersion] = match common.tls_version {
        None => &[&TLS13, &TLS12],
        Some(TlsVersion::V12) => &[&TLS12],
        Some(TlsVersion::V13) => &[&TLS13],
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match &common.ca {
        Some(path) => builder.with_root_certificates(roots(path)?),
        None if common.insecure => builder.dangerous().with_custom_certificate_verifier(anyone(provider)),
        None => return Err("wss:// needs --ca FILE or --insecure".into()),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = match common.resume {
        true => Resumption::store(Arc::new(Tickets::default())),
        false => Resumption::disabled(),
    };
    Ok(Arc::new(config))
}
