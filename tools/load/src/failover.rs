//! Failover: clients of several nodes behind a balancer; one node is killed, its clients come back elsewhere.

use crate::cli;
use crate::fleet::{Fleet, Load, Outbox, Outcome, note};
use crate::report::{self, Report};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

const NS_PER_MS: f64 = 1e6;
/// The bounds of the back-off of a client that was not told when to come back, or was refused.
const BACKOFF_FIRST_NS: u64 = 1_000_000_000;
const BACKOFF_MAX_NS: u64 = 30_000_000_000;
/// The time over which the rate of reconnects is taken.
const PEAK_WINDOW_NS: u64 = 100_000_000;
/// A service that restarts (RFC 6455, section 7.4.1, and the registry of close codes): come back at once.
const COME_BACK: &str = "closed by the server: 1012";

/// A welcome, as far as it says who sent it.
#[derive(Deserialize)]
struct Welcome<'a> {
    #[serde(borrow)]
    service_identity: Identity<'a>,
}

#[derive(Deserialize)]
struct Identity<'a> {
    instance_id: &'a str,
}

#[derive(Clone, Default)]
struct Client {
    /// Who served it when the node was killed.
    was_on_victim: bool,
    is_on_victim: bool,
    attempts: u32,
    ended_at: Option<u64>,
    served_at: Option<u64>,
}

struct Failover {
    path: String,
    victim: String,
    clients: Vec<Client>,
    /// Clients that are to connect again, and when.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    random: u64,
    killed_at: Option<u64>,
    missing: usize,
    failed_attempts: u64,
    disturbed: u64,
    reasons: BTreeMap<String, u64>,
    strangers: u64,
}

/// Connects all clients, kills the node, waits until its clients are served elsewhere.
pub(crate) fn run(args: &cli::Failover) -> Result<Report, String> {
    let pid = i32::try_from(args.kill).ok().and_then(Pid::from_raw).ok_or("--kill needs a process id")?;
    let mut fleet = Fleet::new(&args.common, args.connections as usize)?;
    let mut failover = Failover::new(args);
    let paths: Vec<String> = (0..args.connections as usize).map(|index| failover.path_of(index)).collect();
    fleet.open_all_for(&args.common, paths.into_iter(), &mut failover)?;
    if failover.strangers > 0 {
        return Err(format!("{} welcomes do not say which instance sent them", failover.strangers));
    }
    fleet.reopen(&args.common, &args.path);
    fleet.run(&mut failover, Instant::now() + Duration::from_millis(args.settle_ms))?;
    failover.begin(fleet.now())?;
    kill_process(pid, Signal::KILL).map_err(|error| format!("kill {}: {error}", args.kill))?;
    let outcome = fleet.run(&mut failover, Instant::now() + Duration::from_secs(args.within))?;
    let mut report = Report {
        mode: "failover",
        url: args.common.url(),
        path: args.path.clone(),
        connections: args.connections as usize,
        open_seconds: fleet.open_seconds,
        stalled: outcome != Outcome::Done,
        ..Report::default()
    };
    report.failover = Some(failover.figures());
    report.reasons = failover.reasons;
    Ok(report)
}

impl Failover {
    fn new(args: &cli::Failover) -> Failover {
        Failover {
            path: args.path.clone(),
            victim: args.instance.clone(),
            clients: vec![Client::default(); args.connections as usize],
            due: BinaryHeap::new(),
            random: u64::from(std::process::id()) << 32 | 1,
            killed_at: None,
            missing: 0,
            failed_attempts: 0,
            disturbed: 0,
            reasons: BTreeMap::new(),
            strangers: 0,
        }
    }

    fn path_of(&self, index: usize) -> String {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{separator}client_id=client-{index}", self.path)
    }

    /// The node is about to be killed: who is there now is to be served elsewhere.
    fn begin(&mut self, now: u64) -> Result<(), String> {
        self.killed_at = Some(now);
        for client in &mut self.clients {
            client.was_on_victim = client.is_on_victim;
            self.missing += usize::from(client.is_on_victim);
        }
        match self.missing {
            0 => Err(format!("no client is on instance {}", self.victim)),
            _ => Ok(()),
        }
    }

