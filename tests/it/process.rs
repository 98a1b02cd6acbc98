//! The program on the command line.

use std::path::PathBuf;

use serde_json::Value;

use crate::node::{Launch, Node};
use crate::socket::Socket;

/// A file of this test, removed when dropped.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        let file = File(path);
        file.write(text);
        file
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What is left in the build directory harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Exit status and stderr of a process that does not serve.
pub(crate) fn refused(launch: &Launch) -> (Option<i32>, Vec<String>) {
    let mut process = launch.spawn();
    assert_eq!(process.stdout_line(), None, "it says nothing on stdout");
    let stderr = process.rest_of_stderr();
    (process.wait().code(), stderr)
}

#[test]
fn a_mistake_is_one_line_and_exit_status_2() {
    let check = |launch: &Launch, mentions: &str| {
        let (code, stderr) = refused(launch);
        assert_eq!((code, stderr.len()), (Some(2), 1), "{stderr:#?}");
        assert!(stderr[0].starts_with("throng: ") && stderr[0].contains(mentions), "{stderr:?}");
    };
    check(&Launch::bare(&[]), "serve");
    check(&Launch::bare(&["server"]), "serve");
    check(&Launch::serve(&["--prot", "1"]), "--port");
    check(&Launch::serve(&["--port", "70000"]), "port");
    check(&Launch::serve(&["--heartbeat-interval", "soon"]), "heartbeat");
    check(&Launch::serve(&["--heartbeat-interval", "2m", "--heartbeat-timeout", "1m"]), "heartbeat");
    check(&Launch::serve(&[]).variable("THRONG_MAX_CONNECTION", "1"), "THRONG_MAX_CONNECTIONS");
    check(&Launch::serve(&[]).variable("THRONG_SLOW_CONSUMER", "ignore"), "drop-newest");
    check(&Launch::serve(&["--config", "/nowhere/throng.toml"]), "/nowhere/throng.toml");
    let file = File::new("unknown-key.toml", "max_connections = 7\nlame_dick = \"3s\"\n");
    check(&Launch::serve(&["--config", file.path()]), "lame_duck");
}

#[test]
fn a_second_node_on_the_same_port_is_refused() {
    let first = Node::start(&["--reactors", "2"]);
    let port = first.http.port().to_string();
    for reactors in ["1", "2"] {
        let (code, stderr) = refused(&Launch::serve(&["--port", &port, "--reactors", reactors]));
        assert_eq!((code, stderr.len()), (Some(1), 1), "{stderr:#?}");
        assert!(stderr[0].contains(&port) && stderr[0].contains("in use"), "{stderr:?}");
    }
    let (code, stderr) = refused(&Launch::serve(&["--ws-port", &port]));
    assert_eq!((code, stderr.len()), (Some(1), 1), "{stderr:#?}");
    assert_eq!(first.get("/livez").status, 200);
}

#[test]
fn the_status_is_told_where_the_complaint_cannot_be() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, code) in [(&["--port", &port][..], 1), (&["--port", "none"], 2)] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_throng"))
            .env_clear()
            .args(["serve", "--bind", "127.0.0.1", "--ws-port", "off"])
            .args(args)
            .stderr(full)
            .status();
        assert_eq!(status.unwrap().code(), Some(code), "{args:?}");
    }
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let file = File::new("layers.toml", "node_id = \"file\"\nservice_name = \"file\"\nmax_connections = 1\n");
    let node = Launch::serve(&["--config", file.path(), "--node-id", "flag"])
        .variable("NODE_ID", "variable")
        .variable("SERVICE_NAME", "variable")
        .start();
    assert_eq!(node.id, "flag");
    assert_eq!(node.json("/health")["service"], "variable");
    let _only = node.socket("/ws");
    assert!(Socket::try_connect(node.http, "/ws", "").is_err_and(|answer| answer.status == 503));
}

