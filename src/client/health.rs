//! `throng health URL`: asks whether a server is well, for the health check of
//! a container that has no other HTTP client.

mod wire;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use tungstenite::http::Uri;

use super::target::port;
use wire::{Belief, Wire};

/// Of an answer only the status line is looked at; it is not longer than this.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// Exit status for a command line that cannot be used.
const EXIT_USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  throng health
      the node of this machine or container: port PORT, else 8080, by TLS if THRONG_TLS_CERT says so
  throng health http://127.0.0.1:8080/readyz --timeout 1s
      fails while the node drains
  throng health https://gateway.example/livez
      fails as well if the certificate is not for that name, or has expired
  HEALTHCHECK CMD [\"throng\", \"health\"]
      in a Dockerfile

Exit status: 0 the answer is 200, 1 it is another or there is none, 2 the command line cannot be used.";

/// The command as it is known to the command line.
pub fn command() -> clap::Command {
    clap::Command::new("health")
        .about("Ask a server over HTTP whether it is well")
        .after_help(EXAMPLES)
        .arg(Arg::new("url").value_name("URL").value_parser(parse_url).help(
            "What to GET [default: http://127.0.0.1:PORT/health, PORT from the environment, else 8080]",
        ))
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("DURATION")
                .value_parser(humantime::parse_duration)
                .default_value("3s")
                .help("For everything"),
        )
        .arg(
            Arg::new("ca-file")
                .long("ca-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Certificates to trust for https://, PEM [default: those of the machine]"),
        )
        .arg(
            Arg::new("insecure")
                .long("insecure")
                .action(ArgAction::SetTrue)
                .conflicts_with("ca-file")
                .help("Believe any certificate, as is done without URL"),
        )
        .arg(
            Arg::new("quiet")
                .long("quiet")
                .short('q')
                .action(ArgAction::SetTrue)
                .help("Print nothing when it is well"),
        )
}

/// Asks, says what was answered, and returns the exit status.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let (url, belief) = match matches.get_one::<Uri>("url") {
        Some(url) => (url.clone(), belief(matches)),
        None => match default_url(|name| std::env::var(name).ok()) {
            // It is this machine's own, by an address that is in no certificate.
            Ok(url) => (url, Belief::Anybody),
            Err(error) => return say(EXIT_USAGE, &error),
        },
    };
    let timeout = matches.get_one::<Duration>("timeout").copied().unwrap_or(Duration::from_secs(3));
    match ask(&url, &belief, timeout) {
        Ok(200) if matches.get_flag("quiet") => ExitCode::SUCCESS,
        Ok(200) => {
            // Whoever closed the stream does not want to know.
            let _ = writeln!(io::stdout(), "{url} answered 200");
            ExitCode::SUCCESS
        }
        Ok(status) => say(1, &format!("{url} answered {status}")),
        Err(error) if is_late(&error) => say(1, &format!("{url}: no answer in time")),
        Err(error) => say(1, &format!("{url}: {error}")),
    }
}

fn belief(matches: &ArgMatches) -> Belief {
    match matches.get_one::<PathBuf>("ca-file") {
        Some(file) => Belief::Authorities(Some(file.clone())),
        None if matches.get_flag("insecure") => Belief::Anybody,
        None => Belief::Authorities(None),
    }
}

/// Whether the time was up, which a socket with a timeout calls "try again".
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn say(code: u8, error: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "throng: {error}");
    ExitCode::from(code)
}

/// The server that this environment starts.
fn default_url(variable: impl Fn(&str) -> Option<String>) -> Result<Uri, String> {
    let port = variable("PORT").unwrap_or_else(|| "8080".to_owned());
    let port: u16 = port.parse().map_err(|_| format!("PORT: {port:?} is not a port"))?;
    let is_tls = variable("THRONG_TLS_CERT").is_some_and(|file| !file.is_empty())
        && variable("THRONG_TLS_LISTENER").is_none_or(|listener| listener != "ws");
    let scheme = if is_tls { "https" } else { "http" };
    parse_url(&format!("{scheme}://127.0.0.1:{port}/health"))
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.host(), port(&uri)) {
        (Some("http" | "https"), Some(host), Ok(_)) if !host.is_empty() => Ok(uri),
        _ => Err("expected a URL such as http://127.0.0.1:8080/health".to_owned()),
    }
}

/// The status of the answer to a GET.
///
/// # Errors
/// No connection, no answer within `timeout`, one whom `belief` does not cover,
/// or not one of HTTP.
fn ask(url: &Uri, belief: &Belief, timeout: Duration) -> io::Result<u16> {
    let deadline = Instant::now() + timeout.min(Duration::from_secs(24 * 3600));
    let tls = (url.scheme_str() == Some("https")).then_some(belief);
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let mut wire = Wire::open(host.trim_matches(['[', ']']), port, tls, deadline)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nAccept: */*\r\n\
         User-Agent: throng/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    wire.write_all(request.as_bytes())?;
    wire.flush()?;
    read_status(&mut wire)
}

fn read_status(wire: &mut impl Read) -> io::Result<u16> {
    let mut answer = Vec::new();
    loop {
        let mut bytes = [0; 256];
        let count = wire.read(&mut bytes)?;
        answer.extend_from_slice(&bytes[..count]);
        if let Some(end) = answer.iter().position(|byte| *byte == b'\n') {
            return status(&answer[..end]).ok_or_else(|| io::Error::other("the answer is not HTTP"));
        }
        if count == 0 || answer.len() > STATUS_LINE_BYTES_MAX {
            return Err(io::Error::other("the answer is not HTTP"));
        }
    }
}

/// `HTTP/1.1 200 OK` (RFC 9112, section 4).
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let digits = rest.get(..3)?;
    (version.starts_with("HTTP/1.") && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read() {
        let check = |line: &str, expected| assert_eq!(status(line.as_bytes()), expected, "{line}");
        check("HTTP/1.1 200 OK\r", Some(200));
        check("HTTP/1.0 503", Some(503));
        check("HTTP/1.1 20", None);
        check("HTTP/2 200", None);
        check("SSH-2.0-OpenSSH", None);
        check("HTTP/1.1 +20 x", None);
        check("", None);
    }

    #[test]
    fn the_default_is_the_server_of_this_environment() {
        let check = |variables: &[(&str, &str)], expected: &str| {
            let of = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let url = default_url(of).map_or_else(|error| error, |url| url.to_string());
            assert!(url.starts_with(expected), "{variables:?}: {url}");
        };
        check(&[], "http://127.0.0.1:8080/health");
        check(&[("PORT", "9000")], "http://127.0.0.1:9000/health");
        check(&[("PORT", "x")], "PORT: ");
        let tls = ("THRONG_TLS_CERT", "/tls/tls.crt");
        check(&[tls], "https://127.0.0.1:8080/health");
        check(&[tls, ("THRONG_TLS_LISTENER", "http"), ("PORT", "9000")], "https://127.0.0.1:9000/health");
        check(&[tls, ("THRONG_TLS_LISTENER", "ws")], "http://127.0.0.1:8080/health");
        check(&[("THRONG_TLS_CERT", "")], "http://");
    }

    #[test]
    fn urls_are_of_http() {
        assert!(parse_url("https://host/").is_ok() && parse_url("http://[::1]:80").is_ok());
        for wrong in ["/health", "ws://host/", "http://host:99999/", "host:80"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
