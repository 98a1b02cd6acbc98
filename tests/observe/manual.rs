//! `docs/metrics.md` is written from what a node and a balancer expose.

use std::fmt::Write as _;

use crate::exposition::Family;
use crate::{exposed, file, path_of};

const HEAD: &str = "\
# Metrics

<!-- Written from what a running node and a running balancer expose. A test keeps it equal;
     UPDATE_GOLDEN=1 cargo test --test observe manual writes it anew. -->

`GET /metrics` answers in the OpenMetrics format, and in the older text format to who asks for `text/plain` alone. All are
the process's own: sums over nodes are for the query. Counters begin at 0 with the process. Names are as samples and
queries have them; a histogram `…_seconds` has the samples `…_seconds_bucket`, `…_seconds_sum` and `…_seconds_count`.

Alert rules with their tests and dashboards for Grafana are in [observability](../observability); what to do about an
alert is in [operations.md](operations.md). They tell nodes from balancers by the names of the jobs:

```yaml
rule_files: [throng.rules.yaml]
scrape_configs:
  - job_name: throng
    static_configs: [{targets: [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]}]
  - job_name: throng-balance
    static_configs: [{targets: [\"10.0.0.9:8080\"]}]     # scheme: https where the port speaks TLS
```
";

const TIMING: &str = "
## How deliveries are timed

`throng_delivery_seconds` is from the turn in which a node takes a message in, of a client or of a caller of the HTTP API,
to the end of the turn that writes it to its receiver. In each 10 ms the first message of a reactor is timed; busy moments
count no more than quiet ones. Not in it: the kernel's queues, what waits because its receiver does not read, and batches.

* `path=\"local\"`: sender and receiver are on this node. One clock, exact.
* `path=\"cluster\"`: a message to a user on another node, at most one in 100 ms, counted where it was sent. Clocks of two
  machines are not compared: the other node says how long it had the message, and of the time in flight, to it and back,
  half is taken. It can be wrong by up to that half, and only messages that arrive are in it; broadcasts are not.

Messages are counted by the `type` that clients read or write. `throng_messages_received_total` has `text` and `binary` for
what is not looked into, `unknown` for JSON of no known type, `invalid` for what is no JSON or lacks a field, `refused` for
one more than `--messages-per-second`; `throng_messages_sent_total` has `other` for what programs composed. Sums over
`type` are all messages. Their bytes are those of payloads, without frame headers and uncompressed.
";

/// Labels whose values are not a closed set, or of which only one is shown at a time.
const OPEN: [&str; 8] = ["node", "version", "strategy", "phase", "backend", "address", "reactor", "le"];

fn labels(family: &Family) -> String {
    let mut parts = Vec::new();
    for (label, values) in &family.labels {
        let is_open = OPEN.contains(&label.as_str()) || family.name == "throng_balancer_backend_state";
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        match (label.as_str(), is_open) {
            ("le", _) => {}
            (_, true) => parts.push(format!("`{label}`")),
            (_, false) => parts.push(format!("`{label}`: {}", values.join(", "))),
        }
    }
    parts.join("; ")
}

fn table(out: &mut String, title: &str, families: &[Family], ours: impl Fn(&str) -> bool) {
    let _ = write!(
        out,
        "\n## {title}\n\n| metric | kind | unit | labels | what it says |\n|---|---|---|---|---|\n"
    );
    for family in families.iter().filter(|family| ours(&family.name)) {
        let Family { name, kind, unit, help, .. } = family;
        let _ = writeln!(out, "| `{name}` | {kind} | {unit} | {} | {help} |", labels(family));
    }
}

#[test]
fn the_manual_lists_what_is_exposed() {
    let (node, balancer) = exposed();
    let mut manual = HEAD.to_owned();
    table(&mut manual, "A node", &node, |name| name.starts_with("throng_"));
    table(&mut manual, "A balancer", &balancer, |name| name.starts_with("throng_"));
    table(&mut manual, "Both: the process", &node, |name| !name.starts_with("throng_"));
    let names = |families: &[Family]| -> Vec<String> {
        families
            .iter()
            .map(|family| family.name.clone())
            .filter(|name| !name.starts_with("throng_"))
            .collect()
    };
    assert_eq!(names(&node), names(&balancer));
    manual.push_str(TIMING);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path_of("docs/metrics.md"), &manual).unwrap();
    }
    assert_eq!(file("docs/metrics.md"), manual);
}
