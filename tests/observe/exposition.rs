//! Expositions, read back.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::{Node, eventually};

/// A family of metrics as it was announced, and what came under it.
#[derive(Debug, Default)]
pub(crate) struct Family {
    /// As samples are called, without what a histogram adds.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) help: String,
    /// Names of samples, as a query uses them.
    pub(crate) samples: BTreeSet<String>,
    /// Labels in the order of their names, each with its values.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

/// Reads OpenMetrics text of ours, in which values of labels hold no blanks.
pub(crate) fn families(text: &str) -> Vec<Family> {
    let mut all: Vec<Family> = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        let rest = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                all.push(Family { name: name.to_owned(), help: help.to_owned(), ..Family::default() });
                continue;
            }
            (Some("#"), what, Some(_), Some(value)) => (what.unwrap(), value.to_owned()),
            _ => ("", String::new()),
        };
        let family = all.last_mut().unwrap();
        match rest {
            ("TYPE", kind) => family.kind = kind,
            ("UNIT", unit) => family.unit = unit,
            _ => take_sample(family, line),
        }
    }
    for family in &mut all {
        match family.kind.as_str() {
            "counter" => family.name.push_str("_total"),
            "info" => family.name.push_str("_info"),
            _ => {}
        }
    }
    all
}

fn take_sample(family: &mut Family, line: &str) {
    let (series, _) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    assert!(name.starts_with(&family.name), "{line} under {}", family.name);
    family.samples.insert(name.to_owned());
    for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
        let (key, value) = label.split_once("=\"").unwrap();
        let values = family.labels.entry(key.to_owned()).or_default();
        values.insert(value.trim_end_matches('"').to_owned());
    }
}

/// Who asks for plain text gets the format that was there before OpenMetrics.
#[test]
fn the_older_format_is_there_for_who_asks_for_it() {
    let node = Node::start(&[]);
    for (accept, kind, start) in [
        ("", "application/openmetrics-text; version=1.0.0; charset=utf-8", "# TYPE throng_node info\n"),
        (
            "Accept: text/plain\r\n",
            "text/plain; version=0.0.4; charset=utf-8",
            "# TYPE throng_node_info gauge\n",
        ),
    ] {
        let response = node.web().request("GET", "/metrics", accept, "");
        let text = String::from_utf8(response.body.clone()).unwrap();
        assert_eq!((response.status, response.header("content-type")), (200, Some(kind)));
        assert!(text.contains(start), "{text}");
        assert!(text.contains("\nthrong_accepted_sockets_total "), "{text}");
        assert_eq!(text.ends_with("# EOF\n"), accept.is_empty());
    }
}

/// Who refuses is counted under one outcome, and what took time is counted.
#[test]
fn upgrades_are_counted_once() {
    let node = Node::start(&["--allowed-origin", "https://good.example"]);
    let upgrade = |headers: &str| node.web().request("GET", "/ws", headers, "").status;
    assert_eq!(upgrade(""), 426);
    let key = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(upgrade(&format!("{key}Origin: https://bad.example\r\n")), 403);
    let _open = node.user("anna");
    let outcome = |outcome: &str| node.metric(&format!("throng_handshakes_total{{outcome=\"{outcome}\"}}"));
    eventually("the turn is over", || outcome("completed") == 1);
    assert_eq!((outcome("malformed"), outcome("origin")), (1, 1));
    assert_eq!(node.metric("throng_handshake_seconds_count"), 1);
    eventually("some turns have been measured", || node.metric("throng_reactor_turn_seconds_count") > 0);
}

/// The time a drain has taken is there to be seen while it goes on.
#[test]
fn a_drain_is_timed_while_it_goes_on() {
    let node = Node::start(&["--lame-duck", "1m"]);
    assert_eq!(node.metric("throng_ready"), 1);
    let seconds = |node: &Node| {
        let text = String::from_utf8(node.get("/metrics").body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("throng_drain_seconds ")).unwrap();
        value.parse::<f64>().unwrap()
    };
    assert_eq!(seconds(&node), 0.0);
    node.process.signal(libc::SIGTERM);
    eventually("it drains", || node.metric("throng_ready") == 0);
    let first = seconds(&node);
    assert!(first > 0.0);
    eventually("time passes", || seconds(&node) > first);
}
