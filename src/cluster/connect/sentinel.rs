//! Finding the master by asking sentinels.

use std::time::Instant;

use redis::Value;

use super::node::{Node, Protocol};
use super::{Address, LinkError, Settings};

/// Where the first sentinel that answers says the master is.
pub(super) fn master(settings: &Settings, sentinels: &[Address], name: &str) -> Result<Address, LinkError> {
    let mut last = LinkError::Settings("no sentinels are given".to_owned());
    for sentinel in sentinels {
        match ask(settings, sentinel, name) {
            Ok(address) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(settings: &Settings, sentinel: &Address, name: &str) -> Result<Address, LinkError> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let mut node = connect(settings, sentinel)?;
    let reply = node.ask(&command, Instant::now() + settings.connect_timeout)?;
    match reply {
        Value::Nil => Err(LinkError::Unavailable(format!("sentinel {sentinel} knows no master {name}"))),
        reply => {
            let (host, port) = redis::from_redis_value(reply)
                .map_err(|_| LinkError::Lost(format!("sentinel {sentinel} answered no address")))?;
            Ok(Address { host, port })
        }
    }
}

/// Sentinels seldom have a password, and sign nobody in without; one that has
/// takes that of the servers.
fn connect(settings: &Settings, sentinel: &Address) -> Result<Node, LinkError> {
    let connect = |credentials| {
        let settings =
            Settings { target: super::Target { database: 0, ..settings.target.clone() }, ..settings.clone() };
        Node::connect(sentinel, &settings, credentials, Protocol::Resp2, settings.connect_timeout)
    };
    match (connect(None), &settings.target.credentials) {
        (Err(LinkError::Refused(_)), Some(credentials)) => connect(Some(credentials)),
        (node, _) => node,
    }
}
