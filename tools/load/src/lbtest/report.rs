//! What was found out, for people and for scripts. Never connects.

use crate::Cli;
use crate::probe::{Answer, Health};
use crate::spread::{Demand, Verdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Characters of a bar that stands for all connections.
const BAR: usize = 40;
/// Reasons for failures that are printed.
const REASONS_SHOWN: usize = 5;

/// One port, tried.
pub(crate) struct Port {
    port: u16,
    path: String,
    answers: Vec<Answer>,
    /// Instances by their ids, with the name they give themselves and their connections.
    instances: BTreeMap<String, (String, u64)>,
    verdict: Verdict,
}

/// Everything.
pub(crate) struct Report {
    host: String,
    tls: bool,
    health: Health,
    ports: Vec<Port>,
    /// Connections were spread on every port.
    pub(crate) spread: bool,
}

impl Port {
    pub(crate) fn new(cli: &Cli, port: u16, path: &str, answers: Vec<Answer>) -> Port {
        let mut instances: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for (instance, _) in answers.iter().flatten() {
            instances.entry(instance.id.clone()).or_insert((instance.display_name.clone(), 0)).1 += 1;
        }
        let counts: Vec<u64> = instances.values().map(|(_, count)| *count).collect();
        let failed = answers.iter().filter(|answer| answer.is_err()).count() as u64;
        let demand = Demand { instances: cli.instances, min_share: cli.min_share };
        Port { port, path: path.to_owned(), answers, instances, verdict: demand.judge(&counts, failed) }
    }

    /// Why not a single connection could be opened, if so.
    pub(crate) fn failure(&self) -> Option<&str> {
        let first = self.answers.iter().find_map(|answer| answer.as_ref().err())?;
        self.instances.is_empty().then_some(first)
    }

    /// Connections per instance, and what failed.
    pub(crate) fn print(&self) {
        println!("\nconnections per instance");
        let all = self.answers.len();
        let width = self.instances.values().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut instances: Vec<_> = self.instances.iter().collect();
        instances.sort_by_key(|(_, (name, _))| name);
        for (id, (name, count)) in instances {
            let share = *count as f64 / all as f64;
            let bar = "█".repeat((share * BAR as f64).round() as usize);
            println!("  {name:width$}  {id}  {count:>6}  {:>5.1} %  {bar}", 100.0 * share);
        }
        let failed = self.failed();
        if failed.values().sum::<usize>() > 0 {
            println!("  failed {}", failed.values().sum::<usize>());
            for (why, count) in failed.iter().take(REASONS_SHOWN) {
                println!("    {count} x {why}");
            }
        }
        let mut times: Vec<f64> = self.answers.iter().flatten().map(|(_, ms)| *ms).collect();
        times.sort_by(f64::total_cmp);
        if let (Some(median), Some(most)) = (times.get(times.len() / 2), times.last()) {
            println!("  until the welcome: median {median:.1} ms, at most {most:.1} ms");
        }
    }

    fn failed(&self) -> BTreeMap<&str, usize> {
        let mut failed = BTreeMap::new();
        for why in self.answers.iter().filter_map(|answer| answer.as_ref().err()) {
            *failed.entry(why.as_str()).or_insert(0) += 1;
        }
        failed
    }

    fn json(&self) -> Value {
        let all = self.answers.len() as f64;
        let connection = |(index, answer): (usize, &Answer)| match answer {
            Ok((instance, ms)) => json!({"connection": index + 1, "instance_id": instance.id, "ms": ms}),
            Err(why) => json!({"connection": index + 1, "error": why}),
        };
        let instance = |(id, (name, count)): (&String, &(String, u64))| json!({"instance_id": id, "display_name": name, "connections": count, "share": *count as f64 / all});
        json!({
            "port": self.port,
            "path": self.path,
            "connections": self.answers.iter().enumerate().map(connection).collect::<Vec<_>>(),
            "failed": self.failed().values().sum::<usize>(),
            "instances": self.instances.iter().map(instance).collect::<Vec<_>>(),
            "spread": self.verdict.spread,
            "why": self.verdict.why,
        })
    }
}

impl Report {
    pub(crate) fn new(cli: &Cli, health: Health, ports: Vec<Port>) -> Report {
        let spread = ports.iter().all(|port| port.verdict.spread);
        Report { host: cli.host.clone(), tls: cli.tls, health, ports, spread }
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        let ports: Vec<Value> = self.ports.iter().map(Port::json).collect();
        let tls = self.tls;
        json!({"host": self.host, "tls": tls, "health": self.health.body, "ports": ports, "spread": self.spread})
            .to_string()
    }

    /// One line for each port: yes or no, and why.
    pub(crate) fn print_verdict(&self) {
        println!();
        for port in &self.ports {
            let mark = if port.verdict.spread { "spread" } else { "NOT SPREAD" };
            println!("port {}: {mark}: {}", port.port, port.verdict.why);
        }
    }
}

/// What the host says about itself before anything is tried.
pub(crate) fn print_health(cli: &Cli, health: &Health) {
    let text = |name: &str| health.body[name].as_str().unwrap_or("unknown");
    let (status, service, version) = (text("status"), text("service"), text("version"));
    let (scheme, host, port) = (cli.scheme("http"), &cli.host, cli.http_port);
    println!("{scheme}://{host}:{port}/health: {status}, {service} {version}");
    let backends = &health.body["backends"];
    if let (Some(available), Some(total)) = (backends["available"].as_u64(), backends["total"].as_u64()) {
        println!("  a balancer, strategy {}: {available} of {total} backends available", text("strategy"));
    }
    let identity = &health.body["service_identity"];
    if let (Some(name), Some(id)) = (identity["display_name"].as_str(), identity["instance_id"].as_str()) {
        println!(
            "  answered by {name} ({id}), environment {}",
            identity["environment"].as_str().unwrap_or("unknown")
        );
    }
}

/// One connection's line.
pub(crate) fn print_answer(index: usize, answer: &Answer) {
    let number = index + 1;
    match answer {
        Ok((instance, ms)) => {
            println!("  {number:>5}  {} ({})  {ms:.1} ms", instance.display_name, instance.id)
        }
        Err(why) => println!("  {number:>5}  failed: {why}"),
    }
}
