//! Where to connect to and from which address. Never connects.

use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Connections made from one source address before the next one is taken; far below the ports an address has.
const CONNECTIONS_PER_SOURCE: usize = 4000;
const FIRST_PORT: u16 = 16_384;

/// A server, resolved once.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Address connected to.
    pub(crate) address: SocketAddr,
    /// Value of the Host header.
    pub(crate) host: String,
    /// Whom its certificate must name, if TLS is spoken with it.
    pub(crate) tls: Option<ServerName<'static>>,
}

impl Target {
    /// Reads `ws://HOST:PORT` or `wss://HOST:PORT`; an IPv4 address is preferred where a name has both.
    pub(crate) fn parse(url: &str) -> Result<Target, String> {
        let (is_tls, host) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
            (Some(host), _) => (false, host),
            (_, Some(host)) => (true, host),
            _ => return Err(format!("{url}: expected ws://HOST:PORT or wss://HOST:PORT")),
        };
        let host = host.strip_suffix('/').unwrap_or(host);
        if host.contains('/') {
            return Err(format!("{url}: give the path with --path, the URL is ws://HOST:PORT"));
        }
        let addresses: Vec<SocketAddr> =
            host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.collect();
        let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        let address = *address.ok_or_else(|| format!("{host}: no address"))?;
        let tls = if is_tls { Some(server_name(host)?) } else { None };
        Ok(Target { address, host: host.to_owned(), tls })
    }

    /// Source address of the `index`-th connection of the process `pid`: on loopback each address has its own ports,
    /// so that ports suffice for any number of connections, of several generators at once.
    pub(crate) fn source(&self, pid: u32, index: usize) -> Option<IpAddr> {
        match self.address.ip() {
            IpAddr::V4(address) if address.is_loopback() => {
                let block = index / CONNECTIONS_PER_SOURCE;
                let network = 1 + pid % 60_000;
                let (x, y) = (network / 250, network % 250);
                Some(IpAddr::V4(Ipv4Addr::new(127, x as u8 + 1, y as u8 + 1, (block % 250) as u8 + 1)))
            }
            _ => None,
        }
    }
}

/// The name in `HOST:PORT`, as a certificate states it.
fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(|error| format!("{host}: {error}"))
}

/// Source port of the `index`-th connection, free on its source address unless an earlier process of our id had it.
pub(crate) fn port(index: usize) -> u16 {
    FIRST_PORT + (index % CONNECTIONS_PER_SOURCE) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_host_and_port() {
        let target = Target::parse("ws://127.0.0.1:8080/").unwrap();
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(target.host, "127.0.0.1:8080");
        for bad in ["http://127.0.0.1:1", "ws://127.0.0.1", "ws://127.0.0.1:1/echo", "wss://127.0.0.1"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_names_the_host_of_the_url() {
        let check = |url: &str, name: Option<&str>| {
            let tls = Target::parse(url).unwrap().tls;
            assert_eq!(tls.map(|tls| tls.to_str().into_owned()).as_deref(), name, "{url}");
        };
        check("ws://127.0.0.1:80", None);
        check("wss://127.0.0.1:443", Some("127.0.0.1"));
        check("wss://localhost:443/", Some("localhost"));
        check("wss://[::1]:443", Some("::1"));
    }

    #[test]
    fn source_addresses_rotate_on_loopback_only() {
        let local = Target::parse("ws://127.0.0.1:80").unwrap();
        assert_eq!(local.source(0, 0), Some("127.1.2.1".parse().unwrap()));
        assert_eq!(local.source(0, CONNECTIONS_PER_SOURCE), Some("127.1.2.2".parse().unwrap()));
        assert_eq!(local.source(249, 0), Some("127.2.1.1".parse().unwrap()));
        assert_eq!(Target::parse("ws://192.0.2.1:80").unwrap().source(0, 0), None);
    }
}
