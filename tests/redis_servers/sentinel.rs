//! A master with a replica, and the Sentinel that watches them.

use super::{Options, Redis, wait_until};

/// The name under which the Sentinel knows the master.
const MASTER: &str = "main";

/// A master, its replica and one Sentinel, who decides alone.
pub(crate) struct Sentinel {
    /// Master at the start.
    pub(crate) master: Redis,
    /// Replica at the start.
    pub(crate) replica: Redis,
    /// Who is asked.
    pub(crate) sentinel: Redis,
}

impl Sentinel {
    /// Starts them and waits until a failover would succeed.
    pub(crate) fn start() -> Sentinel {
        let master = Redis::with(Options::default().line("repl-diskless-sync-delay 0"));
        let follow = format!("replicaof 127.0.0.1 {}", master.port());
        let replica = Redis::with(Options::default().line("repl-diskless-sync-delay 0").line(follow));
        wait_until("the replica is in step", || replica.info("master_link_status") == "up");
        let options = Options::default()
            .line(format!("sentinel monitor {MASTER} 127.0.0.1 {} 1", master.port()))
            .line(format!("sentinel down-after-milliseconds {MASTER} 1000"))
            .line(format!("sentinel failover-timeout {MASTER} 5000"));
        let sentinel = Redis::start_program("redis-sentinel", options);
        wait_until("the Sentinel knows the replica", || {
            let replicas: Vec<std::collections::HashMap<String, String>> =
                sentinel.ask(&["SENTINEL", "REPLICAS", MASTER]);
            replicas
                .iter()
                .any(|replica| replica["flags"] == "slave" && replica["master-link-status"] == "ok")
        });
        Sentinel { master, replica, sentinel }
    }

    /// The name of the master.
    pub(crate) fn master_name(&self) -> &'static str {
        MASTER
    }

    /// Port of the server that is master, as the Sentinel says.
    pub(crate) fn master_port(&self) -> u16 {
        let address: (String, u16) = self.sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        address.1
    }
}
