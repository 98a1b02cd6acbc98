//! How each type of value is read from text and written as TOML.
//!
//! Every layer hands over text: one part for a scalar, any number for a list.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::text::{
    array, duration_text, largest, log_levels, network, one, parse, quoted, reactors_default, size, size_text,
};
use super::{AddressRate, Auth, LogFormat, Permission, Secret, SlowConsumer, TlsListener};
use crate::auth::Algorithm;
use crate::tls::ClientAuth;

/// One way to read and to write a value.
pub(crate) struct Codec<T> {
    /// Stands for a value in `--help`.
    pub(crate) form: &'static str,
    /// How many parts a value has.
    pub(crate) shape: Shape,
    /// Whether the value is never shown.
    pub(crate) secret: bool,
    /// Text to value; the error says what was expected.
    pub(crate) read: fn(&[String]) -> Result<T, String>,
    /// Value to TOML; `None` when there is no value.
    pub(crate) write: fn(&T) -> Option<String>,
}

/// How many parts a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One part.
    Scalar,
    /// One part; as a flag it may stand without one, which means true.
    Switch,
    /// Any number of parts: a repeated flag, a comma-separated variable, an array.
    List,
    /// Like a list, of items that may have commas: a variable separates them by
    /// blanks or semicolons.
    SpacedList,
    /// Like a list, of `name=value`; a table in the file.
    Table,
}

pub(crate) const PORT: Codec<u16> = number("PORT");
pub(crate) const COUNT: Codec<usize> = number("N");
pub(crate) const RATE: Codec<u32> = number("N");

pub(crate) const WS_PORT: Codec<Option<u16>> = Codec {
    form: "PORT",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| match one(parts)? {
        "off" | "0" => Ok(None),
        "auto" => Ok(Some(0)),
        text => parse(text, "off, auto or a port").map(Some),
    },
    write: |port| match port {
        None => Some(quoted("off")),
        Some(0) => Some(quoted("auto")),
        Some(port) => Some(port.to_string()),
    },
};

pub(crate) const REACTORS: Codec<usize> = Codec {
    form: "N",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| match one(parts)? {
        "auto" => Ok(reactors_default()),
        text => parse(text, "auto or a whole number"),
    },
    write: |reactors| Some(reactors.to_string()),
};

pub(crate) const ADDRESS: Codec<IpAddr> = Codec {
    form: "ADDRESS",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| parse(one(parts)?, "an IP address, such as 0.0.0.0 or ::"),
    write: |address| Some(quoted(address)),
};

pub(crate) const SWITCH: Codec<bool> = Codec {
    form: "BOOL",
    shape: Shape::Switch,
    secret: false,
    read: |parts| match one(parts)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        text => Err(format!("{text:?} is not true or false")),
    },
    write: |on| Some(on.to_string()),
};

pub(crate) const TEXT: Codec<String> = Codec {
    form: "NAME",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts).map(str::to_owned),
    write: |text| Some(quoted(text)),
};

pub(crate) const OPTIONAL_TEXT: Codec<Option<String>> = Codec {
    form: "NAME",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts).map(|text| Some(text.to_owned())),
    write: |text| text.as_ref().map(quoted),
};

pub(crate) const PATH: Codec<Option<PathBuf>> = Codec {
    form: "FILE",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts).map(|text| Some(PathBuf::from(text))),
    write: |path| path.as_ref().map(|path| quoted(path.display())),
};

pub(crate) const SECRET: Codec<Option<Secret>> = Codec {
    form: "TOKEN",
    shape: Shape::Scalar,
    secret: true,
    read: |parts| one(parts).map(|text| Some(Secret::new(text))),
    write: |_| None,
};

pub(crate) const LABELS: Codec<BTreeMap<String, String>> = Codec {
    form: "NAME=VALUE",
    shape: Shape::Table,
    secret: false,
    read: |parts| {
        let mut labels = BTreeMap::new();
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not name=value"))?;
            if labels.insert(name.trim().to_owned(), value.trim().to_owned()).is_some() {
                return Err(format!("{name:?} is given twice"));
            }
        }
        Ok(labels)
    },
    write: |labels| {
        let pairs: Vec<_> = labels.iter().map(|(k, v)| format!("{} = {}", quoted(k), quoted(v))).collect();
        Some(if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) })
    },
};