    /// A random time up to `bound` (xorshift; nothing here is secret).
    fn up_to(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn figures(&self) -> report::Failover {
        let killed_at = self.killed_at.unwrap_or_default();
        let since = |at: u64| at.saturating_sub(killed_at) as f64 / NS_PER_MS;
        let sorted = |moment: fn(&Client) -> Option<u64>| {
            let mut all: Vec<u64> =
                self.clients.iter().filter(|one| one.was_on_victim).filter_map(moment).collect();
            all.sort_unstable();
            all
        };
        let (ended, served) = (sorted(|client| client.ended_at), sorted(|client| client.served_at));
        let at = |times: &[u64], index: usize| times.get(index).map_or(0.0, |at| since(*at));
        report::Failover {
            clients: self.clients.iter().filter(|client| client.was_on_victim).count(),
            served_elsewhere: served.len(),
            first_ended_ms: at(&ended, 0),
            last_ended_ms: at(&ended, ended.len().saturating_sub(1)),
            half_served_ms: at(&served, served.len() / 2),
            last_served_ms: at(&served, served.len().saturating_sub(1)),
            peak_reconnects_per_second: most_within(&served, PEAK_WINDOW_NS)
                * (1_000_000_000 / PEAK_WINDOW_NS),
            failed_attempts: self.failed_attempts,
            disturbed: self.disturbed,
        }
    }
}

/// The most of these sorted times within one window.
fn most_within(times: &[u64], window: u64) -> u64 {
    let mut first = 0;
    let within = times.iter().enumerate().map(|(index, at)| {
        while at - times[first] >= window {
            first += 1;
        }
        index - first + 1
    });
    within.max().unwrap_or_default() as u64
}

impl Load for Failover {
    fn message(&mut self, _: usize, _: u8, _: &[u8], _: u64) {}
    fn read_done(&mut self, _: usize, _: u64, _: &mut Outbox) {}

    fn opened(&mut self, index: usize, welcome: &[u8], now: u64, _outbox: &mut Outbox) {
        let Ok(welcome) = serde_json::from_slice::<Welcome<'_>>(welcome) else {
            self.strangers += 1;
            return;
        };
        let client = &mut self.clients[index];
        client.attempts = 0;
        client.is_on_victim = welcome.service_identity.instance_id == self.victim;
        if client.was_on_victim && !client.is_on_victim && client.served_at.is_none() {
            client.served_at = Some(now);
            self.missing -= 1;
        }
    }

    fn ended(&mut self, index: usize, reason: &str, now: u64) {
        note(&mut self.reasons, reason.to_owned());
        let client = &mut self.clients[index];
        let was_open = client.attempts == 0;
        client.attempts += 1;
        match (client.was_on_victim, was_open) {
            (true, true) => client.ended_at = client.ended_at.or(Some(now)),
            (false, true) => self.disturbed += 1,
            (_, false) => self.failed_attempts += 1,
        }
        let told = was_open && reason.starts_with(COME_BACK);
        let bound = BACKOFF_FIRST_NS << (client.attempts - 1).min(5);
        let wait = if told { 0 } else { self.up_to(bound.min(BACKOFF_MAX_NS)) };
        self.due.push(Reverse((now + wait, index)));
    }

    fn next_open_at(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    fn next_open(&mut self, now: u64) -> Option<(usize, String)> {
        let Reverse((at, index)) = *self.due.peek()?;
        if at > now {
            return None;
        }
        self.due.pop();
        Some((index, self.path_of(index)))
    }

    fn is_done(&self) -> bool {
        self.killed_at.is_some() && self.missing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_fullest_window() {
        let check = |times: &[u64], expected: u64| assert_eq!(most_within(times, 10), expected, "{times:?}");
        check(&[], 0);
        check(&[5], 1);
        check(&[0, 10, 20], 1);
        check(&[0, 9, 10, 18, 19], 3);
    }
}
