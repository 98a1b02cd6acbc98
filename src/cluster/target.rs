//! Where Redis is: the URL of the configuration, read and shown.
//!
//! Never resolves a name or opens a connection. No error and no `Debug` shows
//! the password.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const HOST_BYTES_MAX: usize = 253;
const HOSTS_MAX: usize = 64;

/// Where Redis is, how it is arranged and who asks.
///
/// ```text
/// redis://[[user]:password@]host[:port][/database]
/// redis+sentinel://[[user]:password@]host[:port],…/master[/database]
/// redis+cluster://[[user]:password@]host[:port],…
/// ```
///
/// `rediss` instead of `redis` is TLS. User and password are percent-encoded
/// where they have a `%` or an `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How the servers are arranged.
    pub arrangement: Arrangement,
    /// Whether every connection is TLS, those to sentinels too.
    pub tls: bool,
    /// Who asks; `None`: the default user without a password.
    pub credentials: Option<Credentials>,
    /// Number of the database; always 0 in a Redis Cluster.
    pub database: u32,
}

/// How the servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// One server.
    Single(Address),
    /// A master and its replicas, found by asking sentinels.
    Sentinel {
        /// The sentinels, at least one, asked in this order.
        sentinels: Vec<Address>,
        /// The name under which they watch the master.
        master: String,
    },
    /// A Redis Cluster, found by asking any of these servers, at least one.
    Cluster(Vec<Address>),
}

/// Host and port of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Name or IP address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A user of the server's access control list and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name of the user; `None`: the default user.
    pub user: Option<String>,
    /// The password, in plain text.
    pub password: String,
}

impl Target {
    /// One server without a password, TLS or database.
    pub fn single(host: impl Into<String>, port: u16) -> Target {
        let address = Address { host: host.into(), port };
        Target { arrangement: Arrangement::Single(address), tls: false, credentials: None, database: 0 }
    }
}

impl FromStr for Target {
    type Err = String;

    /// Reads a URL. The error says what is wrong without quoting the URL,
    /// which may hold a password.
    fn from_str(text: &str) -> Result<Target, String> {
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme, such as redis://")?;
        let (plain, kind) = match scheme.split_once('+') {
            Some((plain, kind)) => (plain, Some(kind)),
            None => (scheme, None),
        };
        let tls = match plain {
            "redis" => false,
            "rediss" => true,
            _ => return Err(SCHEMES.to_owned()),
        };
        // The last @, so that a password may hold a / or an @ as it is.
        let (userinfo, rest) = match rest.rsplit_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        let credentials = userinfo.map(credentials).transpose()?;
        if rest.contains(['?', '#']) {
            return Err("has options after ? or #, and there are none".to_owned());
        }
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (arrangement, database) = match kind {
            None => (Arrangement::Single(single(hosts)?), database(path)?),
            Some("sentinel") => sentinel(hosts, path)?,
            Some("cluster") => match database(path)? {
                0 => (Arrangement::Cluster(addresses(hosts, REDIS_PORT)?), 0),
                _ => return Err("names a database, and a Redis Cluster has only 0".to_owned()),
            },
            Some(_) => return Err(SCHEMES.to_owned()),
        };
        Ok(Target { arrangement, tls, credentials, database })
    }
}

const SCHEMES: &str =
    "begins with none of redis://, redis+sentinel://, redis+cluster:// and the same with rediss";

fn credentials(userinfo: &str) -> Result<Credentials, String> {
    let (user, password) = userinfo.split_once(':').ok_or("has no : before the password")?;
    let decode = |text: &str, what| match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains(char::is_control) => Ok(text.into_owned()),
        _ => Err(format!("has a {what} that is not plain text, percent-encoded")),
    };
    let user = if user.is_empty() { None } else { Some(decode(user, "user")?) };
    let password = decode(password, "password")?;
    if password.is_empty() {
        return Err("has an empty password".to_owned());
    }
    Ok(Credentials { user, password })
}

fn single(hosts: &str) -> Result<Address, String> {
    if hosts.contains(',') {
        return Err("names several hosts; that is redis+sentinel:// or redis+cluster://".to_owned());
    }
    address(hosts, REDIS_PORT)
}

fn sentinel(hosts: &str, path: &str) -> Result<(Arrangement, u32), String> {
    let (name, number) = path.split_once('/').unwrap_or((path, ""));
    let master = percent_decode_str(name).decode_utf8().unwrap_or_default().into_owned();
    if master.is_empty() || master.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("does not name the master after the sentinels, as in /mymaster".to_owned());
    }
    let sentinels = addresses(hosts, SENTINEL_PORT)?;
    Ok((Arrangement::Sentinel { sentinels, master }, database(number)?))
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<Address>, String> {
    let addresses: Vec<Address> =
        hosts.split(',').map(|host| address(host, default_port)).collect::<Result<_, _>>()?;
    if addresses.len() > HOSTS_MAX {
        return Err(format!("names more than {HOSTS_MAX} hosts"));
    }
    Ok(addresses)
}

