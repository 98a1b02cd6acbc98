//! The command line. Owns flags, their defaults and their help; never opens a socket.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Drives a WebSocket server from one thread, over plain TCP or TLS, and says what it did: rates, latencies, messages lost,
/// duplicated or out of order, and what it cost the server (--pid) and the generator itself.
#[derive(Parser, Debug)]
#[command(
    name = "throng-load",
    version,
    after_help = "\
Examples:
  throng-load density --url ws://127.0.0.1:8080 --pid 4711 --connections 19000 --burst 4
  throng-load echo    --url ws://127.0.0.1:8080 --pid 4711 --connections 100 --depth 16
  throng-load fanout  --url ws://127.0.0.1:8080 --connections 1000 --depth 8
  throng-load echo    --url wss://127.0.0.1:8443 --ca ca.pem --connections 100 --depth 16
  throng-load connect --url wss://127.0.0.1:8443 --insecure --resume
  throng-load route   --url ws://127.0.0.1:8080 --connections 200 --depth 1 --json
  throng-load route   --url ws://127.0.0.1:8081 --peer-url ws://127.0.0.1:8082 --connections 100 --rate 10000

The generator takes a core of its own: give it one, and the server the other, with taskset.
Exit status: 0 when everything asked for arrived, 1 when something was lost, duplicated, reordered, corrupted or \
refused, 2 for a wrong command line."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Mode {
    /// Opens connections and leaves them idle: how much memory does one cost the server?
    Density(Density),
    /// Sends numbered messages that the server sends back: how many a second, how late, how fairly?
    Echo(Echo),
    /// One publisher, many subscribers: how many deliveries a second?
    Fanout(Fanout),
    /// Pairs of users, one sends to the other through the server: how many deliveries a second?
    Route(Route),
    /// Opens connections and closes them again, over and over: how many handshakes a second?
    Connect(Connect),
    /// Kills a node behind a balancer with SIGKILL: how long until its last client is served by another one?
    Failover(Failover),
}

