//! Holds the files in systemd/ against the program: time bounds, ports, paths, flags, variables and keys.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use throng::balancer::config::BalanceConfig;
use throng::cli::{self, Command};
use throng::config::{Config, Flags, Loader, Settings};
use throng::service::{DRAIN_GRACE, EXIT_AT_ONCE};

/// The services, with the command each runs and its files in /etc/throng.
const SERVICES: [(&str, &str, &str, &str); 3] = [
    ("throng.service", "serve", "throng.toml", "throng.env"),
    ("throng@.service", "serve", "throng.toml", "throng.env"),
    ("throng-balance.service", "balance", "balance.toml", "throng-balance.env"),
];

/// Keys of `[Service]` that are a service's own; all others are the same in all.
const OWN: [&str; 3] = ["ExecStart", "ExecReload", "EnvironmentFile"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The assignments of a unit's section, in their order.
fn section(unit: &str, wanted: &str) -> Vec<(String, String)> {
    let text = read(unit);
    let mut current = "";
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            current = name.trim_end_matches(']');
        } else if current == wanted {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{unit}: {line}"));
            found.push((key.to_owned(), value.to_owned()));
        }
    }
    assert!(!found.is_empty(), "{unit} has no section [{wanted}]");
    found
}

/// The one value of a key.
fn value(unit: &str, wanted: &str, key: &str) -> String {
    let mut values = section(unit, wanted).into_iter().filter(|(name, _)| name == key);
    let (_, value) = values.next().unwrap_or_else(|| panic!("{unit}: no {key}"));
    assert!(values.next().is_none(), "{unit}: {key} twice");
    value
}

fn duration(unit: &str, key: &str) -> Duration {
    humantime::parse_duration(&value(unit, "Service", key)).unwrap()
}

#[test]
fn a_stop_has_time_for_the_drain() {
    for (unit, command, ..) in SERVICES {
        let longest = match command {
            "serve" => Config::default().longest_drain(),
            _ => BalanceConfig::default().longest_drain(),
        };
        let stop = duration(unit, "TimeoutStopSec");
        assert!(
            stop >= longest + DRAIN_GRACE,
            "{unit}: {stop:?} for a drain of {longest:?} and {DRAIN_GRACE:?}"
        );
    }
}

#[test]
fn the_watchdog_is_slower_than_a_reactor() {
    for (unit, ..) in SERVICES {
        // It is fed in half its time, if each reactor took a turn, which it does once a second.
        assert!(duration(unit, "WatchdogSec") >= Duration::from_secs(4), "{unit}");
        assert!(duration(unit, "TimeoutAbortSec") < duration(unit, "TimeoutStopSec"), "{unit}");
    }
}

#[test]
fn commands_are_understood() {
    for (unit, command, file, environment) in SERVICES {
        let start = value(unit, "Service", "ExecStart").replace("%i", "8081").replace("%l", "host");
        let words: Vec<&str> = start.split(' ').collect();
        assert_eq!(words[..2], ["/usr/local/bin/throng", command], "{unit}");
        let parsed =
            cli::parse(words.iter().map(Into::into)).unwrap_or_else(|stop| panic!("{unit}: {stop:?}"));
        assert_eq!(matches!(parsed, Command::Balance(_)), command == "balance", "{unit}");
        let config = format!("--config /etc/throng/{file}");
        assert!(start.contains(&config), "{unit}");
        let reload: Vec<String> = section(unit, "Service")
            .into_iter()
            .filter_map(|(key, value)| (key == "ExecReload").then_some(value))
            .collect();
        assert!(reload[0].contains(&config) && reload[0].contains("--print-config"), "{unit}: {reload:?}");
        assert_eq!(reload[1], "/bin/kill -HUP $MAINPID", "{unit}");
        let read = ("EnvironmentFile".to_owned(), format!("-/etc/throng/{environment}"));
        assert!(section(unit, "Service").contains(&read), "{unit} does not read {environment}");
    }
}

#[test]
fn services_differ_in_what_they_run_only() {
    let shared = |unit: &str| -> BTreeSet<(String, String)> {
        section(unit, "Service").into_iter().filter(|(key, _)| !OWN.contains(&key.as_str())).collect()
    };
    for (unit, ..) in SERVICES {
        assert_eq!(shared(unit), shared("throng.service"), "{unit}");
    }
}

#[test]
fn exit_statuses_are_the_programs() {
    for (unit, ..) in SERVICES {
        assert_eq!(value(unit, "Service", "RestartPreventExitStatus"), cli::EXIT_USAGE.to_string(), "{unit}");
        assert_eq!(value(unit, "Service", "SuccessExitStatus"), EXIT_AT_ONCE.to_string(), "{unit}");
    }
}