pub(crate) const ORIGINS: Codec<Vec<String>> = Codec {
    form: "ORIGIN",
    shape: Shape::List,
    secret: false,
    // Scheme and host have no case (RFC 6454, section 4).
    read: |parts| Ok(parts.iter().map(|origin| origin.to_ascii_lowercase()).collect()),
    write: |origins| Some(array(origins)),
};

pub(crate) const NAMES: Codec<Vec<String>> = Codec {
    form: "NAME",
    shape: Shape::List,
    secret: false,
    read: |parts| Ok(parts.to_vec()),
    write: |names| Some(array(names)),
};

pub(crate) const NETWORKS: Codec<Vec<IpNet>> = Codec {
    form: "CIDR",
    shape: Shape::List,
    secret: false,
    read: |parts| parts.iter().map(|part| network(part)).collect(),
    write: |networks| Some(array(networks)),
};

pub(crate) const ADDRESS_RATE: Codec<Option<AddressRate>> = Codec {
    form: "N/SECONDS",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| match one(parts)? {
        "off" => Ok(None),
        text => text.parse().map(Some),
    },
    write: |rate| Some(rate.map_or(quoted("off"), quoted)),
};

pub(crate) const SIZE: Codec<usize> = Codec {
    form: "SIZE",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| size(one(parts)?),
    write: |bytes| Some(quoted(size_text(*bytes))),
};

pub(crate) const DURATION: Codec<Duration> = Codec {
    form: "DURATION",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| {
        let text = one(parts)?;
        humantime::parse_duration(text)
            .map_err(|_| format!("{text:?} is not a duration, such as 500ms, 30s or 2m"))
    },
    write: |duration| Some(quoted(duration_text(*duration))),
};

pub(crate) const SLOW_CONSUMER: Codec<SlowConsumer> = Codec {
    form: "drop-newest|disconnect",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts)?.parse(),
    write: |policy| Some(quoted(policy)),
};

pub(crate) const AUTH: Codec<Auth> = Codec {
    form: "none|jwt",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts)?.parse(),
    write: |auth| Some(quoted(auth)),
};

pub(crate) const CLIENT_AUTH: Codec<ClientAuth> = Codec {
    form: "required|optional",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts)?.parse(),
    write: |auth| Some(quoted(auth)),
};

pub(crate) const ALGORITHMS: Codec<Vec<Algorithm>> = Codec {
    form: "ALGORITHM",
    shape: Shape::List,
    secret: false,
    read: |parts| parts.iter().map(|part| part.trim().parse()).collect(),
    write: |algorithms| Some(array(algorithms)),
};

pub(crate) const PERMISSION: Codec<Permission> = Codec {
    form: "allow|deny",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts)?.parse(),
    write: |permission| Some(quoted(permission)),
};

pub(crate) const TLS_LISTENER: Codec<TlsListener> = Codec {
    form: "both|http|ws",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts)?.parse(),
    write: |listener| Some(quoted(listener)),
};

pub(crate) const LOG_FORMAT: Codec<LogFormat> = Codec {
    form: "text|json",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| one(parts)?.parse(),
    write: |format| Some(quoted(format)),
};

pub(crate) const LOG_LEVEL: Codec<String> = Codec {
    form: "LEVEL",
    shape: Shape::Scalar,
    secret: false,
    read: |parts| {
        let text = one(parts)?;
        log_levels(text).map(|_| text.to_owned())
    },
    write: |text| Some(quoted(text)),
};

