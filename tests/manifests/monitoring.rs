//! What is watched in Kubernetes is what is watched elsewhere.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::files::{mapping, path, text};
use crate::network::scraped;
use crate::overlay::{FULL, Overlay};

const RULES: &str = "observability/throng.rules.yaml";
const WRITTEN: &str = "k8s/components/monitoring/rules.yaml";
const HEAD: &str = "\
# Written from observability/throng.rules.yaml; a test keeps it equal, and
# UPDATE_GOLDEN=1 cargo test --test manifests monitoring writes it anew.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: throng
  labels:
    app.kubernetes.io/name: throng
spec:
";

#[test]
fn the_rules_are_those_of_observability() {
    let rules = text(&path(RULES));
    let mut expected = HEAD.to_owned();
    for line in rules.lines().skip_while(|line| line.starts_with('#')) {
        let _ = writeln!(expected, "{}{line}", if line.is_empty() { "" } else { "  " });
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path(WRITTEN), &expected).unwrap();
    }
    assert_eq!(text(&path(WRITTEN)), expected);
}

/// The job that a component's Services are relabelled to.
fn job_of(component: &str) -> String {
    let overlay = Overlay::read(FULL);
    let endpoint = &overlay.object("ServiceMonitor", "throng")["spec"]["endpoints"][0];
    let relabelings = endpoint["relabelings"].as_array().unwrap();
    let mut fitting = relabelings.iter().filter(|rule| {
        let source = &rule["sourceLabels"][0];
        source == "__meta_kubernetes_service_label_app_kubernetes_io_component" && rule["regex"] == component
    });
    let rule = fitting.next().unwrap_or_else(|| panic!("{component} has no job"));
    assert_eq!((rule["targetLabel"].as_str(), fitting.next()), (Some("job"), None));
    rule["replacement"].as_str().unwrap().to_owned()
}

#[test]
fn the_jobs_are_those_the_rules_go_by() {
    let overlay = Overlay::read(FULL);
    let services = scraped(&overlay);
    let component = |service: &&serde_json::Value| {
        mapping(&service["metadata"]["labels"])["app.kubernetes.io/component"].clone()
    };
    let jobs: BTreeSet<_> = services.iter().map(|service| job_of(&component(service))).collect();
    let rules = text(&path(RULES));
    let named = rules.split("job=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    assert_eq!(jobs, named.collect());
}
