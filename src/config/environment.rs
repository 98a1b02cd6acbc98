//! The environment as a layer: `THRONG_…` for every key, and a few plain names.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::ConfigError;
use super::keys::{self, KEYS, Key};
use super::value::Shape;

const PREFIX: &str = "THRONG_";
const CONFIG: &str = "THRONG_CONFIG";
/// Together the last resort for `redis_url`.
const REDIS_HOST: &str = "REDIS_HOST";
const REDIS_PORT: &str = "REDIS_PORT";

/// What the environment says about the configuration.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Variables {
    /// `THRONG_CONFIG`.
    pub(super) file: Option<PathBuf>,
    /// Keys, those under plain names first, so that the others win.
    pub(super) values: Vec<Variable>,
    redis_host: Option<String>,
    redis_port: Option<String>,
}

impl Variables {
    /// `redis_url` as `REDIS_HOST` and `REDIS_PORT` have it.
    ///
    /// # Errors
    /// The port is none.
    pub(super) fn redis(&self) -> Result<Option<Variable>, ConfigError> {
        let (Some(key), Some(host)) = (keys::find("redis_url"), &self.redis_host) else { return Ok(None) };
        let host = host.trim();
        let host =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let port = match self.redis_port.as_deref().map(str::trim) {
            None => String::new(),
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port != 0 => format!(":{port}"),
                _ => return Err(ConfigError::new(REDIS_PORT, format_args!("{port:?} is not a port"))),
            },
        };
        let parts = vec![format!("redis://{host}{port}")];
        Ok(Some(Variable { key, name: REDIS_HOST.to_owned(), parts }))
    }
}

/// What one variable says about one key.
#[derive(Debug, PartialEq)]
pub(super) struct Variable {
    pub(super) key: &'static Key,
    pub(super) name: String,
    pub(super) parts: Vec<String>,
}

/// Whether a variable of this name may be about throng.
pub(super) fn concerns_us(name: &OsStr) -> bool {
    let is_plain = |name| [REDIS_HOST, REDIS_PORT].contains(&name) || plain(name).is_some();
    name.to_str().is_some_and(|name| name.starts_with(PREFIX) || is_plain(name))
}

/// Reads the variables. One that is empty counts as not set.
///
/// # Errors
/// An unknown `THRONG_…` variable, with the nearest known one, or one that is
/// not UTF-8.
pub(super) fn variables(environment: &[(OsString, OsString)]) -> Result<Variables, ConfigError> {
    let mut variables = Variables::default();
    let mut prefixed = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        let Some(text) = value.to_str() else { return Err(ConfigError::new(name, "is not UTF-8")) };
        if text.trim().is_empty() {
            continue;
        }
        let variable = |key: &'static Key| Variable { key, name: name.to_owned(), parts: parts(key, text) };
        match name.strip_prefix(PREFIX) {
            _ if name == CONFIG => variables.file = Some(PathBuf::from(text)),
            Some(rest) if is_service_link(rest, text) => {}
            Some(rest) => prefixed.push(variable(known(name, rest)?)),
            None if name == REDIS_HOST => variables.redis_host = Some(text.to_owned()),
            // A Service called redis sets this one to tcp://….
            None if name == REDIS_PORT && text.contains("://") => {}
            None if name == REDIS_PORT => variables.redis_port = Some(text.to_owned()),
            None => variables.values.extend(plain(name).map(variable)),
        }
    }
    variables.values.append(&mut prefixed);
    Ok(variables)
}

fn plain(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.plain_variable == Some(name))
}

fn known(name: &str, rest: &str) -> Result<&'static Key, ConfigError> {
    let exact = KEYS.iter().find(|key| key.variable() == name);
    exact.ok_or_else(|| match keys::nearest(rest) {
        Some(key) => ConfigError::new(name, format_args!("is not known; did you mean {}?", key.variable())),
        None => ConfigError::new(name, "is not known"),
    })
}

fn parts(key: &Key, text: &str) -> Vec<String> {
    match key.shape {
        Shape::Scalar | Shape::Switch => vec![text.to_owned()],
        Shape::List | Shape::Table => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
    }
}

