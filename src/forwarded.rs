//! The client's address behind trusted proxies.
//!
//! Owns: which hop of `X-Forwarded-For` is believed. Never: trust in a header
//! that an untrusted peer could have written. `Forwarded` (RFC 7239) is not read.

use crate::http::Head;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Headers by which a proxy shows itself.
const FORWARDING_HEADERS: [&str; 8] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
    "forwarded",
    "via",
];

/// Whether the request shows signs of having come through a proxy.
pub fn has_forwarding_header(head: &Head<'_>) -> bool {
    FORWARDING_HEADERS.iter().any(|name| head.header(name).is_some())
}

/// Whether an address, IPv4 in IPv6 read as IPv4, is that of a trusted proxy.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The address the request came from, as far as `trusted` proxies vouch for it;
/// IPv4 in IPv6 is shown as IPv4.
///
/// From a trusted peer `X-Forwarded-For` is read from the right: each trusted
/// address in it vouches for the one to its left, and the first untrusted one
/// is the client. What is not an address ends the walk at the last hop that was
/// vouched for. Without that header a single `X-Real-IP` counts.
pub fn client_address(peer: IpAddr, head: &Head<'_>, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let mut hops = head
        .headers("x-forwarded-for")
        .rev()
        .flat_map(|value| value.rsplit(','))
        .map(str::trim_ascii)
        .filter(|hop| !hop.is_empty())
        .map(address)
        .peekable();
    if hops.peek().is_none() {
        return if is_trusted(client, trusted) { real_ip(head).unwrap_or(client) } else { client };
    }
    while is_trusted(client, trusted) {
        let Some(Some(hop)) = hops.next() else { break };
        client = hop;
    }
    client
}

/// Two such headers contradict each other; then neither counts.
fn real_ip(head: &Head<'_>) -> Option<IpAddr> {
    let mut values = head.headers("x-real-ip");
    let value = values.next()?;
    values.next().is_none().then(|| address(value))?
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Parsed, parse};

    fn with_head<T>(lines: &str, look: impl FnOnce(&Head<'_>) -> T) -> T {
        let input = format!("GET / HTTP/1.0\r\n{lines}\r\n");
        match parse(input.as_bytes()) {
            Ok(Parsed::Complete { head, .. }) => look(&head),
            other => panic!("{other:?} from {input:?}"),
        }
    }

    /// With 10.0.0.0/8 and fd00::/8 trusted.
    fn check(peer: &str, lines: &str, expected: &str) {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
        let peer = peer.parse().expect("an address");
        let client = with_head(lines, |head| client_address(peer, head, &trusted));
        assert_eq!(client.to_string(), expected, "{lines:?} from {peer}");
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        check("10.0.0.1", "", "10.0.0.1");
        check("10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4");
        check("8.8.8.8", "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n", "8.8.8.8");
        check("8.8.8.8", "X-Real-IP: 1.2.3.4\r\n", "8.8.8.8");
        check("::ffff:10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4");
        check("::ffff:8.8.8.8", "X-Forwarded-For: 1.2.3.4\r\n", "8.8.8.8");
        check("fd00::1", "x-forwarded-for: 2001:db8::1\r\n", "2001:db8::1");
    }

    #[test]
    fn the_first_untrusted_hop_from_the_right_is_the_client() {
        check("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.2\r\n", "1.2.3.4");
        check("10.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4,10.0.0.2\r\n", "1.2.3.4");
        check("10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 10.0.0.2\r\n", "1.2.3.4");
        check("10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3");
        check("10.0.0.1", "X-Forwarded-For: 1.2.3.4, , 10.0.0.2,\r\n", "1.2.3.4");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        check("10.0.0.1", "X-Forwarded-For: 1.2.3.4, unknown, 10.0.0.2\r\n", "10.0.0.2");
        check("10.0.0.1", "X-Forwarded-For: nonsense\r\nX-Real-IP: 1.2.3.4\r\n", "10.0.0.1");
        check("10.0.0.1", "X-Forwarded-For: \r\nX-Real-IP: 1.2.3.4\r\n", "1.2.3.4");
        check("10.0.0.1", "X-Real-IP: nonsense\r\n", "10.0.0.1");
        check("10.0.0.1", "X-Real-IP: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n", "10.0.0.1");
    }

    #[test]
    fn addresses_come_in_several_forms() {
        let cases = [
            ("1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4:80", Some("1.2.3.4")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("[1.2.3.4]", None),
            ("1.2.3.4:99999", None),
            ("1.2.3", None),
            ("fe80::1%eth0", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn proxies_show_themselves() {
        for name in FORWARDING_HEADERS {
            assert!(with_head(&format!("{}: \r\n", name.to_uppercase()), has_forwarding_header), "{name}");
        }
        assert!(!with_head("X-Forwarded: a\r\nUser-Agent: via\r\n", has_forwarding_header));
    }
}
