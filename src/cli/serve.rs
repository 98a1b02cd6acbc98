//! `throng serve` on the command line.

use super::configured;
use crate::config::Config;

pub(super) const EXAMPLES: &str = "\
Examples:
  throng serve
      HTTP and WebSockets on port 8080, WebSockets alone on port 8765
  throng serve --port 9000 --ws-port off --bind 127.0.0.1
      one port, this machine only
  throng serve --config throng.toml --log-format json
      most keys from a file; flags win over it
  THRONG_MAX_CONNECTIONS=500000 throng serve --private-fd-tables
      a key from the environment, and descriptors for many connections
  throng serve --print-config > throng.toml
      write what is in effect, with every key explained, as a file to edit

A key is taken from its flag, else from its variable, else from the file, else it has its default.
SIGTERM drains the node and ends it, a second one ends it at once; SIGHUP reads the file again.";

pub(super) fn command() -> clap::Command {
    configured::command::<Config>("Run a node: accept clients and deliver messages", EXAMPLES)
}
