//! The masters of a Redis Cluster: each command to the one that owns its slot.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use redis::Value;

use super::batch::Batch;
use super::node::{Node, Protocol};
use super::slots::{self, Route, Slots};
use super::{Address, LinkError, Settings};

/// Connections to the masters of a Redis Cluster, opened when they are needed.
pub(super) struct Routed {
    settings: Settings,
    seeds: Vec<Address>,
    slots: Slots,
    /// Whether a server said, by an answer or by being gone, that the slots
    /// are not as they were.
    is_stale: bool,
    nodes: HashMap<Address, Node>,
}

/// What became of sending to one master.
enum Sent {
    Whole,
    /// There was no connection: nothing arrived.
    Nothing(LinkError),
    /// It broke: some may have arrived.
    Part(LinkError),
}

/// What became of the commands of a batch.
struct Outcomes<'a> {
    batch: &'a Batch,
    results: Vec<Option<Result<Value, LinkError>>>,
    /// Commands that nobody carried out, to be sent again.
    undone: Vec<usize>,
    /// Commands to be sent to the master that a slot is being moved to.
    elsewhere: Vec<(usize, Address)>,
}

impl Routed {
    /// Asks the first of `seeds` that answers for the slots.
    pub(super) fn open(settings: &Settings, seeds: &[Address]) -> Result<Routed, LinkError> {
        let mut nodes = HashMap::new();
        let slots = read_slots(settings, seeds, &mut nodes, None)?;
        Ok(Routed { settings: settings.clone(), seeds: seeds.to_vec(), slots, is_stale: false, nodes })
    }

    /// Asks for the slots again: connected masters first, the seeds last.
    pub(super) fn refresh(&mut self, deadline: Instant) -> Result<(), LinkError> {
        let mut asked: Vec<Address> = self.nodes.keys().cloned().collect();
        for address in self.slots.masters().iter().chain(&self.seeds) {
            if !asked.contains(address) {
                asked.push(address.clone());
            }
        }
        self.slots = read_slots(&self.settings, &asked, &mut self.nodes, Some(deadline))?;
        self.is_stale = false;
        let masters = self.slots.masters();
        self.nodes.retain(|address, _| masters.contains(address));
        Ok(())
    }

    /// Carries out a batch, each command at its master. Those that nobody
    /// carried out, because their slot had moved or their master could not be
    /// reached, are sent once more, to whoever owns the slot then.
    pub(super) fn exchange(&mut self, batch: &Batch, deadline: Instant) -> Vec<Result<Value, LinkError>> {
        let mut outcomes = Outcomes::new(batch);
        if self.is_stale {
            // If nobody answers, the slots as they were are still the best guess.
            let _ = self.refresh(deadline);
        }
        let unreachable = self.round(&(0..batch.len()).collect::<Vec<_>>(), &mut outcomes, deadline);
        let mut undone = std::mem::take(&mut outcomes.undone);
        undone.sort_unstable();
        let can_retry = !undone.is_empty() && (!unreachable || self.refresh(deadline).is_ok());
        if can_retry {
            self.round(&undone, &mut outcomes, deadline);
        }
        outcomes.into_results()
    }

    /// Sends the commands of these indices and receives the replies. Whether a
    /// master could not be reached.
    fn round(&mut self, commands: &[usize], outcomes: &mut Outcomes<'_>, deadline: Instant) -> bool {
        let mut unreachable = false;
        let shares = self.by_master(commands, outcomes);
        let sent: Vec<Sent> =
            shares.iter().map(|(master, share)| self.send(master, outcomes.batch, share, deadline)).collect();
        for ((master, share), sent) in shares.into_iter().zip(sent) {
            match sent {
                Sent::Whole => self.receive(&master, &share, outcomes, deadline),
                Sent::Part(error) => self.lose(&master, &share, &error, outcomes),
                Sent::Nothing(error) => {
                    unreachable = true;
                    outcomes.undone.extend(&share);
                    self.lose(&master, &share, &error, outcomes);
                }
            }
        }
        for (index, master) in std::mem::take(&mut outcomes.elsewhere) {
            let result = self.ask_elsewhere(&master, outcomes.batch.command(index), deadline);
            outcomes.set(index, result);
        }
        unreachable
    }

    /// The commands of each master. A command whose slot nobody owns fails.
    fn by_master(&mut self, commands: &[usize], outcomes: &mut Outcomes<'_>) -> Vec<(Address, Vec<usize>)> {
        let masters = self.slots.masters();
        let mut shares: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &index in commands {
            let owners = match outcomes.batch.route(index) {
                Route::All => 0..masters.len(),
                Route::Any => {
                    let connected = masters.iter().position(|master| self.nodes.contains_key(master));
                    let any = connected.unwrap_or(0);
                    any..masters.len().min(any + 1)
                }
                Route::Slot(slot) => self.slots.owner(slot).map_or(0..0, |owner| owner..owner + 1),
            };
            if owners.is_empty() {
                self.is_stale = true;
                outcomes.set(index, Err(LinkError::Unavailable("no master owns the slot".to_owned())));
            }
            for owner in owners {
                shares.entry(owner).or_default().push(index);
            }
        }
        shares.into_iter().map(|(owner, share)| (masters[owner].clone(), share)).collect()
    }