fn address(text: &str, default_port: u16) -> Result<Address, String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "has no IPv6 address between [ and ]")?;
            let port = if rest.is_empty() { None } else { rest.strip_prefix(':').or(Some("")) };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(allowed) {
        return Err("has a host that is no name or address".to_owned());
    }
    let port = match port {
        None => default_port,
        // Not quoted: it is the password when the host was forgotten.
        Some(port) => {
            port.parse().ok().filter(|port| *port != 0).ok_or("has a port that is not 1 to 65535")?
        }
    };
    Ok(Address { host: host.to_owned(), port })
}

fn database(path: &str) -> Result<u32, String> {
    match path {
        "" => Ok(0),
        number => number.parse().map_err(|_| "has a database that is not a number".to_owned()),
    }
}

impl fmt::Display for Target {
    /// The URL, with `***` for the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        f.write_str(match self.arrangement {
            Arrangement::Single(_) => "://",
            Arrangement::Sentinel { .. } => "+sentinel://",
            Arrangement::Cluster(_) => "+cluster://",
        })?;
        if let Some(Credentials { user, .. }) = &self.credentials {
            let user = user.as_deref().unwrap_or_default();
            write!(
                f,
                "{}:***@",
                percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC)
            )?;
        }
        let (addresses, master) = match &self.arrangement {
            Arrangement::Single(address) => (std::slice::from_ref(address), None),
            Arrangement::Sentinel { sentinels, master } => (&sentinels[..], Some(master)),
            Arrangement::Cluster(addresses) => (&addresses[..], None),
        };
        for (index, address) in addresses.iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { "," })?;
        }
        if let Some(master) = master {
            write!(f, "/{master}")?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.user.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text`; shown again, or the error.
    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<Target>() {
            Ok(target) => target.to_string(),
            Err(error) => error,
        };
        assert_eq!(shown, expected, "{text:?}");
    }

    #[test]
    fn what_is_shown_is_what_was_read() {
        for text in [
            "redis://localhost:6379",
            "rediss://10.0.0.1:1/15",
            "redis://[::1]:6379",
            "redis+sentinel://a:26379,b:1/mymaster",
            "rediss+sentinel://a:26379/mymaster/3",
            "redis+cluster://a:6379,b:6379,[fd00::1]:7000",
            "rediss+cluster://a:6379",
        ] {
            check(text, text);
        }
        check("redis://a", "redis://a:6379");
        check("redis://a/", "redis://a:6379");
        check("redis+sentinel://a,b/m", "redis+sentinel://a:26379,b:26379/m");
        check("redis+cluster://[::1]/0", "redis+cluster://[::1]:6379");
    }

    #[test]
    fn users_and_passwords() {
        let check = |text: &str, user: Option<&str>, password: &str| {
            let target: Target = text.parse().expect(text);
            let expected = Credentials { user: user.map(str::to_owned), password: password.to_owned() };
            assert_eq!(target.credentials, Some(expected), "{text}");
            for shown in [target.to_string(), format!("{target:?}")] {
                assert!(!shown.contains(password), "{shown}");
            }
        };
        check("redis://:hunter2@a", None, "hunter2");
        check("redis://app:hunter2@a", Some("app"), "hunter2");
        check("redis+cluster://a%3Ab:p%40%25%2F%C3%A9@h,i:1", Some("a:b"), "p@%/é");
        check("redis+sentinel://app:p:a/s@s#?@h/m", Some("app"), "p:a/s@s#?");
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("", "has no scheme, such as redis://");
        check("localhost:6379", "has no scheme, such as redis://");
        check("redis://", "has a host that is no name or address");
        for scheme in ["http", "unix", "redis+unix", "redisx", "valkey", "rediss+", "redis+sentinel+x"] {
            check(&format!("{scheme}://a"), SCHEMES);
        }
        check("redis://a,b", "names several hosts; that is redis+sentinel:// or redis+cluster://");
        check("redis://a:0", "has a port that is not 1 to 65535");
        check("redis://a:65536", "has a port that is not 1 to 65535");
        check("redis://user:hunter2", "has a port that is not 1 to 65535");
        check("redis://[::1]6379", "has a port that is not 1 to 65535");
        check("redis://[::x]", "has no IPv6 address between [ and ]");
        check("redis://a b", "has a host that is no name or address");
        check("redis+cluster://a,,b", "has a host that is no name or address");
        check("redis://a/x", "has a database that is not a number");
        check("redis://a/-1", "has a database that is not a number");
        check("redis+cluster://a/1", "names a database, and a Redis Cluster has only 0");
        check("redis+sentinel://a", "does not name the master after the sentinels, as in /mymaster");
        check("redis+sentinel://a/", "does not name the master after the sentinels, as in /mymaster");
        check("redis+sentinel://a/m/x", "has a database that is not a number");
        check("redis://hunter2@a", "has no : before the password");
        check("redis://user:@a", "has an empty password");
        check("redis://user:%ff@a", "has a password that is not plain text, percent-encoded");
        check("redis://user:a%0d%0ab@a", "has a password that is not plain text, percent-encoded");
        check("redis://a?protocol=3", "has options after ? or #, and there are none");
        check(&format!("redis+cluster://{}", vec!["a"; 65].join(",")), "names more than 64 hosts");
    }
}