const fn number<T: FromStr + Display>(form: &'static str) -> Codec<T> {
    Codec {
        form,
        shape: Shape::Scalar,
        secret: false,
        read: |parts| parse(one(parts)?, format_args!("a whole number up to {}", largest::<T>())),
        write: |number| Some(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text`; the value written as TOML, or `None` when it is refused.
    fn check<T>(codec: &Codec<T>, text: &str, expected: Option<&str>) {
        let read = (codec.read)(&[text.to_owned()]);
        let written = read.as_ref().ok().and_then(|value| (codec.write)(value));
        assert_eq!(written.as_deref(), expected, "{text:?}: {:?}", read.err());
    }

    #[test]
    fn sizes() {
        check(&SIZE, "64KiB", Some(r#""64KiB""#));
        check(&SIZE, "65536", Some(r#""64KiB""#));
        check(&SIZE, " 64 kib ", Some(r#""64KiB""#));
        check(&SIZE, "1000", Some(r#""1000B""#));
        check(&SIZE, "1KB", Some(r#""1000B""#));
        check(&SIZE, "1.5MiB", Some(r#""1536KiB""#));
        check(&SIZE, "0", Some(r#""0B""#));
        check(&SIZE, "3GiB", Some(r#""3GiB""#));
        for wrong in
            ["", "-1", "KiB", "64 parsecs", "1e3", "16EiB", "18446744073709551616", "99999999999EiB", "0x10"]
        {
            check(&SIZE, wrong, None);
        }
    }

    #[test]
    fn durations() {
        check(&DURATION, "500ms", Some(r#""500ms""#));
        check(&DURATION, "30s", Some(r#""30s""#));
        check(&DURATION, "90s", Some(r#""1m 30s""#));
        check(&DURATION, "2m", Some(r#""2m""#));
        check(&DURATION, "0", Some(r#""0s""#));
        check(&DURATION, "0s", Some(r#""0s""#));
        for wrong in ["", "30", "-1s", "s", "1 fortnight", "18446744073709551616s", "99999999999999999999y"] {
            check(&DURATION, wrong, None);
        }
    }

    #[test]
    fn numbers_and_ports() {
        check(&PORT, "65535", Some("65535"));
        for wrong in ["", "65536", "-1", "http", "80.0"] {
            check(&PORT, wrong, None);
        }
        assert_eq!((PORT.read)(&["x".into()]), Err(r#""x" is not a whole number up to 65535"#.into()));
        assert_eq!((PORT.read)(&[]), Err("takes one value, not 0".into()));
        check(&WS_PORT, "0", Some(r#""off""#));
        check(&WS_PORT, "off", Some(r#""off""#));
        check(&WS_PORT, "auto", Some(r#""auto""#));
        check(&WS_PORT, "8765", Some("8765"));
        check(&WS_PORT, "on", None);
        check(&REACTORS, "auto", Some(&reactors_default().to_string()));
        check(&REACTORS, "-2", None);
    }

    #[test]
    fn switches() {
        for (text, expected) in
            [("true", "true"), ("1", "true"), ("ON", "true"), ("no", "false"), ("0", "false")]
        {
            check(&SWITCH, text, Some(expected));
        }
        check(&SWITCH, "", None);
        check(&SWITCH, "maybe", None);
    }

    #[test]
    fn words_and_algorithms() {
        check(&AUTH, "jwt", Some(r#""jwt""#));
        check(&AUTH, "JWT", None);
        check(&PERMISSION, "deny", Some(r#""deny""#));
        check(&PERMISSION, "no", None);
        check(&ALGORITHMS, "EdDSA", Some(r#"["EdDSA"]"#));
        for wrong in ["none", "HS512", "eddsa", ""] {
            check(&ALGORITHMS, wrong, None);
        }
    }

    #[test]
    fn networks_and_addresses() {
        check(&NETWORKS, "10.1.2.3/8", Some(r#"["10.0.0.0/8"]"#));
        check(&NETWORKS, "10.1.2.3", Some(r#"["10.1.2.3/32"]"#));
        check(&NETWORKS, "fd00::1/8", Some(r#"["fd00::/8"]"#));
        check(&NETWORKS, "10.0.0.0/33", None);
        check(&ADDRESS, "::", Some(r#""::""#));
        check(&ADDRESS, "localhost", None);
    }

    #[test]
    fn labels() {
        check(&LABELS, "region=eu=1", Some(r#"{ "region" = "eu=1" }"#));
        check(&LABELS, "region", None);
        assert!((LABELS.read)(&["a=1".into(), "a=2".into()]).is_err());
        assert_eq!((LABELS.write)(&BTreeMap::new()).as_deref(), Some("{}"));
    }
}