    fn send(&mut self, master: &Address, batch: &Batch, share: &[usize], deadline: Instant) -> Sent {
        let node = match self.node(master, deadline) {
            Ok(node) => node,
            Err(error) => return Sent::Nothing(error),
        };
        let sent = if share.len() == batch.len() {
            node.send(batch.packed(), deadline)
        } else {
            let packed: Vec<u8> = share.iter().flat_map(|index| batch.command(*index)).copied().collect();
            node.send(&packed, deadline)
        };
        sent.map_or_else(Sent::Part, |()| Sent::Whole)
    }

    fn receive(&mut self, master: &Address, share: &[usize], outcomes: &mut Outcomes<'_>, deadline: Instant) {
        for (position, index) in share.iter().enumerate() {
            let Some(node) = self.nodes.get_mut(master) else { return };
            let reply = match node.receive(deadline) {
                Ok(reply) => reply,
                Err(error) => return self.lose(master, &share[position..], &error, outcomes),
            };
            let redirection = match &reply {
                Value::ServerError(error) => slots::redirection(error.details().unwrap_or_default(), master)
                    .map(|address| (error.code() == "MOVED", error.code() == "ASK", address)),
                _ => None,
            };
            let result = node.value(reply);
            match (redirection, outcomes.batch.route(*index)) {
                (Some((true, _, address)), Route::Slot(slot)) => {
                    self.slots.moved(slot, address);
                    self.is_stale = true;
                    outcomes.undone.push(*index);
                }
                (Some((_, true, address)), _) => outcomes.elsewhere.push((*index, address)),
                _ => {}
            }
            outcomes.set(*index, result);
        }
    }

    /// The connection to `master` is of no use: these commands fail.
    fn lose(&mut self, master: &Address, share: &[usize], error: &LinkError, outcomes: &mut Outcomes<'_>) {
        self.nodes.remove(master);
        self.is_stale = true;
        share.iter().for_each(|index| outcomes.set(*index, Err(error.clone())));
    }

    /// Sends one command to the master that its slot is being moved to.
    fn ask_elsewhere(
        &mut self,
        master: &Address,
        command: &[u8],
        deadline: Instant,
    ) -> Result<Value, LinkError> {
        let node = self.node(master, deadline)?;
        let asked = node.ask(&redis::cmd("ASKING"), deadline).and_then(|_| {
            node.send(command, deadline)?;
            let reply = node.receive(deadline)?;
            node.value(reply)
        });
        if asked.as_ref().is_err_and(LinkError::ends_connection) {
            self.nodes.remove(master);
        }
        asked
    }

    fn node(&mut self, master: &Address, deadline: Instant) -> Result<&mut Node, LinkError> {
        connected(&self.settings, master, &mut self.nodes, Some(deadline))
    }
}

impl<'a> Outcomes<'a> {
    fn new(batch: &'a Batch) -> Outcomes<'a> {
        Outcomes { batch, results: vec![None; batch.len()], undone: Vec::new(), elsewhere: Vec::new() }
    }

    /// The result of a command at one master. Of a command for all, the first
    /// error counts.
    fn set(&mut self, index: usize, result: Result<Value, LinkError>) {
        let failed = matches!(self.results[index], Some(Err(_)));
        if !(failed && self.batch.route(index) == Route::All) {
            self.results[index] = Some(result);
        }
    }

    fn into_results(self) -> Vec<Result<Value, LinkError>> {
        let nothing = || Err(LinkError::Unavailable("no master answered".to_owned()));
        self.results.into_iter().map(|result| result.unwrap_or_else(nothing)).collect()
    }
}

/// The connection to a server, opened if there is none.
fn connected<'a>(
    settings: &Settings,
    address: &Address,
    nodes: &'a mut HashMap<Address, Node>,
    deadline: Option<Instant>,
) -> Result<&'a mut Node, LinkError> {
    if !nodes.contains_key(address) {
        let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        let credentials = settings.target.credentials.as_ref();
        let timeout = settings.connect_timeout.min(left);
        let node = Node::connect(address, settings, credentials, Protocol::Resp2, timeout)?;
        nodes.insert(address.clone(), node);
    }
    nodes.get_mut(address).ok_or_else(|| LinkError::Lost(format!("{address} is not connected")))
}

/// The slots as the first server that answers sees them. Without a deadline
/// every server is given the timeouts of the settings.
pub(super) fn read_slots(
    settings: &Settings,
    asked: &[Address],
    nodes: &mut HashMap<Address, Node>,
    deadline: Option<Instant>,
) -> Result<Slots, LinkError> {
    let mut last = LinkError::Unavailable("no server of the cluster is known".to_owned());
    for address in asked {
        // Half of what is left, so that one server that hangs leaves time for others.
        let by = |now: Instant| match deadline {
            Some(deadline) => now + deadline.saturating_duration_since(now) / 2,
            None => now + settings.response_timeout,
        };
        let asked = connected(settings, address, nodes, deadline.map(|_| by(Instant::now())))
            .and_then(|node| node.ask(redis::cmd("CLUSTER").arg("SLOTS"), by(Instant::now())));
        match asked.map(|reply| Slots::read(&reply, address)) {
            Ok(Some(slots)) if !slots.masters().is_empty() => return Ok(slots),
            Ok(_) => last = LinkError::Unavailable(format!("{address} knows of no slots")),
            Err(error) => {
                if error.ends_connection() {
                    nodes.remove(address);
                }
                last = error;
            }
        }
    }
    Err(last)
}