#[test]
fn there_is_a_descriptor_for_every_connection() {
    for (unit, command, ..) in SERVICES {
        let descriptors: usize = value(unit, "Service", "LimitNOFILE").parse().unwrap();
        let needed = match command {
            "serve" => Config::default().max_connections,
            _ => 2 * BalanceConfig::default().max_connections,
        };
        assert!(descriptors > needed + 1024, "{unit}: {descriptors} for {needed}");
    }
}

#[test]
fn sockets_have_the_ports_they_stand_for() {
    let config = Config::default();
    let expected = [
        ("throng.socket", "http", config.port.to_string(), "throng.service"),
        ("throng-ws.socket", "ws", config.ws_port.unwrap().to_string(), "throng.service"),
        ("throng@.socket", "http", "%i".to_owned(), "throng@.service"),
        (
            "throng-balance.socket",
            "http",
            BalanceConfig::default().port.to_string(),
            "throng-balance.service",
        ),
    ];
    for (unit, name, port, service) in expected {
        assert_eq!(value(unit, "Socket", "FileDescriptorName"), name, "{unit}");
        assert_eq!(value(unit, "Socket", "ListenStream"), port, "{unit}");
        let keys: BTreeMap<String, String> = section(unit, "Socket").into_iter().collect();
        let started = keys.get("Service").cloned().unwrap_or_else(|| unit.replace(".socket", ".service"));
        assert_eq!(started, service, "{unit}");
        assert_eq!(keys.get("Accept"), None, "{unit}: the service accepts by itself");
    }
}

/// What a commented file would set if every line of it counted.
fn uncommented(name: &str) -> Vec<String> {
    let assigns = |line: &&str| {
        let key = line.split(['=', ' ']).next().unwrap_or_default();
        let is_key = key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        line.contains('=') && is_key && !key.is_empty()
    };
    let text = read(name);
    let lines = text.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
    lines.filter(assigns).map(str::to_owned).collect()
}

#[test]
fn configuration_files_are_understood_line_by_line() {
    fn check<C: Settings>(file: &str, environment: &str) {
        let lines = uncommented(file);
        assert!(!lines.is_empty(), "{file}");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("units-{file}"));
        fs::write(&path, lines.join("\n")).unwrap();
        let flags = || Flags { file: Some(path.clone()), values: Vec::new() };
        Loader::<C>::new(flags(), []).load().unwrap_or_else(|error| panic!("{file}: {error}"));
        let lines = uncommented(environment);
        assert!(!lines.is_empty(), "{environment}");
        for line in lines {
            let (name, value) = line.split_once('=').unwrap();
            let variables = [(name.into(), value.into())];
            let loaded = Loader::<C>::new(flags(), variables).load();
            let (_, sources) = loaded.unwrap_or_else(|error| panic!("{environment}: {line}: {error}"));
            assert!(
                value.is_empty() || format!("{sources:?}").contains(name),
                "{environment}: {name} has no effect"
            );
        }
    }
    check::<Config>("throng.toml", "throng.env");
    check::<BalanceConfig>("balance.toml", "throng-balance.env");
}

#[test]
fn every_line_of_an_environment_file_says_why() {
    for name in ["throng.env", "throng-balance.env", "throng.toml", "balance.toml", "sysctl.d/60-throng.conf"]
    {
        let text = read(name);
        let is_explained = |paragraph: &str| {
            let mut lines = paragraph.lines();
            lines.next().is_none_or(|first| first.starts_with("# "))
        };
        for paragraph in text.split("\n\n") {
            assert!(is_explained(paragraph), "{name}: {paragraph}");
        }
    }
}

/// The user that the service runs as is made when the image is booted: until then no file can be its group's.
#[test]
fn what_is_installed_for_an_image_can_be_read_by_the_service() {
    let root = std::env::temp_dir().join(format!("throng-install-{}", std::process::id()));
    let installed = std::process::Command::new(folder().join("install"))
        .args([OsStr::new("--binary"), OsStr::new("/bin/true"), OsStr::new("--root"), root.as_os_str()])
        .output()
        .unwrap();
    assert!(installed.status.success(), "{installed:?}");
    let mode = |name: &str| {
        let file = root.join("etc/throng").join(name);
        fs::metadata(file).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("throng.toml"), mode("balance.toml")), (0o644, 0o644));
    assert_eq!((mode("throng.env"), mode("throng-balance.env")), (0o600, 0o600), "secrets");
    fs::remove_dir_all(root).unwrap();
}
