//! `throng balance` on the command line.

use super::configured;
use crate::balancer::config::BalanceConfig;

pub(super) const EXAMPLES: &str = "\
Examples:
  throng balance --backend node-1:8080 --backend node-2:8080
      clients on port 8080, spread over two nodes one after the other
  throng balance --backend a:8080,weight=3 --backend b:8080,weight=1,max=5000 --strategy least_connections
      three times as many to a as to b, and no more than 5000 to b
  throng balance --backends-dns throng-headless:8080 --strategy user_hash
      every pod behind a headless Service, each user always to the same one
  THRONG_BACKENDS='a:8080 b:8080' throng balance --port 9000
      the backends from the environment, separated by blanks or semicolons
  throng balance --backend a:8080 --print-config > balance.toml
      write what is in effect, with every key explained, as a file to edit

A key is taken from its flag, else from its variable, else from the file, else it has its default.
/web-loadbalancer.html shows the backends and who is connected to them; /api/backends says it to programs.
SIGTERM drains the balancer and ends it, a second one ends it at once; SIGHUP reads the file again.";

pub(super) fn command() -> clap::Command {
    configured::command::<BalanceConfig>("Run a load balancer in front of nodes", EXAMPLES)
}
