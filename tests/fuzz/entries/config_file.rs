//! Configuration files: refused in one line, or as valid as what is printed of them.

use super::{Entry, owned};
use std::fs;
use std::path::{Path, PathBuf};
use throng::Config;
use throng::balancer::config::BalanceConfig;
use throng::config::{ConfigError, Flags, Loader, Settings, Sources, print};

pub(super) const ENTRY: Entry = Entry {
    name: "config_file",
    samples,
    words: &[
        "port = ",
        "labels = { a = \"b\" }",
        "[labels]\n",
        "trusted_proxies = [\"10.0.0.0/8\"]\n",
        "connections_per_address = \"10/60\"\n",
        "subprotocols = ['chat']\n",
        "outbound_bytes_max = \"1MiB\"\n",
        "slow_consumer = \"drop_newest\"\n",
        "log_level = \"info,throng=debug\"\n",
        "backends = [\"a:1,weight=2,max=3\", \"[::1]:80\"]\n",
        "backends_dns = \"nodes:80\"\n",
        "strategy = \"ip_hash\"\n",
        "bind = \"::\"\n",
        "= ",
        "\n",
        "\"\"\"",
        "'",
        "0x",
        "1979-05-27T07:32:00Z",
        "inf",
        "30s",
        "500ms",
        "64KiB",
        "true",
        "[[a]]",
        "{",
        "}",
        "\\u0000",
    ],
    check,
    // What is accepted is printed and read again; many tiny tables take the most for their size.
    memory: (256 * 1024, 512),
};

fn samples() -> Vec<Vec<u8>> {
    let mut samples = owned(&[
        "",
        "port = 9000\nws_port = 0\nbind = \"127.0.0.1\" # here only\nreactors = 2\n",
        "heartbeat_interval = \"5s\"\nheartbeat_timeout = \"12s\"\nmessage_bytes_max = \"64KiB\"\ncompression = false\n",
        "trusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]\nallowed_origins = ['https://a.example']\n\n[labels]\nzone = 'a=1'\n",
    ]);
    let defaults = Config { reactors: 2, ..Config::default() };
    samples.push(print(&defaults, &Sources::default()).into_bytes());
    let balance = BalanceConfig { reactors: 2, backends: vec!["a:1".to_owned()], ..BalanceConfig::default() };
    samples.push(print(&balance, &Sources::default()).into_bytes());
    samples
}

fn load<C: Settings>(path: &Path, text: &[u8]) -> Result<(C, Sources), ConfigError> {
    fs::write(path, text).expect("a temporary file");
    Loader::new(Flags { file: Some(path.to_owned()), values: Vec::new() }, []).load()
}

/// A file for each thread that asks, in memory where there is such a place.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    folder.join(format!("throng-fuzz-{}-{thread}.toml", std::process::id()))
}

fn check(input: &[u8]) -> bool {
    check_as::<Config>(input) | check_as::<BalanceConfig>(input)
}

fn check_as<C: Settings>(input: &[u8]) -> bool {
    let path = scratch();
    let loaded = load::<C>(&path, input);
    let accepted = loaded.is_ok();
    match loaded {
        Ok((config, sources)) => {
            assert_eq!(config.validate(), Ok(()));
            let (again, _) = load::<C>(&path, print(&config, &sources).as_bytes()).expect("what was printed");
            assert_eq!(again, config, "what was printed means something else");
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.chars().any(char::is_control), "not one line: {line:?}");
            assert!(line.len() <= 4 * input.len() + 500, "{} bytes", line.len());
        }
    }
    fs::remove_file(path).expect("the temporary file");
    accepted
}
