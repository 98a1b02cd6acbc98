//! The connection for commands.

use std::time::Instant;

use redis::{Cmd, Value};

use super::batch::Batch;
use super::node::{Node, Protocol};
use super::routed::Routed;
use super::{Address, Arrangement, LinkError, Settings, eviction, sentinel};

/// The connection for commands, to one master or to those of a Redis Cluster.
///
/// Every call returns within [`Settings::response_timeout`], give or take the
/// time to receive a reply that comes in pieces. A command in a Redis Cluster
/// goes to the master that owns its first key's slot, is redirected once, and
/// is not sent twice unless the first server refused it.
pub struct Commands {
    settings: Settings,
    servers: Servers,
}

enum Servers {
    /// `None` after it was lost.
    One {
        address: Address,
        node: Option<Node>,
    },
    Cluster(Box<Routed>),
}

impl Commands {
    pub(super) fn open(settings: &Settings) -> Result<Commands, LinkError> {
        let servers = match &settings.target.arrangement {
            Arrangement::Cluster(seeds) => Servers::Cluster(Box::new(Routed::open(settings, seeds)?)),
            arrangement => {
                let address = find(settings, arrangement)?;
                let node = connect_master(settings, &address, Protocol::Resp2)?;
                Servers::One { address, node: Some(node) }
            }
        };
        Ok(Commands { settings: settings.clone(), servers })
    }

    /// The master this is connected to; `None` in a Redis Cluster, which has many.
    pub fn master(&self) -> Option<&Address> {
        match &self.servers {
            Servers::One { address, .. } => Some(address),
            Servers::Cluster(_) => None,
        }
    }

    /// Carries out one command.
    ///
    /// # Errors
    /// The server's answer if it is one, or why there is none.
    pub fn query(&mut self, command: &Cmd) -> Result<Value, LinkError> {
        let mut results = self.exchange(&Batch::of(std::slice::from_ref(command)));
        results.pop().unwrap_or_else(|| Err(LinkError::Lost("nothing was sent".to_owned())))
    }

    /// Carries out commands, all sent before the first reply is read. There is
    /// one result for each, in order; each has errors of its own.
    pub fn pipeline(&mut self, commands: &[Cmd]) -> Vec<Result<Value, LinkError>> {
        self.exchange(&Batch::of(commands))
    }

    /// Publishes each payload on its channel, sharded in a Redis Cluster.
    /// Each result is the number of subscriptions that it was handed to (in a
    /// Redis Cluster those on the channel's own servers, where all are).
    pub fn publish<C: AsRef<str>, P: AsRef<[u8]>>(
        &mut self,
        messages: &[(C, P)],
    ) -> Vec<Result<u64, LinkError>> {
        let sharded = matches!(self.servers, Servers::Cluster(_));
        let results = self.exchange(&Batch::publishing(messages, sharded));
        let receivers = |value| match value {
            Value::Int(receivers) => Ok(u64::try_from(receivers).unwrap_or_default()),
            _ => Err(LinkError::Lost("a reply to PUBLISH is not a number".to_owned())),
        };
        results.into_iter().map(|result| result.and_then(receivers)).collect()
    }

    /// The policy by which Redis throws away keys of ours when its memory is
    /// full; `None` if it does not, or if this user may not ask. In a Redis
    /// Cluster one server is asked.
    ///
    /// # Errors
    /// The connection's.
    pub fn evicting_policy(&mut self) -> Result<Option<String>, LinkError> {
        match self.query(redis::cmd("INFO").arg("memory")) {
            Ok(Value::BulkString(info)) => {
                let info = String::from_utf8_lossy(&info);
                Ok(eviction::evicting_policy(&info).map(str::to_owned))
            }
            Err(error) if error.ends_connection() => Err(error),
            _ => Ok(None),
        }
    }

    /// Finds out whether this is still connected to the master: asks it for
    /// its role, the sentinels for its address, the cluster for its slots. A
    /// master that was cut off from the others does not know that it is none.
    ///
    /// # Errors
    /// [`LinkError::NotMaster`] if it is not, or why it did not answer. If no
    /// sentinel answers, the master is believed; that may take twice
    /// [`Settings::connect_timeout`] for each.
    pub fn verify(&mut self) -> Result<(), LinkError> {
        let deadline = Instant::now() + self.settings.response_timeout;
        let (address, slot) = match &mut self.servers {
            Servers::Cluster(routed) => return routed.refresh(deadline),
            Servers::One { address, node } => (address, node),
        };
        let node = slot.as_mut().ok_or_else(|| lost(address))?;
        if let Err(error) = node.expect_master(deadline) {
            if error.ends_connection() {
                *slot = None;
            }
            return Err(error);
        }
        let Arrangement::Sentinel { sentinels, master } = &self.settings.target.arrangement else {
            return Ok(());
        };
        match sentinel::master(&self.settings, sentinels, master) {
            Ok(current) if current != *address => {
                *slot = None;
                Err(LinkError::NotMaster(format!("the master is now {current}, no longer {address}")))
            }
            _ => Ok(()),
        }
    }

    fn exchange(&mut self, batch: &Batch) -> Vec<Result<Value, LinkError>> {
        let deadline = Instant::now() + self.settings.response_timeout;
        match &mut self.servers {
            Servers::Cluster(routed) => routed.exchange(batch, deadline),
            Servers::One { address, node: slot } => {
                let Some(node) = slot else { return vec![Err(lost(address)); batch.len()] };
                let results = exchange(node, batch, deadline);
                let broken = |result: &Result<Value, LinkError>| {
                    result.as_ref().is_err_and(LinkError::ends_connection)
                };
                if results.iter().any(broken) {
                    *slot = None;
                }
                results
            }
        }
    }
}

/// Where the one master is, as far as anybody knows.
pub(super) fn find(settings: &Settings, arrangement: &Arrangement) -> Result<Address, LinkError> {
    match arrangement {
        Arrangement::Single(address) => Ok(address.clone()),
        Arrangement::Sentinel { sentinels, master } => sentinel::master(settings, sentinels, master),
        Arrangement::Cluster(_) => Err(LinkError::Settings("a Redis Cluster has many masters".to_owned())),
    }
}

/// Connects to a server that must be a master.
pub(super) fn connect_master(
    settings: &Settings,
    address: &Address,
    protocol: Protocol,
) -> Result<Node, LinkError> {
    let credentials = settings.target.credentials.as_ref();
    let mut node = Node::connect(address, settings, credentials, protocol, settings.connect_timeout)?;
    node.expect_master(Instant::now() + settings.response_timeout)?;
    Ok(node)
}

/// Sends a batch to one server and receives the replies. After an error that
/// ends the connection, what is left has the same error.
fn exchange(node: &mut Node, batch: &Batch, deadline: Instant) -> Vec<Result<Value, LinkError>> {
    if batch.len() == 0 {
        return Vec::new();
    }
    if let Err(error) = node.send(batch.packed(), deadline) {
        return vec![Err(error); batch.len()];
    }
    let mut results = Vec::with_capacity(batch.len());
    while results.len() < batch.len() {
        match node.receive(deadline) {
            Ok(reply) => results.push(node.value(reply)),
            Err(error) => results.resize(batch.len(), Err(error)),
        }
    }
    results
}

fn lost(address: &Address) -> LinkError {
    LinkError::Lost(format!("{address}: the connection was lost before"))
}
