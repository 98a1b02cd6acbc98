//! A Redis Cluster: three masters, each with a replica.

use std::collections::HashMap;
use std::time::Duration;

use super::{Options, Redis, free_port, wait_until};

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

/// A member that is silent for so long is failed over; for half as long, and
/// the others connect to it anew, and what was published meanwhile is lost.
/// Both happen on a busy machine, so a cluster has such haste only while it
/// forms and where failing over is the point.
const HASTE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// Six servers that are one Cluster.
pub(crate) struct Cluster {
    /// Three masters, then the replica of each in the same order. Which is
    /// master changes when one is killed.
    pub(crate) servers: Vec<Redis>,
}

impl Cluster {
    /// Starts one in which nobody is failed over, and waits until it is whole.
    pub(crate) fn start() -> Cluster {
        let cluster = Cluster::quick_to_fail_over();
        let milliseconds = PATIENCE.as_millis().to_string();
        for server in &cluster.servers {
            server.ask::<()>(&["CONFIG", "SET", "cluster-node-timeout", &milliseconds]);
        }
        for server in &cluster.servers {
            wait_until("all are connected", || cluster.is_linked(server));
        }
        cluster
    }

    /// Starts one that soon promotes the replica of a master that was killed,
    /// and waits until it is whole: every slot served, every replica in step,
    /// every member connected to every other.
    pub(crate) fn quick_to_fail_over() -> Cluster {
        let servers = (0..2 * MASTERS).map(|_| Redis::with(options())).collect();
        let cluster = Cluster { servers };
        cluster.give_slots();
        cluster.introduce();
        cluster.give_replicas();
        for server in &cluster.servers {
            wait_until("the cluster is whole", || state(server) == "ok");
            wait_until("all are connected", || cluster.is_linked(server));
        }
        cluster
    }

    /// One URL for each server.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Redis::url).collect()
    }

    /// A new connection to the whole.
    pub(crate) fn connection(&self) -> redis::cluster::ClusterConnection {
        let client = redis::cluster::ClusterClient::new(self.urls()).expect("good addresses");
        client.get_connection().unwrap_or_else(|error| panic!("{:?}: {error}", self.urls()))
    }

    /// The server that is master of a key's slot, as one of them says.
    pub(crate) fn master_of(&self, key: &str) -> usize {
        let slot: String = self.servers[0].ask::<u32>(&["CLUSTER", "KEYSLOT", key]).to_string();
        let serves = |server: &Redis| server.ask::<Vec<String>>(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
        let holds = |server: &Redis| server.info("role") == "master" && !serves(server).is_empty();
        self.servers.iter().position(holds).unwrap_or_else(|| panic!("no master has {key}"))
    }

    /// Moves the slot of a key, with all its keys, to another of the masters.
    pub(crate) fn move_slot(&self, key: &str, from: usize, to: usize) {
        let slot = self.servers[0].ask::<u32>(&["CLUSTER", "KEYSLOT", key]).to_string();
        let ids = [from, to].map(|server| self.servers[server].ask::<String>(&["CLUSTER", "MYID"]));
        self.servers[to].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
        self.servers[from].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
        let keys: Vec<String> = self.servers[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
        let port = self.servers[to].port().to_string();
        for key in &keys {
            self.servers[from].ask::<()>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
        for server in [to, from] {
            self.servers[server].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]);
        }
    }

    /// Whether a member has both of its connections with each of the others.
    fn is_linked(&self, server: &Redis) -> bool {
        let links: Vec<HashMap<String, redis::Value>> = server.ask(&["CLUSTER", "LINKS"]);
        links.len() == 2 * (self.servers.len() - 1)
    }

    fn give_slots(&self) {
        for (i, master) in self.servers[..MASTERS].iter().enumerate() {
            let range = [SLOTS * i / MASTERS, SLOTS * (i + 1) / MASTERS - 1].map(|slot| slot.to_string());
            master.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            master.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
        }
    }

    /// Each to each, for hearsay takes its time.
    fn introduce(&self) {
        for (i, server) in self.servers.iter().enumerate() {
            for other in &self.servers[i + 1..] {
                let bus: Vec<String> = other.ask(&["CONFIG", "GET", "cluster-port"]);
                server.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), &bus[1]]);
            }
        }
        let all = self.servers.len().to_string();
        for server in &self.servers {
            wait_until("all know each other", || field(server, "cluster_known_nodes") == all);
        }
    }

    fn give_replicas(&self) {
        for (master, replica) in self.servers[..MASTERS].iter().zip(&self.servers[MASTERS..]) {
            let id: String = master.ask(&["CLUSTER", "MYID"]);
            // Refused until the news that the master has slots has come around.
            let follow = ["CLUSTER", "REPLICATE", &id];
            wait_until("a replica follows", || super::ask::<()>(&mut replica.connection(), &follow).is_ok());
            wait_until("a replica is in step", || replica.info("master_link_status") == "up");
            wait_until("a master has its replica", || master.info("slave0").contains("state=online"));
        }
    }
}

fn options() -> Options {
    Options::default()
        .line("cluster-enabled yes")
        .line(format!("cluster-port {}", free_port()))
        .line(format!("cluster-node-timeout {}", HASTE.as_millis()))
        .line("repl-diskless-sync-delay 0")
}

fn state(server: &Redis) -> String {
    field(server, "cluster_state")
}

/// A field of `CLUSTER INFO`.
fn field(server: &Redis, name: &str) -> String {
    let info: String = server.ask(&["CLUSTER", "INFO"]);
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}
