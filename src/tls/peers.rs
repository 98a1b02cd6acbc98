//! The servers that this process connects to by TLS.
//!
//! Owns: [`Peers`], whom they have to prove to be. Never: a connection.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::files::Trust;

/// Servers that must show a certificate of a trusted authority, with their
/// name in it. Cheap to clone; any thread may use it.
#[derive(Clone, Debug)]
pub struct Peers {
    config: Arc<ClientConfig>,
    /// The name of all of them; `None`: each one's own.
    name: Option<ServerName<'static>>,
}

/// Two are the same if they came of the same reading of the files.
impl PartialEq for Peers {
    fn eq(&self, other: &Peers) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for Peers {}

impl Peers {
    /// Reads whom to trust. `name`, if given, is what all certificates have to say.
    ///
    /// # Errors
    /// As [`Trust::load`]; a name that none can have.
    pub fn load(trust: &Trust, name: Option<&str>) -> Result<Peers, String> {
        let named = |name: &str| {
            ServerName::try_from(name.to_owned())
                .map_err(|_| format!("{name:?} is not a host name or address"))
        };
        Ok(Peers { config: trust.load()?, name: name.map(named).transpose()? })
    }

    /// What a connection to `HOST:PORT` (an IPv6 address in brackets) is made
    /// with; `None` when no certificate can have that name.
    pub fn of(&self, server: &str) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                ServerName::try_from(host.to_owned()).ok()?
            }
        };
        Some((self.config.clone(), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(name: Option<&str>) -> Peers {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.map(|name| ServerName::try_from(name.to_owned()).unwrap());
        Peers { config: Arc::new(config), name }
    }

    #[test]
    fn a_server_is_held_to_its_host_unless_all_have_one_name() {
        let check = |peers: &Peers, server: &str, expected: Option<&str>| {
            let name = peers.of(server).map(|(_, name)| name.to_str().into_owned());
            assert_eq!(name.as_deref(), expected, "{server}");
        };
        let each = peers(None);
        check(&each, "node-1.example:8080", Some("node-1.example"));
        check(&each, "10.0.0.1:8080", Some("10.0.0.1"));
        check(&each, "[2001:db8::1]:8080", Some("2001:db8::1"));
        check(&each, "no_de!:1", None);
        check(&peers(Some("nodes.example")), "10.0.0.1:8080", Some("nodes.example"));
    }

    #[test]
    fn the_same_reading_is_the_same() {
        let one = peers(None);
        assert!(one == one.clone() && one != peers(None));
    }
}
