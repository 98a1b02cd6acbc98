//! The flags of `throng client`, and what its help teaches.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, value_parser};

use crate::client::options::CONNECTIONS_MAX;

const EXAMPLES: &str = "\
Examples:
  throng client --user-id alice
      type JSON or text and see what comes back; Ctrl-D ends
  echo '{\"type\":\"ping\"}' | throng client --quiet
      send lines, print the answers, end when all are answered
  throng client --name worker --simulate
      random messages both ways, until Ctrl-C; shows every notice and reconnect
  throng client --url wss://gateway.example/ws --connections 1000 --interval 5s --duration 1m --json
      a thousand connections for a minute, events and the summary as JSON lines
  SERVER_URL=ws://gateway:8080/ws throng client --simulate --messages 100
      each message until the server confirmed it, then the end; nothing may be missing

Reconnecting: the first wait is anything up to --backoff-first, doubled by each failure up to
--backoff-max. A server that leaves says when to come back (reconnect_after_ms of its notice), and
one that is full does (Retry-After); both are obeyed. 4xx answers other than 408, 425 and 429, an
answer that is not WebSocket, the close codes 4001 to 4003 and, on a connection that was never open,
a TLS error are a refusal for good.
Closed with 4010, its token has expired: it comes back with what --token-file then holds, and after
it was connected once goes on trying when that is refused with 401.

Business messages (--interval, --simulate) are numbered, and confirmed by the server's echo; what is
not confirmed when a connection is lost is sent again on the next one. Numbered messages of the
server (throng serve --simulate) are checked for gaps, duplicates, and for those its notice announced.

While lines come from a pipe, answers go to stdout and all else to stderr. One Ctrl-C (or SIGTERM,
or SIGHUP) closes with a handshake and prints the summary, a second one ends at once.

Exit status: 0 all is well, 1 something that was announced or sent is missing or a connection was
never open, 2 the command line cannot be used, 3 refused for good, 130 ended by a second Ctrl-C.";

/// The command as it is known to the command line.
pub fn command() -> clap::Command {
    clap::Command::new("client")
        .about("Connect to a server and stay connected, whatever happens to it")
        .after_help(EXAMPLES)
        .args(connection_args())
        .args(business_args())
        .args(waiting_args())
        .args(output_args())
}

fn connection_args() -> [Arg; 6] {
    [
        text("url", "URL", "ws:// or wss:// [env: SERVER_URL] [default: ws://localhost:8080/ws]"),
        text(
            "name",
            "NAME",
            "Name of the client, sent as name in the query; with several connections \
             numbered at its end or where %n stands [default: client- and a random number]",
        ),
        text(
            "user-id",
            "ID",
            "User of the connections, sent as user_id in the query; %n stands for a connection's number",
        ),
        flag_with(
            "token-file",
            "FILE",
            "File with the token that says who the user is, read at each attempt to connect; %n stands \
             for a connection's number [env: THRONG_TOKEN, the token itself]",
        )
        .value_parser(value_parser!(PathBuf)),
        flag_with("connections", "N", "How many connections to keep")
            .value_parser(value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))
            .default_value("1"),
        flag_with("ca-file", "FILE", "Certificates to trust for wss://, PEM [default: those of the machine]")
            .value_parser(value_parser!(PathBuf)),
    ]
}

fn business_args() -> [Arg; 4] {
    [
        duration(
            "interval",
            "Send a business message each interval; with --simulate the mean [default with --simulate or --messages: 1s]",
        ),
        switch("simulate", "Send random strings and JSON objects at random intervals"),
        flag_with(
            "messages",
            "N",
            "End when each connection has sent this many business messages and all are confirmed",
        )
        .value_parser(value_parser!(u64).range(1..)),
        duration("duration", "End after this"),
    ]
}

fn waiting_args() -> [Arg; 7] {
    [
        duration("backoff-first", "Longest wait after the first failure").default_value("1s"),
        duration("backoff-max", "Longest wait after any failure").default_value("30s"),
        switch("keep-trying", "Go on trying after a refusal for good"),
        duration("connect-timeout", "For a connection, and for the handshake on it").default_value("10s"),
        duration(
            "heartbeat",
            "Ask a silent server for a sign of life after this, give it up after as long again",
        )
        .default_value("20s"),
        duration("close-timeout", "At the end, for what is not confirmed and for the closing handshake")
            .default_value("3s"),
        duration("linger", "After the last line of a pipe was taken in, wait so long for answers")
            .default_value("200ms"),
    ]
}

fn output_args() -> [Arg; 5] {
    [
        switch("json", "Print events, messages and the summary as JSON lines"),
        switch("quiet", "Print messages and the summary only"),
        duration("status", "Print the sums so far each DURATION"),
        switch(
            "interactive",
            "Send what is typed or piped in, whatever the other flags; on every connection",
        ),
        switch(
            "print-messages",
            "Print received messages although business is made up or there are many connections",
        ),
    ]
}

fn flag_with(name: &'static str, form: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(form).help(help)
}

fn text(name: &'static str, form: &'static str, help: &'static str) -> Arg {
    flag_with(name, form, help)
}

fn duration(name: &'static str, help: &'static str) -> Arg {
    flag_with(name, "DURATION", help).value_parser(parse_duration)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

/// A duration of at least a millisecond and at most a year.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| format!("{error}; such as 500ms or 2m"))?;
    let allowed = Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 3600);
    if allowed.contains(&span) { Ok(span) } else { Err("expected 1ms to 1year".to_owned()) }
}