/// Kubernetes tells every pod of a namespace about its Services in variables
/// that begin with the Service's name: a Service called `throng`, or `throng-ws`,
/// sets `THRONG_SERVICE_HOST`, `THRONG_PORT=tcp://…`, `THRONG_PORT_80_TCP_ADDR`.
/// `rest` is the name after the prefix.
fn is_service_link(rest: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let words: Vec<&str> = rest.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = |at: &[&str]| at[0] == "PORT" && is_number(at[1]) && PROTOCOLS.contains(&at[2]);
    let url = || ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    words.ends_with(&["SERVICE", "HOST"])
        || words.windows(2).any(|at| at == ["SERVICE", "PORT"])
        || words.windows(3).any(numbered)
        || (words.ends_with(&["PORT"]) && url())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the variables: `name=part|part` for each, or the error.
    fn check(environment: &[(&str, &str)], expected: &str) {
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let shown = match variables(&environment) {
            Err(error) => error.to_string(),
            Ok(found) => {
                let show =
                    |variable: &Variable| format!("{}={}", variable.key.name, variable.parts.join("|"));
                found.values.iter().map(show).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(shown, expected, "{environment:?}");
    }

    #[test]
    fn prefixed_names_come_after_plain_ones() {
        check(&[("THRONG_PORT", "1"), ("PORT", "2"), ("NODE_ID", "n")], "port=2 node_id=n port=1");
    }

    #[test]
    fn lists_are_separated_by_commas() {
        check(&[("THRONG_LABELS", "a=1, b=2 ,")], "labels=a=1|b=2");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        check(&[("PORT", ""), ("THRONG_NODE_ID", " "), ("THRONG_CONFIG", "")], "");
    }

    #[test]
    fn unknown_names() {
        check(&[("THRONG_PROT", "1")], "THRONG_PROT: is not known; did you mean THRONG_PORT?");
        check(&[("THRONG_XYZZY", "1")], "THRONG_XYZZY: is not known");
        check(&[("THRONG_port", "1")], "THRONG_port: is not known; did you mean THRONG_PORT?");
    }

    #[test]
    fn kubernetes_service_links_are_not_ours() {
        let links = [
            ("THRONG_SERVICE_HOST", "10.0.0.1"),
            ("THRONG_SERVICE_PORT", "80"),
            ("THRONG_SERVICE_PORT_HTTP", "80"),
            ("THRONG_PORT", "tcp://10.0.0.1:80"),
            ("THRONG_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("THRONG_PORT_80_TCP_PROTO", "tcp"),
            ("THRONG_PORT_80_TCP_PORT", "80"),
            ("THRONG_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("THRONG_WS_PORT", "tcp://10.0.0.2:8765"),
            ("THRONG_BALANCER_SERVICE_HOST", "10.0.0.3"),
        ];
        check(&links, "");
        check(&[("THRONG_PORT", "80"), ("THRONG_SERVICE_NAME", "x")], "port=80 service_name=x");
    }

    #[test]
    fn a_host_and_a_port_of_redis() {
        let check = |environment: &[(&str, &str)], expected: &str| {
            let environment: Vec<_> =
                environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let shown = match variables(&environment).expect("known").redis() {
                Err(error) => error.to_string(),
                Ok(None) => String::new(),
                Ok(Some(Variable { key, name, parts })) => {
                    format!("{name}: {}={}", key.name, parts.join("|"))
                }
            };
            assert_eq!(shown, expected, "{environment:?}");
        };
        check(&[("REDIS_HOST", "r")], "REDIS_HOST: redis_url=redis://r");
        check(&[("REDIS_HOST", "r"), ("REDIS_PORT", "1")], "REDIS_HOST: redis_url=redis://r:1");
        check(&[("REDIS_PORT", "1"), ("REDIS_HOST", " ::1 ")], "REDIS_HOST: redis_url=redis://[::1]:1");
        check(&[("REDIS_HOST", "[::1]")], "REDIS_HOST: redis_url=redis://[::1]");
        check(&[("REDIS_PORT", "1")], "");
        check(&[("REDIS_HOST", ""), ("REDIS_PORT", "1")], "");
        check(
            &[("REDIS_HOST", "r"), ("REDIS_PORT", "tcp://10.0.0.1:6379")],
            "REDIS_HOST: redis_url=redis://r",
        );
        check(&[("REDIS_HOST", "r"), ("REDIS_PORT", "x")], r#"REDIS_PORT: "x" is not a port"#);
        check(&[("REDIS_HOST", "r"), ("REDIS_PORT", "0")], r#"REDIS_PORT: "0" is not a port"#);
        assert!(concerns_us("REDIS_HOST".as_ref()) && concerns_us("REDIS_PORT".as_ref()));
        assert!(concerns_us("REDIS_URL".as_ref()) && !concerns_us("REDIS".as_ref()));
    }

    #[test]
    fn what_is_not_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let broken = vec![(OsString::from("THRONG_NODE_ID"), OsString::from_vec(vec![0xff]))];
        assert_eq!(variables(&broken).expect_err("broken").to_string(), "THRONG_NODE_ID: is not UTF-8");
    }
}
