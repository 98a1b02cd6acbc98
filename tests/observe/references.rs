//! Who names a metric names one that exists.

use std::collections::BTreeSet;

use crate::exposition::Family;
use crate::{exposed, file, path_of};

const RULES: &str = "observability/throng.rules.yaml";
const RULE_TESTS: &str = "observability/throng.rules.test.yaml";

/// Words that begin like our metrics, or like those of the process.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let is_ours = |word: &&str| word.starts_with("throng_") || word.starts_with("process_");
    words.filter(is_ours).filter(|word| !word.ends_with('_')).collect()
}

/// The strings under a key, anywhere in a document.
fn strings_under<'a>(value: &'a serde_json::Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                found.extend(field.as_str().filter(|_| name == key));
                strings_under(field, key, found);
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| strings_under(value, key, found));
        }
        _ => {}
    }
}

/// Panics unless `used` are names of samples, or in prose of whole histograms.
fn check(what: &str, used: &BTreeSet<&str>, families: &[&[Family]], is_prose: bool) {
    let families = || families.iter().flat_map(|families| *families);
    let samples = families().flat_map(|family| &family.samples);
    let names = families().filter(|_| is_prose).map(|family| &family.name);
    let known: BTreeSet<&str> = samples.chain(names).map(String::as_str).collect();
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{what} names what /metrics has not: {unknown:?}");
}

#[test]
fn rules_dashboards_and_docs_use_metrics_that_exist() {
    let (node, balancer) = exposed();
    let both: &[&[Family]] = &[&node, &balancer];
    let rules = file(RULES);
    let used = metrics_in(&rules);
    assert!(used.len() > 15, "{used:?}");
    check(RULES, &used, both, false);
    check(RULE_TESTS, &metrics_in(&file(RULE_TESTS)), both, false);
    for (path, families) in [("nodes", &node), ("balancer", &balancer)] {
        let path = format!("observability/dashboards/throng-{path}.json");
        let dashboard: serde_json::Value = serde_json::from_str(&file(&path)).unwrap();
        let mut queries = Vec::new();
        strings_under(&dashboard, "expr", &mut queries);
        strings_under(&dashboard, "query", &mut queries);
        let used: BTreeSet<_> = queries.iter().flat_map(|query| metrics_in(query)).collect();
        assert!(used.len() > 10, "{path}: {used:?}");
        check(&path, &used, &[families], false);
    }
    for entry in std::fs::read_dir(path_of("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "metrics.md" {
            let text = file(&format!("docs/{name}"));
            let used = metrics_in(&text).into_iter().filter(|word| !word.contains(':')).collect();
            check(&name, &used, both, true);
        }
    }
}

/// Labels that whoever scrapes adds.
const ADDED: [&str; 4] = ["job", "instance", "namespace", "pod"];

/// Each matcher behind one of our metrics: metric, label, and the values it lists.
fn matchers(text: &str) -> Vec<(&str, &str, Vec<&str>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{') {
        let name = text[..at].rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap();
        let Some(inside) = text[at + 1..].split('}').next().filter(|_| name.starts_with("throng_")) else {
            continue;
        };
        for matcher in inside.split(',').filter(|matcher| matcher.contains('"')) {
            let (label, values) = matcher.split_once(['=', '!']).unwrap();
            let values = values.trim_matches(|c| matches!(c, '=' | '~' | '"' | ' '));
            found.push((name, label.trim(), values.split('|').collect()));
        }
    }
    found
}

/// A query for a value that a label never has finds nothing, and no fault either.
fn check_labels(what: &str, text: &str, families: &[&Family]) {
    for (name, label, values) in matchers(text).into_iter().filter(|(_, label, _)| !ADDED.contains(label)) {
        let family = families.iter().find(|family| family.samples.contains(name) || family.name == name);
        let family = family.unwrap_or_else(|| panic!("{what}: no {name}"));
        let known = family.labels.get(label).unwrap_or_else(|| panic!("{what}: {name} has no {label}"));
        // Of the states of a backend only the present one is exposed.
        for value in values.iter().filter(|_| name != "throng_balancer_backend_state") {
            let start = value.trim_end_matches(".*");
            assert!(
                known.iter().any(|known| known.starts_with(start)),
                "{what}: {name}{{{label}={value:?}}}"
            );
            assert!(start != *value || known.contains(*value), "{what}: {name}{{{label}={value:?}}}");
        }
    }
}

#[test]
fn labels_have_the_values_that_are_asked_for() {
    let (node, balancer) = exposed();
    let families: Vec<&Family> = node.iter().chain(&balancer).collect();
    let rules = file(RULES);
    assert!(matchers(&rules).len() > 10);
    check_labels(RULES, &rules, &families);
    for page in ["operations", "tuning", "security", "balancer", "cluster", "kubernetes"] {
        check_labels(page, &file(&format!("docs/{page}.md")), &families);
    }
    for page in ["nodes", "balancer"] {
        let dashboard = file(&format!("observability/dashboards/throng-{page}.json"));
        let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
        let mut queries = Vec::new();
        strings_under(&dashboard, "expr", &mut queries);
        assert!(queries.len() > 10);
        queries.iter().for_each(|query| check_labels(page, query, &families));
    }
}

/// The jobs that a text names behind `job=` or `job=~`.
fn jobs(text: &str) -> BTreeSet<&str> {
    let values = text.split("job=").skip(1).map(|rest| rest.trim_start_matches(['~', '\\', '"']));
    values.flat_map(|rest| rest.split(['"', '\\']).next().unwrap_or_default().split('|')).collect()
}

/// An alert that goes by another job than Prometheus was told never fires.
#[test]
fn the_jobs_are_those_that_are_documented() {
    let manual = file("docs/metrics.md");
    let documented: BTreeSet<&str> =
        manual.lines().filter_map(|line| line.trim().strip_prefix("- job_name: ")).collect();
    let rules = file(RULES);
    assert_eq!(jobs(&rules), documented);
    assert_eq!(jobs(&file(RULE_TESTS)), documented);
    for job in &documented {
        assert!(rules.lines().next().is_some_and(|head| head.contains(&format!("\"{job}\""))), "{job}");
    }
    for (path, job) in [("nodes", "throng"), ("balancer", "throng-balance")] {
        let dashboard = file(&format!("observability/dashboards/throng-{path}.json"));
        let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let preset = variables.iter().find(|variable| variable["name"] == "job").unwrap();
        assert_eq!(preset["current"]["value"], job);
        assert!(documented.contains(job));
    }
}

/// The names of all alerts.
fn alerts(rules: &str) -> Vec<&str> {
    rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect()
}

/// The part of a heading that a link may name, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_alert_is_tested_and_explained() {
    let (rules, tests, docs) = (file(RULES), file(RULE_TESTS), file("docs/operations.md"));
    let anchors: BTreeSet<String> =
        docs.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ')).map(anchor).collect();
    let alerts = alerts(&rules);
    assert!(alerts.len() > 10);
    for alert in &alerts {
        let tested = tests.lines().any(|line| line.trim() == format!("alertname: {alert}"));
        assert!(tested, "{alert} has no test in {RULE_TESTS}");
        assert!(docs.contains(&format!("`{alert}`")), "{alert} is not in docs/operations.md");
    }
    let books: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: docs/operations.md#")).collect();
    assert_eq!(books.len(), alerts.len(), "each alert says where it is explained");
    for book in books {
        assert!(anchors.contains(book), "no heading {book} in docs/operations.md: {anchors:?}");
    }
}