#[test]
fn the_printed_configuration_is_a_file_that_says_the_same() {
    let print = |launch: &Launch| {
        let mut process = launch.spawn();
        let mut lines = Vec::new();
        while let Some(line) = process.stdout_line() {
            lines.push(line);
        }
        assert_eq!(process.wait().code(), Some(0));
        lines
    };
    let flags = ["--print-config", "--max-connections", "77", "--label", "a=b", "--drain-window", "7s"];
    let printed = print(&Launch::serve(&flags).variable("THRONG_ADMIN_TOKEN", "hush-hush"));
    let text = printed.join("\n");
    assert!(!text.contains("hush-hush") && text.contains("max_connections = 77"), "{text}");
    let file = File::new("printed.toml", &text);
    let again = print(&Launch::bare(&["serve", "--print-config", "--config", file.path()]));
    let values = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| !line.starts_with('#') && line.contains('=')).cloned().collect()
    };
    assert_eq!(values(&printed), values(&again));
}

#[test]
fn a_reload_changes_what_can_change_and_names_the_rest() {
    let file = File::new("reload.toml", "max_connections = 1\nservice_name = \"before\"\n");
    let node = Launch::serve(&["--config", file.path()]).start();
    let mut first = node.user("first");
    assert!(Socket::try_connect(node.http, "/ws", "").is_err());
    let text = "max_connections = 2\nservice_name = \"after\"\nmessages_per_second = 5\n";
    file.write(text);
    node.process.signal(libc::SIGHUP);
    let changed = node.process.log_line("reloaded: changed");
    assert!(changed.contains("max_connections") && changed.contains("messages_per_second"), "{changed}");
    assert!(!changed.contains("service_name"), "{changed}");
    let restart = node.process.log_line("need a restart");
    assert!(restart.contains("service_name") && !restart.contains("max_connections"), "{restart}");
    let mut second = node.user("second");
    for _ in 0..30 {
        second.send_text(r#"{"type":"ping"}"#);
    }
    while second.message().first != 0x88 {}
    first.assert_alive();
    assert_eq!(node.json("/health")["service"], "before");

    file.write("max_connections = 0\n");
    node.process.signal(libc::SIGHUP);
    let refused = node.process.log_line("not reloaded");
    assert!(refused.contains("max_connections"), "{refused}");
    file.write(text);
    node.process.signal(libc::SIGHUP);
    node.process.log_line("nothing changed");
    first.assert_alive();
}

#[test]
fn a_token_file_is_read_again_at_a_reload() {
    let file = File::new("token", "first\n");
    let node = Launch::serve(&["--admin-token-file", file.path()]).start();
    let kick = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        node.web().request("POST", "/api/kick", &header, r#"{"user_id":"nobody"}"#).status
    };
    assert_eq!((kick("first"), kick("second")), (200, 401));
    file.write("second\n");
    node.process.signal(libc::SIGHUP);
    node.process.log_line("reloaded: changed admin_token");
    crate::node::eventually("the new token counts", || (kick("first"), kick("second")) == (401, 200));
}

#[test]
fn the_log_says_who_the_node_is_and_where_it_listens() {
    let args = ["--log-format", "json", "--service-name", "shop", "--ws-port", "auto", "--lame-duck", "0s"];
    let mut node = Node::start(&args);
    node.process.signal(libc::SIGTERM);
    let lines = node.process.rest_of_stderr();
    assert_eq!(node.process.wait().code(), Some(0));
    let objects: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    let says = |what: &str| assert!(text.iter().any(|line| line.contains(what)), "no {what}: {lines:#?}");
    says("environment");
    says("shop-");
    says(&format!("http://{}", node.http));
    says(&format!("ws://{}", node.ws.unwrap()));
    says("drained in");
}

#[test]
fn help_and_version_are_on_stdout() {
    for (args, expected) in [
        (&["--version"][..], concat!("throng ", env!("CARGO_PKG_VERSION"))),
        (&["serve", "--help"], "Run a node: accept clients and deliver messages"),
    ] {
        let mut process = Launch::bare(args).spawn();
        assert_eq!(process.stdout_line().as_deref(), Some(expected));
        assert_eq!(process.wait().code(), Some(0));
        assert_eq!(process.rest_of_stderr(), Vec::<String>::new());
    }
}