impl Cli {
    pub(crate) fn common(&self) -> &Common {
        match &self.mode {
            Mode::Density(args) => &args.common,
            Mode::Echo(args) => &args.common,
            Mode::Fanout(args) => &args.common,
            Mode::Route(args) => &args.common,
            Mode::Connect(args) => &args.common,
            Mode::Failover(args) => &args.common,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Server to connect to, as ws://HOST:PORT or wss://HOST:PORT (the path has a flag of its own). With several,
    /// connections go to each in turn
    #[arg(long = "url", value_name = "URL", required = true)]
    pub(crate) urls: Vec<String>,
    /// Process id of the server on this machine: its CPU seconds and memory are reported, with those of its children
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Process id of another process whose CPU seconds are reported, such as a second node; may be repeated
    #[arg(long = "watch", value_name = "PID")]
    pub(crate) watched: Vec<u32>,
    /// With wss://: file of the certificates to trust, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// With wss://: trust whoever answers
    #[arg(long, conflicts_with = "ca")]
    pub(crate) insecure: bool,
    /// With wss://: speak only this version of TLS [default: the highest that both sides know]
    #[arg(long, value_name = "VERSION")]
    pub(crate) tls_version: Option<TlsVersion>,
    /// With wss://: resume earlier sessions where the server gave a ticket; each is used once
    #[arg(long)]
    pub(crate) resume: bool,
    /// Handshakes in flight while connections are being opened
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) open_window: u32,
    /// Seconds that opening all connections may take
    #[arg(long, default_value_t = 120)]
    pub(crate) open_timeout: u64,
    /// Seconds without a single message after which a run that still owes some is given up
    #[arg(long, default_value_t = 5)]
    pub(crate) stall_timeout: u64,
    /// Do not wait for a first message from the server before using a connection. By default one is awaited on
    /// every path that starts with /ws
    #[arg(long)]
    pub(crate) no_welcome: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsVersion {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
}

impl Common {
    /// The servers, for the report.
    pub(crate) fn url(&self) -> String {
        self.urls.join(",")
    }
}

#[derive(Args, Debug)]
pub(crate) struct Density {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections to open; at most what this process may have descriptors for
    #[arg(long, short = 'n', default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Path of the WebSocket
    #[arg(long, default_value = "/ws")]
    pub(crate) path: String,
    /// Give every connection a user_id of its own of this many bytes (8 to 128); anonymous without it
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=128))]
    pub(crate) user_id_bytes: Option<u32>,
    /// Messages to send on every connection, all at once, each to be answered, before memory is measured again
    #[arg(long, default_value_t = 0)]
    pub(crate) burst: u32,
    /// Text sent in the burst; every one must be answered by one message
    #[arg(long, default_value = r#"{"type":"ping"}"#)]
    pub(crate) burst_message: String,
    /// Seconds to hold the connections open before closing them
    #[arg(long, default_value_t = 0)]
    pub(crate) hold: u64,
    /// Seconds to wait at most for the server's memory to come to rest before it is read
    #[arg(long, default_value_t = 15)]
    pub(crate) settle_timeout: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Echo {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections to open
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Path of the WebSocket
    #[arg(long, default_value = "/echo")]
    pub(crate) path: String,
    /// Messages in flight per connection; they leave in one write, and the next ones when all are back
    #[arg(long, short = 'd', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) depth: u32,
    /// Bytes of payload in a message (16 to 1048576)
    #[arg(long, short = 's', default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub(crate) size: u32,
    /// Send binary messages instead of text
    #[arg(long)]
    pub(crate) binary: bool,
    /// Seconds to measure
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Milliseconds of traffic before the measurement starts
    #[arg(long, default_value_t = 500)]
    pub(crate) warmup_ms: u64,
    /// Messages a second, sent at even distances in turn on all connections whatever has come back, instead of as many
    /// as possible; latencies then count for each message alone
    #[arg(long, conflicts_with = "depth", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections that are being opened and closed at the same time
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Path of the WebSocket
    #[arg(long, default_value = "/echo")]
    pub(crate) path: String,
    /// Seconds to measure
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Milliseconds of traffic before the measurement starts
    #[arg(long, default_value_t = 500)]
    pub(crate) warmup_ms: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Failover {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Clients to connect through the balancer, over all nodes
    #[arg(long, short = 'n', default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Path of the WebSocket; ?client_id=… is added
    #[arg(long, default_value = "/ws")]
    pub(crate) path: String,
    /// Process id of the node to kill with SIGKILL when all clients are connected
    #[arg(long)]
    pub(crate) kill: u32,
    /// The instance id that this node sends in its welcomes
    #[arg(long)]
    pub(crate) instance: String,
    /// Seconds in which every client must have been welcomed by another instance
    #[arg(long, default_value_t = 30)]
    pub(crate) within: u64,
    /// Milliseconds of calm between the last client's welcome and the kill
    #[arg(long, default_value_t = 1000)]
    pub(crate) settle_ms: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Subscribers to open; the publisher is one connection more
    #[arg(long, short = 'n', default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Path of the subscribers' WebSocket
    #[arg(long, default_value = "/ws")]
    pub(crate) path: String,
    /// Path of the publisher's WebSocket [default: the same]
    #[arg(long)]
    pub(crate) publisher_path: Option<String>,
    /// Messages published at once; the next ones follow when every subscriber has all of them
    #[arg(long, short = 'd', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) depth: u32,
    /// Text the publisher sends; {seq} becomes `seq=` and eight hexadecimal digits, {fill} becomes padding.
    /// A subscriber counts every message that contains the number and ignores all others
    #[arg(long, default_value = r#"{"type":"broadcast","content":{"n":"{seq}","fill":"{fill}"}}"#)]
    pub(crate) publish_template: String,
    /// Bytes of the published text; {fill} makes up the difference
    #[arg(long, short = 's', default_value_t = 96, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub(crate) size: u32,
    /// Seconds to measure
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Milliseconds of traffic before the measurement starts
    #[arg(long, default_value_t = 500)]
    pub(crate) warmup_ms: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Route {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections to open: half of them are senders, a0 sends to b0, a1 to b1 and so on
    #[arg(long, short = 'n', default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) connections: u32,
    /// Path of the WebSocket; ?user_id=… is added
    #[arg(long, default_value = "/ws")]
    pub(crate) path: String,
    /// Messages in flight per pair; they leave in one write, and the next ones when all have arrived
    #[arg(long, short = 'd', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) depth: u32,
    /// Text a sender sends; {target} becomes the receiver's user id, {seq} and {fill} as for fanout
    #[arg(
        long,
        default_value = r#"{"type":"send_message","target_user":"{target}","content":{"n":"{seq}","fill":"{fill}"}}"#
    )]
    pub(crate) send_template: String,
    /// Bytes of the text that is sent; {fill} makes up the difference
    #[arg(long, short = 's', default_value_t = 128, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    pub(crate) size: u32,
    /// Seconds to measure
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Milliseconds of traffic before the measurement starts
    #[arg(long, default_value_t = 500)]
    pub(crate) warmup_ms: u64,
    /// Another node of the cluster, to which receivers connect, so that messages cross between nodes
    #[arg(long)]
    pub(crate) peer_url: Option<String>,
    /// Percentage of pairs whose receiver is on the other node; the others are pairs on one node
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) peer_share: u32,
    /// Seconds until every receiver must be reachable from its sender, with --peer-url; only then it is measured
    #[arg(long, default_value_t = 30)]
    pub(crate) routable_timeout: u64,
    /// Messages a second, sent at even distances in turn by all senders whatever has arrived, instead of as many as
    /// possible; latencies then count for each message alone
    #[arg(long, conflicts_with = "depth", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
}
