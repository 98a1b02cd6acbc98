//! The layers together: precedence, every key through every layer, printing,
//! reloading.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::balancer::config::BalanceConfig;
use std::collections::BTreeMap;

mod values;

/// A file of its own for a test, deleted with the value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(text: &str) -> TempFile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("throng-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("temporary file");
        TempFile(path)
    }

    fn as_str(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn flags<C: Settings>(file: Option<&Path>, values: &[(&str, &[&str])]) -> Flags<C> {
    let flag = |(name, parts): &(&str, &[&str])| (key::find(name).expect("a key"), owned(parts));
    Flags { file: file.map(Path::to_owned), values: values.iter().map(flag).collect() }
}

fn owned(parts: &[&str]) -> Vec<String> {
    parts.iter().map(ToString::to_string).collect()
}

fn loader<C: Settings>(flags: Flags<C>, environment: &[(&str, &str)]) -> Loader<C> {
    let owned = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Loader::new(flags, owned.collect::<Vec<_>>())
}

fn load<C: Settings>(flags: Flags<C>, environment: &[(&str, &str)]) -> Result<(C, Sources), ConfigError> {
    loader(flags, environment).load()
}

/// The error of `throng serve`.
fn refused(flags: Flags<Config>, environment: &[(&str, &str)]) -> String {
    load(flags, environment).expect_err("refused").to_string()
}

#[test]
fn flags_over_environment_over_file_over_defaults() {
    let file = TempFile::new("port = 1\nnode_id = 'file'\nlabels = { file = '1' }\nservice_name = 'file'\n");
    let environment = [
        ("THRONG_PORT", "2"),
        ("PORT", "3"),
        ("NODE_ID", "plain"),
        ("THRONG_NODE_ID", "prefixed"),
        ("OTHER", "x"),
    ];
    let (config, sources): (Config, _) =
        load(flags(Some(&file.0), &[("port", &["4"])]), &environment).expect("valid");
    assert_eq!((config.port, sources.of("port")), (4, &Source::Flag("port")));
    assert_eq!(config.node_id.as_deref(), Some("prefixed"));
    assert_eq!(config.service_name, "file");
    assert_eq!(config.labels, BTreeMap::from([("file".to_owned(), "1".to_owned())]));
    assert_eq!((config.ws_port, sources.of("ws_port")), (Some(8765), &Source::Default));

    let (config, _): (Config, _) = load(flags(Some(&file.0), &[]), &environment).expect("valid");
    assert_eq!(config.port, 2);
    let (config, _): (Config, _) = load(flags(Some(&file.0), &[]), &[("PORT", "3")]).expect("valid");
    assert_eq!(config.port, 3);
    let (config, _): (Config, _) =
        load(flags(Some(&file.0), &[]), &[("THRONG_LABELS", "b=2")]).expect("valid");
    assert_eq!(config.labels.len(), 1, "a list is replaced as a whole");
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let (named, other) = (TempFile::new("port = 1"), TempFile::new("port = 2"));
    let (config, _): (Config, _) =
        load(flags(None, &[]), &[("THRONG_CONFIG", named.as_str())]).expect("valid");
    assert_eq!(config.port, 1);
    let (config, _): (Config, _) =
        load(flags(Some(&other.0), &[]), &[("THRONG_CONFIG", named.as_str())]).expect("valid");
    assert_eq!(config.port, 2);
}

#[test]
fn an_error_names_the_place() {
    let check = |values: &[(&str, &[&str])], environment: &[(&str, &str)], expected: &str| {
        assert_eq!(refused(flags(None, values), environment), expected);
    };
    check(&[("port", &["x"])], &[], r#"--port: "x" is not a whole number up to 65535"#);
    check(&[], &[("PORT", "x")], r#"PORT: "x" is not a whole number up to 65535"#);
    check(&[], &[("THRONG_REACTORS", "0")], "THRONG_REACTORS: 0 is not between 1 and 255");
    check(&[], &[("THRONG_PROT", "1")], "THRONG_PROT: is not known; did you mean THRONG_PORT?");
    check(
        &[("trusted_proxies", &["x"])],
        &[],
        "--trusted-proxy: \"x\" is not a network, such as 10.0.0.0/8, or an address",
    );
    check(&[("ws_port", &["8080"])], &[], "--ws-port: is the same as port; use off for a single port");
    // The file's key is the one in the way, whoever set the other.
    let file = TempFile::new("# limits\nmessage_bytes_max = '1MiB'\noutbound_bytes_max = '1MiB'\n");
    assert_eq!(
        refused(flags(Some(&file.0), &[]), &[]),
        format!(
            "{}:3: outbound_bytes_max: 1MiB is less than message_bytes_max and 4KiB (1028KiB)",
            file.as_str()
        )
    );
    let file = TempFile::new("port = 1\n\nheartbeat_interval = 30\n");
    assert_eq!(
        refused(flags(Some(&file.0), &[]), &[]),
        format!(
            r#"{}:3: heartbeat_interval: "30" is not a duration, such as 500ms, 30s or 2m"#,
            file.as_str()
        )
    );
}

#[test]
fn files_that_cannot_be_read() {
    assert_eq!(
        refused(flags(Some(Path::new("/nonexistent/t.toml")), &[]), &[]),
        "/nonexistent/t.toml: cannot be read: No such file or directory (os error 2)"
    );
    assert!(refused(flags(Some(Path::new("/")), &[]), &[]).starts_with("/: cannot be read: "));
    let large = TempFile::new(&"#".repeat(1024 * 1024 + 1));
    assert!(refused(flags(Some(&large.0), &[]), &[]).ends_with(": it is larger than 1048576 bytes"));
    let foreign = TempFile::new("");
    std::fs::write(&foreign.0, b"node_id = \"\xff\"").expect("written");
    assert!(refused(flags(Some(&foreign.0), &[]), &[]).ends_with(": is not UTF-8"));
}

#[test]
fn a_pipe_is_not_waited_for() {
    let pipe = TempFile::new("");
    std::fs::remove_file(&pipe.0).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&pipe.0).status().expect("mkfifo");
    assert!(made.success());
    for place in [flags(Some(&pipe.0), &[]), flags(None, &[("admin_token_file", &[pipe.as_str()])])] {
        assert!(refused(place, &[]).ends_with("cannot be read: it is no regular file"));
    }
}

#[test]
fn the_admin_token() {
    let token = TempFile::new(" from-file\n");
    let by_flag = || flags(None, &[("admin_token_file", &[token.as_str()])]);
    let shown = |config: &Config| config.admin_token.as_ref().map(|token| token.expose().to_owned());

    let (config, sources): (Config, _) = load(by_flag(), &[]).expect("valid");
    assert_eq!(shown(&config).as_deref(), Some("from-file"));
    assert_eq!(sources.of("admin_token"), &Source::Flag("admin-token-file"));

    let (config, _): (Config, _) =
        load(by_flag(), &[("THRONG_ADMIN_TOKEN", "from-variable")]).expect("valid");
    assert_eq!(shown(&config).as_deref(), Some("from-file"));

    let file = TempFile::new(&format!("admin_token_file = '{}'", token.as_str()));
    let (config, _) =
        load(flags(Some(&file.0), &[]), &[("THRONG_ADMIN_TOKEN", "from-variable")]).expect("valid");
    assert_eq!((shown(&config).as_deref(), config.admin_token_file), (Some("from-variable"), None));

    let both = [("THRONG_ADMIN_TOKEN", "x"), ("THRONG_ADMIN_TOKEN_FILE", token.as_str())];
    assert_eq!(
        refused(flags(None, &[]), &both),
        "THRONG_ADMIN_TOKEN_FILE: is set beside THRONG_ADMIN_TOKEN; set one of them"
    );
    let empty = TempFile::new(" \n");
    assert!(refused(flags(None, &[("admin_token_file", &[empty.as_str()])]), &[]).ends_with("is empty"));
    let spaced = TempFile::new("a b");
    assert_eq!(
        refused(flags(None, &[("admin_token_file", &[spaced.as_str()])]), &[]),
        "--admin-token-file: is not 1 to 4096 visible ASCII characters"
    );
    assert!(
        refused(flags(None, &[("admin_token_file", &["/nonexistent"])]), &[])
            .starts_with("--admin-token-file: ")
    );
}

/// Compares `text` with the file at `path` in the repository, or writes it
/// there when `UPDATE_GOLDEN` is set.
fn check_golden(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a directory")).expect("the directory");
        fs::write(&path, text).expect("the file");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{} is not up to date; run with UPDATE_GOLDEN=1:\n{text}", path.display());
}

#[test]
fn the_printed_configuration() {
    let values = flags(None, &[("reactors", &["2"]), ("labels", &["region=eu"]), ("drain_window", &["5s"])]);
    let environment = [("PORT", "9000"), ("THRONG_ADMIN_TOKEN", "s3cret")];
    let (config, sources): (Config, _) = load(values, &environment).expect("valid");
    check_golden("src/config/print-config.golden.toml", &print(&config, &sources));

    let values = flags(None, &[("reactors", &["2"]), ("strategy", &["ip_hash"])]);
    let environment = [("THRONG_BACKENDS", "a:1 b:2,weight=3;c:4"), ("THRONG_ADMIN_TOKEN", "s3cret")];
    let (config, sources): (BalanceConfig, _) = load(values, &environment).expect("valid");
    check_golden("src/balancer/config/print-config.golden.toml", &print(&config, &sources));
}

#[test]
fn commands_share_an_environment_but_no_file() {
    let environment = [("THRONG_BACKENDS", "a:1"), ("THRONG_NODE_ID", "n"), ("THRONG_PORT", "7")];
    let (node, sources): (Config, _) = load(flags(None, &[]), &environment).expect("valid");
    assert_eq!((node.port, node.node_id.as_deref()), (7, Some("n")));
    assert_eq!(sources.of("backends"), &Source::Default);
    let (balancer, _): (BalanceConfig, _) = load(flags(None, &[]), &environment).expect("valid");
    assert_eq!((balancer.port, balancer.backends), (7, vec!["a:1".to_owned()]));

    let unknown = load::<BalanceConfig>(flags(None, &[]), &[("THRONG_BACKEND", "a:1")]);
    let unknown = unknown.expect_err("unknown").to_string();
    assert_eq!(unknown, "THRONG_BACKEND: is not known; did you mean THRONG_BACKENDS?");

    let file = TempFile::new("port = 1\nbackends = ['a:1']\n");
    assert_eq!(
        refused(flags(Some(&file.0), &[]), &[]),
        format!("{}:2: backends is a key of throng balance, not of throng serve", file.as_str())
    );
}

#[test]
fn the_manual_is_up_to_date() {
    check_golden("docs/configuration.md", &manual());
}

#[test]
fn a_comment_stays_a_comment() {
    let sources = {
        let file = TempFile::new("port = 1");
        let odd = file
            .0
            .with_file_name(format!("{}\u{1}\nport = 2\n", file.0.file_name().expect("name").display()));
        fs::rename(&file.0, &odd).expect("renamed");
        let loaded = load::<Config>(flags(Some(&odd), &[]), &[]).expect("valid");
        fs::remove_file(odd).expect("removed");
        loaded.1
    };
    let printed = TempFile::new(&print(&Config::default(), &sources));
    assert_eq!(load::<Config>(flags(Some(&printed.0), &[]), &[]).expect("valid").0, Config::default());
}

#[test]
fn reloading_reads_the_file_again() {
    let file = TempFile::new("port = 1\nmax_connections = 10\nlog_level = 'warn'\n");
    let loader = loader::<Config>(flags(Some(&file.0), &[("log_level", &["debug"])]), &[]);
    let (old, _) = loader.load().expect("valid");
    fs::write(&file.0, "port = 2\nmax_connections = 20\nlog_level = 'error'\n").expect("written");
    let (new, _) = loader.load().expect("valid");
    let (merged, changed, restart) = old.with_live_changes(&new);
    assert_eq!((merged.port, merged.max_connections, merged.log_level.as_str()), (1, 20, "debug"));
    assert_eq!((changed, restart), (vec!["max_connections"], vec!["port"]));

    fs::write(&file.0, "port =").expect("written");
    assert!(loader.load().is_err());
}

#[test]
fn a_live_key_that_contradicts_one_that_waits_waits_too() {
    let small = Config { redis_host: Some("r".to_owned()), ..Config::default() };
    let alone = Config {
        message_bytes_max: 64 << 20,
        outbound_bytes_max: 65 << 20,
        lame_duck: small.drain_window,
        ..Config::default()
    };
    assert_eq!((small.validate(), alone.validate()), (Ok(()), Ok(())));
    let (merged, changed, waiting) = small.with_live_changes(&alone);
    assert_eq!((merged, changed), (small, vec![]));
    assert_eq!(waiting, ["message_bytes_max", "outbound_bytes_max", "lame_duck", "redis_host"]);
}
