//! Where to connect to and from which address. Never connects.

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
}

impl Target {
    /// Reads `ws://HOST:PORT`; an IPv4 address is preferred where a name has both.
    pub(crate) fn parse(url: &str) -> Result<Target, String> {
        if url.starts_with("wss://") {
            return Err("wss:// is not spoken here: give the plain ws:// address of the server".into());
        }
        let host = url.strip_prefix("ws://").ok_or_else(|| format!("{url}: expected ws://HOST:PORT"))?;
        let host = host.strip_suffix('/').unwrap_or(host);
        if host.contains('/') {
            return Err(format!("{url}: give the path with --path, the URL is ws://HOST:PORT"));
        }
        let addresses: Vec<SocketAddr> =
            host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.collect();
        let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        let address = *address.ok_or_else(|| format!("{host}: no address"))?;
        Ok(Target { address, host: host.to_owned() })
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
        for bad in ["http://127.0.0.1:1", "ws://127.0.0.1", "ws://127.0.0.1:1/echo", "wss://127.0.0.1:1"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
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
