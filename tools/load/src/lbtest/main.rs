//! Load-balancing test: opens connections to a host and says which instances answered and whether they shared them.
//!
//! Owns the command line, the order of things and the exit status. Never speaks a protocol: `probe` does.

#[path = "../belief.rs"]
mod belief;
#[allow(dead_code, reason = "shared with the load generator, which speaks more of it")]
#[path = "../frame.rs"]
mod frame;
#[path = "../handshake.rs"]
mod handshake;
mod probe;
mod report;
mod spread;
mod token;
mod wire;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Connections were not shared evenly enough, or some failed.
const EXIT_NOT_SPREAD: u8 = 1;
/// The command line cannot be used.
const EXIT_USAGE: u8 = 2;
/// The host does not answer, or says that it cannot serve.
const EXIT_UNREACHABLE: u8 = 3;
/// Where nodes speak WebSocket on any path, unless told otherwise.
const WS_PORT_USUAL: u16 = 8765;

/// Opens connections to a host, through whatever stands before its nodes, and says which instance answered each.
#[derive(Parser, Debug)]
#[command(
    name = "throng-lbtest",
    version,
    after_help = "\
First GET /health is asked on the HTTP port. Then connections are opened to the HTTP port (--path) and to the WebSocket \
port (any path), and held until all have been opened. The instance is taken from the welcome that a node sends first. \
With --tls both ports speak it: https and wss. A token is shown when a connection is opened, not to /health.

Connections count as spread when at least two instances (or --instances) answered and no instance has less than half of \
its fair share (--min-share), unless chance alone explains it: with few connections drawn at random shares differ, so \
less than the share is forgiven while a chi-square test at 1 % sees no difference from an even draw.

Exit status: 0 spread; 1 not spread, or some connections failed; 2 wrong command line; 3 nothing answers, or /health \
says that the host cannot serve.

Examples:
  tools/lbtest                                      127.0.0.1, ports 8080 and 8765
  tools/lbtest --host lb.example --connections 1000 --concurrency 50
  tools/lbtest --ws-port off --instances 3 --json   for a script: one port, three must answer
  tools/lbtest --host gateway.example --http-port 443 --ws-port off --tls --token-file token
                                                    https and wss, and who comes shows a token"
)]
pub(crate) struct Cli {
    /// Host name or address to connect to
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port of HTTP and of the WebSocket on --path
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) http_port: u16,
    /// Port that speaks WebSocket on any path, or `off` [default: 8765, left out if nothing listens there]
    #[arg(long, value_parser = ws_port)]
    pub(crate) ws_port: Option<WsPort>,
    /// Connections to open on each port
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) connections: u32,
    /// Connections that are being opened at the same time
    #[arg(long, short = 'c', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) concurrency: u32,
    /// Seconds that a connection may take until its welcome
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
    /// Path of the WebSocket on the HTTP port; %n stands for a connection's number, from 1
    #[arg(long, default_value = "/ws", value_parser = path)]
    pub(crate) path: String,
    /// Speak TLS on both ports: https and wss
    #[arg(long)]
    pub(crate) tls: bool,
    /// Certificates to trust with --tls, PEM [default: those of the machine]
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long, requires = "tls", conflicts_with = "ca_file")]
    pub(crate) insecure: bool,
    /// File with the token that says who the user is, read for each connection; %n stands for a connection's number,
    /// from 1 [env: THRONG_TOKEN, the token itself]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Instances that must answer [default: any two]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) instances: Option<u32>,
    /// Part of its fair share that every instance must have, 0 to 1
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub(crate) min_share: f64,
    /// Source addresses in 127.0.0.0/8 to connect from in turn, as if so many clients were there; for hosts on loopback
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) sources: Option<u32>,
    /// Print no line per connection
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was said about the second port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WsPort {
    Off,
    Port(u16),
}

fn ws_port(text: &str) -> Result<WsPort, String> {
    match text {
        "off" | "0" => Ok(WsPort::Off),
        _ => text.parse().map(WsPort::Port).map_err(|_| "a port or off is expected".to_owned()),
    }
}

