//! Where a client connects to: a `ws://` or `wss://` URL, taken apart.
//!
//! Never resolves a name or opens a connection.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tungstenite::http::Uri;

/// The longest URL that is taken, in bytes.
const URL_BYTES_MAX: usize = 4096;

/// What is escaped in a value of the query: all but RFC 3986's unreserved.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A server and a path on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether TLS is spoken: `wss://`.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// 80 or 443 unless the URL says otherwise.
    pub port: u16,
    /// Path and query, from the slash on.
    pub path: String,
}

/// Why a text is not a URL to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUrl(String);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUrl {}

impl FromStr for Target {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Target, BadUrl> {
        let bad = |why: &str| BadUrl(format!("{why}; expected a URL such as ws://localhost:8080/ws"));
        if text.len() > URL_BYTES_MAX {
            return Err(bad("the URL is too long"));
        }
        let uri: Uri =
            text.parse().map_err(|error| bad(&format!("{:?} is no URL ({error})", shown(text))))?;
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            Some(other) => return Err(bad(&format!("{other}:// is not WebSocket"))),
            None => return Err(bad(&format!("{:?} has no ws:// or wss://", shown(text)))),
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad("a user and password in the URL would be ignored"));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(bad("the URL names no host"));
        }
        let port = match port(&uri) {
            Ok(port) => port.unwrap_or(if tls { 443 } else { 80 }),
            Err(NotAPort) => return Err(bad("the port is not one")),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Target { tls, host, port, path })
    }
}

/// As much of a URL as errors show: not the query, which may hold a token, nor a password.
fn shown(text: &str) -> &str {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    text.rsplit_once('@').map_or(text, |(_, rest)| rest)
}

impl Target {
    /// The address, if the host is one and needs no resolving.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Value of the `Host` header (RFC 9110, section 7.2).
    pub fn host_header(&self) -> String {
        let host = bracketed(&self.host);
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Path and query with `key=value` added for what is not in the query yet.
    pub fn path_with<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut path = self.path.clone();
        for (key, value) in values {
            if !has_key(&self.path, key) {
                path.push(if path.contains('?') { '&' } else { '?' });
                path.push_str(key);
                path.push('=');
                path.extend(utf8_percent_encode(value, VALUE));
            }
        }
        path
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.host_header(), self.path)
    }
}

/// What stands after the host's colon is no port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAPort;

/// The port of a URL, if it has one; `Uri` itself passes over a bad one.
pub(super) fn port(uri: &Uri) -> Result<Option<u16>, NotAPort> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse().map(Some).map_err(|_| NotAPort),
        _ => Ok(None),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn has_key(path: &str, key: &str) -> bool {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.split('=').next() == Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let check = |text: &str, tls, host: &str, port, path: &str, header: &str| {
            let target: Target = text.parse().expect(text);
            let expected = Target { tls, host: host.to_owned(), port, path: path.to_owned() };
            assert_eq!((&target, target.host_header().as_str()), (&expected, header), "{text}");
        };
        check("ws://localhost:8080/ws", false, "localhost", 8080, "/ws", "localhost:8080");
        check("ws://example.com", false, "example.com", 80, "/", "example.com");
        check("wss://example.com?a=1", true, "example.com", 443, "/?a=1", "example.com");
        check("ws://[::1]:9000/x?y", false, "::1", 9000, "/x?y", "[::1]:9000");
        check("ws://[::1]/", false, "::1", 80, "/", "[::1]");
        check("wss://10.0.0.1:443/ws", true, "10.0.0.1", 443, "/ws", "10.0.0.1");
    }

    #[test]
    fn what_is_no_url_is_explained() {
        let check = |text: &str, mentions: &str| {
            let error = text.parse::<Target>().expect_err(text).to_string();
            assert!(error.contains(mentions) && error.contains("ws://localhost:8080/ws"), "{text}: {error}");
        };
        check("http://localhost/ws", "http://");
        check("localhost:8080", "no ");
        check("/ws", "no ws://");
        check("ws://", "no URL");
        check("ws://alice:secret@host/", "password");
        check("ws://host:/", "port");
        check("ws://host:70000/", "port");
        check(&format!("ws://host/{}", "x".repeat(5000)), "too long");
    }

    #[test]
    fn no_error_shows_a_token_or_a_password() {
        for wrong in [
            "ws://h:99999:1/ws?token=sesame",
            "ws://h h/ws?token=sesame",
            "ws://h h/ws#sesame",
            "h/ws?token=sesame",
            "ws://u:sesame@h:x:y/",
            "u:sesame@h/",
            "ws://u:sesame@h/",
        ] {
            let error = wrong.parse::<Target>().map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| !error.contains("sesame")), "{error:?}");
        }
    }

    #[test]
    fn the_query_is_added_to() {
        let check = |url: &str, expected: &str| {
            let target: Target = url.parse().expect(url);
            assert_eq!(target.path_with([("user_id", "a b&ü"), ("name", "n-1")]), expected);
        };
        check("ws://h/ws", "/ws?user_id=a%20b%26%C3%BC&name=n-1");
        check("ws://h/ws?batch=1", "/ws?batch=1&user_id=a%20b%26%C3%BC&name=n-1");
        check("ws://h/ws?user_id=given", "/ws?user_id=given&name=n-1");
        check("ws://h/ws?user_ids=x&name", "/ws?user_ids=x&name&user_id=a%20b%26%C3%BC");
    }
}
