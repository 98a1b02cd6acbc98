//! How a backend is written: `HOST:PORT[,weight=N][,max=N]`.

use std::net::{Ipv4Addr, Ipv6Addr};

const WEIGHT_MAX: u32 = 1000;
/// A DNS name and one of its labels, in bytes (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Checks one backend and returns what it is called, `HOST:PORT`.
///
/// # Errors
/// What is wrong, in one line.
pub fn backend_name(text: &str) -> Result<String, String> {
    let mut parts = text.split(',').map(str::trim);
    let address = parts.next().unwrap_or_default();
    host_and_port(address)?;
    let mut seen = Vec::new();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let most = match name {
            "weight" => WEIGHT_MAX,
            "max" => u32::MAX,
            _ => return Err(format!("{part:?} is not weight=N or max=N")),
        };
        if seen.contains(&name) {
            return Err(format!("{text:?} has {name} twice"));
        }
        seen.push(name);
        if !value.parse().is_ok_and(|number: u32| (1..=most).contains(&number)) {
            return Err(format!("{name} in {text:?} is not a whole number from 1 to {most}"));
        }
    }
    Ok(address.to_owned())
}

/// Host and port of `HOST:PORT`: a DNS name, an IPv4 address, or an IPv6
/// address, which stands in brackets and is returned without them.
///
/// # Errors
/// What is wrong, in one line.
pub fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("{text:?} is not HOST:PORT, such as node-1:8080, 10.0.0.1:8080 or [::1]:8080");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match inner {
        Some(address) => address.parse::<Ipv6Addr>().is_ok().then_some(address),
        None => is_name(host).then_some(host),
    };
    Ok((host.ok_or_else(wrong)?, port))
}

/// A DNS name or an IPv4 address. What looks like a number all through is an
/// address or a mistake: no top-level domain is one.
fn is_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label =
        |label: &str| !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.bytes().all(allowed);
    let numeric =
        name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric {
        return name.parse::<Ipv4Addr>().is_ok();
    }
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(backend_name(text).ok().as_deref(), expected, "{text:?}");
        };
        check("node-1:8080", Some("node-1:8080"));
        check("node_1.throng.svc.:1", Some("node_1.throng.svc.:1"));
        check("10.0.0.1:65535,weight=1000, max=1", Some("10.0.0.1:65535"));
        check("[::1]:80,max=4294967295", Some("[::1]:80"));
        for wrong in [
            "",
            ":80",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:80:80",
            "::1:80",
            "[::1",
            "[a]:80",
            "a b:80",
            "10.0.0:80",
            "10.0.0.256:80",
            "a..b:80",
            "http://a:80",
            "a:80/x",
            "é:80",
            "a:80,",
            "a:80,weight",
            "a:80,weight=0",
            "a:80,weight=1001",
            "a:80,max=0",
            "a:80,max=-1",
            "a:80,weight=1,weight=1",
            "a:80,colour=1",
        ] {
            check(wrong, None);
        }
        check(&format!("{}:80", "a".repeat(64)), None);
        check(&format!("{}a:80", "a.".repeat(127)), None);
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(host_and_port("[fd00::1]:8080"), Ok(("fd00::1", 8080)));
        assert_eq!(host_and_port("throng-headless:8080"), Ok(("throng-headless", 8080)));
        assert_eq!(
            host_and_port("a"),
            Err(r#""a" is not HOST:PORT, such as node-1:8080, 10.0.0.1:8080 or [::1]:8080"#.to_owned())
        );
    }
}