fn path(text: &str) -> Result<String, String> {
    handshake::request("host", text, "").map(|_| text.to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to 1 is expected".to_owned())
}

/// How the host is spoken with.
pub(crate) struct Access {
    pub(crate) tls: Option<wire::Tls>,
    pub(crate) token: Option<token::Token>,
}

impl Access {
    /// What the command line and the environment say. Reads the files they name.
    fn of(cli: &Cli) -> Result<Access, String> {
        let token = token::Token::of(cli.token_file.as_deref(), std::env::var(token::VARIABLE).ok())?;
        Ok(Access { tls: wire::Tls::of(cli)?, token })
    }
}

impl Cli {
    /// A scheme as it is called with or without TLS.
    pub(crate) fn scheme(&self, plain: &str) -> String {
        if self.tls { format!("{plain}s") } else { plain.to_owned() }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let access = match Access::of(&cli) {
        Ok(access) => access,
        Err(why) => return fail(&cli, EXIT_USAGE, &why),
    };
    match run(&cli, &access) {
        Ok(report) => {
            if cli.json {
                println!("{}", report.json());
            }
            ExitCode::from(if report.spread { 0 } else { EXIT_NOT_SPREAD })
        }
        Err(why) => fail(&cli, EXIT_UNREACHABLE, &why),
    }
}

fn fail(cli: &Cli, status: u8, why: &str) -> ExitCode {
    if cli.json {
        println!("{}", serde_json::json!({"host": cli.host, "error": why, "spread": false}));
    }
    eprintln!("lbtest: {why}");
    ExitCode::from(status)
}

/// Asks after the host's health, tries its ports, judges. Text is printed as it is known.
fn run(cli: &Cli, access: &Access) -> Result<report::Report, String> {
    let timeout = Duration::from_secs(cli.timeout);
    let health = probe::health(cli, access, timeout)?;
    if !cli.json {
        report::print_health(cli, &health);
    }
    let mut ports = vec![try_port(cli, access, cli.http_port, &cli.path)?];
    if let Some(port) = second_port(cli, timeout) {
        ports.push(try_port(cli, access, port, "/")?);
    }
    let report = report::Report::new(cli, health, ports);
    if !cli.json {
        report.print_verdict();
    }
    Ok(report)
}

/// The port beside the HTTP port. The usual one is left out where nobody listens; one that was asked for is tried.
fn second_port(cli: &Cli, timeout: Duration) -> Option<u16> {
    match cli.ws_port {
        Some(WsPort::Off) => None,
        Some(WsPort::Port(port)) => Some(port),
        None if cli.http_port == WS_PORT_USUAL => None,
        None => match probe::connect(&cli.host, WS_PORT_USUAL, None, timeout) {
            Ok(_) => Some(WS_PORT_USUAL),
            Err(_) => {
                if !cli.json {
                    println!("\nport {WS_PORT_USUAL}: nothing listens there, left out");
                }
                None
            }
        },
    }
}

fn try_port(cli: &Cli, access: &Access, port: u16, path: &str) -> Result<report::Port, String> {
    if !cli.json {
        println!("\n{}://{}:{port}{path}: {} connections", cli.scheme("ws"), cli.host, cli.connections);
    }
    let answers = probe::open(cli, access, port, path, |index, answer| {
        if !cli.json && !cli.quiet {
            report::print_answer(index, answer);
        }
    });
    let result = report::Port::new(cli, port, path, answers);
    match result.failure() {
        Some(why) => Err(format!("no connection to {}:{port} could be opened: {why}", cli.host)),
        None => {
            if !cli.json {
                result.print();
            }
            Ok(result)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_of_tls_is_for_tls() {
        let check = |line: &str, is_usable: bool| {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), is_usable, "{line}");
        };
        check("lbtest --tls --ca-file ca.pem --token-file token", true);
        check("lbtest --tls --insecure", true);
        check("lbtest --ca-file ca.pem", false);
        check("lbtest --insecure", false);
        check("lbtest --tls --insecure --ca-file ca.pem", false);
    }

    #[test]
    fn a_second_port_is_a_port_or_off() {
        let check = |text: &str, expected: Option<WsPort>| assert_eq!(ws_port(text).ok(), expected, "{text}");
        check("off", Some(WsPort::Off));
        check("0", Some(WsPort::Off));
        check("8765", Some(WsPort::Port(8765)));
        check("65536", None);
        check("on", None);
        assert!(share("0.5").is_ok() && share("1.1").is_err() && share("NaN").is_err());
    }
}
