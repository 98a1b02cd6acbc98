//! The environment as a layer: `THRONG_…` for every key, and a few plain names.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::value::Shape;
use super::{ConfigError, Key, Settings, commands, key};

const PREFIX: &str = "THRONG_";
const CONFIG: &str = "THRONG_CONFIG";
/// What `throng client` is given its token in.
const CLIENT_TOKEN: &str = "THRONG_TOKEN";

/// What the environment says about the configuration.
#[derive(Debug)]
pub(super) struct Variables<C: Settings> {
    /// `THRONG_CONFIG`.
    pub(super) file: Option<PathBuf>,
    /// Keys, those under plain names first, so that the others win.
    pub(super) values: Vec<Variable<C>>,
}

/// What one variable says about one key.
#[derive(Debug)]
pub(super) struct Variable<C: Settings> {
    pub(super) key: &'static Key<C>,
    pub(super) name: String,
    pub(super) parts: Vec<String>,
}

/// Whether a variable of this name may be about throng.
pub(super) fn concerns_us<C: Settings>(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX) || plain::<C>(name).is_some())
}

/// Reads the variables. One that is empty counts as not set; one that is a key
/// of another command only is passed over, since commands may share an environment;
/// so is the client's token.
///
/// # Errors
/// An unknown `THRONG_…` variable, with the nearest known one, or one that is
/// not UTF-8.
pub(super) fn variables<C: Settings>(
    environment: &[(OsString, OsString)],
) -> Result<Variables<C>, ConfigError> {
    let mut variables = Variables { file: None, values: Vec::new() };
    let mut prefixed = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        let Some(text) = value.to_str() else { return Err(ConfigError::new(name, "is not UTF-8")) };
        if text.trim().is_empty() {
            continue;
        }
        let variable =
            |key: &'static Key<C>| Variable { key, name: name.to_owned(), parts: parts(key, text) };
        match name.strip_prefix(PREFIX) {
            _ if name == CONFIG => variables.file = Some(PathBuf::from(text)),
            _ if name == CLIENT_TOKEN => {}
            Some(rest) if is_service_link(rest, text) => {}
            Some(rest) => prefixed.extend(known(name, rest)?.map(variable)),
            None => variables.values.extend(plain(name).map(variable)),
        }
    }
    variables.values.append(&mut prefixed);
    Ok(variables)
}

fn plain<C: Settings>(name: &str) -> Option<&'static Key<C>> {
    C::keys().find(|key| key.plain_variable == Some(name))
}

/// The key of a variable; `None` if it is one of another command.
fn known<C: Settings>(name: &str, rest: &str) -> Result<Option<&'static Key<C>>, ConfigError> {
    let exact = C::keys().find(|key| key.variable() == name);
    if exact.is_some() || commands::with_variable(name).is_some() {
        return Ok(exact);
    }
    Err(match key::nearest::<C>(rest) {
        Some(key) => ConfigError::new(name, format_args!("is not known; did you mean {}?", key.variable())),
        None => ConfigError::new(name, "is not known"),
    })
}

fn parts<C>(key: &Key<C>, text: &str) -> Vec<String> {
    let split = |at: fn(char) -> bool| {
        text.split(at).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    match key.shape {
        Shape::Scalar | Shape::Switch => vec![text.to_owned()],
        Shape::List | Shape::Table => split(|c| c == ','),
        Shape::SpacedList => split(|c| c == ';' || c.is_whitespace()),
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
    use crate::balancer::config::BalanceConfig;
    use crate::config::Config;

    /// Reads the variables: `name=part|part` for each, or the error.
    fn check(environment: &[(&str, &str)], expected: &str) {
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let shown = match variables::<Config>(&environment) {
            Err(error) => error.to_string(),
            Ok(found) => {
                let show = |variable: &Variable<Config>| {
                    format!("{}={}", variable.key.name, variable.parts.join("|"))
                };
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
    fn specs_are_separated_by_blanks_or_semicolons() {
        let environment = [("THRONG_BACKENDS".into(), " a:1,weight=2;b:1\n c:1 ; ".into())];
        let found = variables::<BalanceConfig>(&environment).expect("known");
        assert_eq!(found.values[0].parts, ["a:1,weight=2", "b:1", "c:1"]);
    }

    #[test]
    fn keys_of_other_commands_are_passed_over() {
        check(&[("THRONG_BACKENDS", "a:1"), ("THRONG_PORT", "1"), ("THRONG_STRATEGY", "x")], "port=1");
        check(&[("THRONG_TOKEN", "a.b.c"), ("THRONG_PORT", "1")], "port=1");
        check(&[("THRONG_backends", "a:1")], "THRONG_backends: is not known");
        check(&[("THRONG_STRATEGI", "x")], "THRONG_STRATEGI: is not known");
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
    fn what_is_not_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let broken = vec![(OsString::from("THRONG_NODE_ID"), OsString::from_vec(vec![0xff]))];
        assert_eq!(
            variables::<Config>(&broken).expect_err("broken").to_string(),
            "THRONG_NODE_ID: is not UTF-8"
        );
    }
}
