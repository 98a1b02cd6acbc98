//! `throng health URL`: asks whether a server is well, for the health check of
//! a container that has no other HTTP client.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, value_parser};
use tungstenite::http::Uri;

use super::target::port;

/// Of an answer only the status line is looked at; it is not longer than this.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// Exit status for a command line that cannot be used.
const EXIT_USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  throng health
      the node of this machine or container: port PORT, else 8080
  throng health http://127.0.0.1:8080/readyz --timeout 1s
      fails while the node drains
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
            Arg::new("quiet")
                .long("quiet")
                .short('q')
                .action(clap::ArgAction::SetTrue)
                .value_parser(value_parser!(bool))
                .help("Print nothing when it is well"),
        )
}

/// Asks, says what was answered, and returns the exit status.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let url = match matches.get_one::<Uri>("url") {
        Some(url) => url.clone(),
        None => match default_url(std::env::var("PORT").ok().as_deref()) {
            Ok(url) => url,
            Err(error) => return say(EXIT_USAGE, &error),
        },
    };
    let timeout = matches.get_one::<Duration>("timeout").copied().unwrap_or(Duration::from_secs(3));
    match ask(&url, timeout) {
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

/// Whether the time was up, which a socket with a timeout calls "try again".
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn say(code: u8, error: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "throng: {error}");
    ExitCode::from(code)
}

fn default_url(port: Option<&str>) -> Result<Uri, String> {
    let port = port.unwrap_or("8080");
    let port: u16 = port.parse().map_err(|_| format!("PORT: {port:?} is not a port"))?;
    parse_url(&format!("http://127.0.0.1:{port}/health"))
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.host(), port(&uri)) {
        (Some("http"), Some(host), Ok(_)) if !host.is_empty() => Ok(uri),
        _ => Err("expected a URL such as http://127.0.0.1:8080/health; TLS is not spoken".to_owned()),
    }
}

/// The status of the answer to a GET.
///
/// # Errors
/// No connection, no answer within `timeout`, or not one of HTTP.
fn ask(url: &Uri, timeout: Duration) -> io::Result<u16> {
    let deadline = Instant::now() + timeout.min(Duration::from_secs(24 * 3600));
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(80);
    let mut stream = connect(host.trim_matches(['[', ']']), port, deadline)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nAccept: */*\r\n\
         User-Agent: throng/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let mut bytes = [0; 256];
        let count = stream.read(&mut bytes)?;
        answer.extend_from_slice(&bytes[..count]);
        if let Some(end) = answer.iter().position(|byte| *byte == b'\n') {
            return status(&answer[..end]).ok_or_else(|| io::Error::other("the answer is not HTTP"));
        }
        if count == 0 || answer.len() > STATUS_LINE_BYTES_MAX {
            return Err(io::Error::other("the answer is not HTTP"));
        }
    }
}

fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
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
    fn the_default_is_the_node_of_this_machine() {
        assert_eq!(default_url(None).unwrap().to_string(), "http://127.0.0.1:8080/health");
        assert_eq!(default_url(Some("9000")).unwrap().to_string(), "http://127.0.0.1:9000/health");
        assert!(default_url(Some("x")).unwrap_err().contains("PORT"));
        assert!(parse_url("https://host/").is_err() && parse_url("/health").is_err());
        assert!(parse_url("http://host:99999/").is_err());
    }
}
