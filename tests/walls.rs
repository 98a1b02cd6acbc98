//! Keeps the layers apart: a pure module that names a socket, a thread, a
//! clock or a layer above it fails here.

use std::fs;
use std::path::{Path, PathBuf};

/// What no pure module may name: I/O, threads, clocks.
const SHELL: &[&str] = &[
    "mio::",
    "std::net::Tcp",
    "std::net::Udp",
    "socket2::",
    "std::thread",
    "thread::spawn",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "signal_hook",
];

/// A layer: its files, and the modules above it that it must not know.
const LAYERS: &[(&[&str], &[&str])] = &[
    (
        &["ws"],
        &[
            "crate::hub",
            "crate::reactor",
            "crate::server",
            "crate::admin",
            "crate::protocol",
            "crate::config",
        ],
    ),
    (
        &["protocol", "http", "forwarded", "limiter", "page"],
        &["crate::hub", "crate::reactor", "crate::server", "crate::admin"],
    ),
    (&["hub", "drain"], &["crate::reactor", "crate::server", "crate::ws", "crate::http", "crate::config"]),
    (
        &[
            "cluster/wire",
            "cluster/streams",
            "cluster/router",
            "cluster/sources",
            "cluster/complaints",
            "cluster/publisher/changes",
            "cluster/publisher/backoff",
        ],
        &["crate::server", "crate::admin", "crate::http", "crate::config"],
    ),
    (
        &[
            "balancer/frames",
            "balancer/head",
            "balancer/proxy_protocol",
            "balancer/api",
            "balancer/view",
            "balancer/ended",
        ],
        &[
            "crate::reactor",
            "crate::server",
            "crate::hub",
            "crate::config",
            "balancer::reactor",
            "balancer::director",
            "balancer::config",
        ],
    ),
    (&["auth"], &["crate::reactor", "crate::server", "crate::hub", "crate::admin", "crate::config"]),
    (
        &["tls/session", "tls/sessions", "tls/steps", "tls/channel", "tls/validity", "tls/peers"],
        &[
            "crate::reactor",
            "crate::server",
            "crate::hub",
            "crate::admin",
            "crate::config",
            "crate::balancer",
        ],
    ),
    (&["reactor/expiry"], &["crate::server", "crate::hub", "crate::admin", "crate::http"]),
    (&["admin"], &["crate::reactor", "crate::server", "crate::ws", "crate::hub"]),
    (
        &["balancer/pick", "balancer/health", "balancer/roster"],
        &[
            "crate::reactor",
            "crate::server",
            "crate::hub",
            "crate::admin",
            "crate::config",
            "balancer::director",
            "balancer::reactor",
        ],
    ),
    (
        &["cluster/target", "cluster/connect/slots", "cluster/connect/batch", "cluster/connect/eviction"],
        &["crate::reactor", "crate::server", "crate::hub", "crate::admin", "crate::config"],
    ),
    (
        &[
            "client/backoff",
            "client/business",
            "client/ledger",
            "client/message",
            "client/program/editor",
            "client/refusal",
            "client/summary",
            "client/target",
        ],
        &["crate::reactor", "crate::server", "crate::hub", "crate::admin", "crate::config"],
    ),
    (
        &["balancer/config"],
        &["crate::reactor", "crate::server", "crate::service", "crate::hub", "crate::admin", "crate::http"],
    ),
    (
        &["ids", "limits", "clock", "delivery", "stamp", "trace", "metrics/timing", "metrics/traffic"],
        &["crate::reactor", "crate::server", "crate::hub", "crate::ws", "crate::admin"],
    ),
];

/// The file of a module and all files below its folder.
fn files_of(module: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let file = src.join(format!("{module}.rs"));
    if file.exists() {
        found.push(file);
    }
    let mut folders = vec![src.join(module)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "module {module} has no files");
    found
}

/// The code of a file without comments and without its tests.
fn code(path: &Path) -> String {
    if path
        .file_name()
        .is_some_and(|name| name == "tests.rs" || name == "oracle.rs" || name == "simulation.rs")
    {
        return String::new();
    }
    let text = fs::read_to_string(path).expect("a readable file");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn pure_modules_name_no_shell_and_no_layer_above() {
    let mut faults = Vec::new();
    for (modules, above) in LAYERS {
        for path in modules.iter().flat_map(|module| files_of(module)) {
            let code = code(&path);
            for name in SHELL.iter().chain(*above).filter(|name| code.contains(*name)) {
                faults.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_the_reactor_and_the_listener_touch_client_sockets() {
    let mut faults = Vec::new();
    for module in ["server", "service", "config", "cli", "logging", "signals", "identity", "metrics"] {
        for path in files_of(module) {
            let code = code(&path);
            for name in
                ["TcpStream", "mio::Poll", "mio::Registry"].iter().filter(|name| code.contains(**name))
            {
                faults.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_wall_notices_a_breach() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reactor/mod.rs");
    let code = code(&path);
    assert!(
        SHELL.iter().any(|name| code.contains(name)),
        "the reactor is a shell, so the search must find it"
    );
}
