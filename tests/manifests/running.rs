//! What can only be seen of a program that runs.

use std::net::SocketAddr;

use crate::files::{path, text, texts};
use crate::node::{Launch, Node, Process, eventually};
use crate::overlay::{FULL, Overlay};
use crate::program::environment;
use crate::web::Web;

/// A node with the environment of a pod, on ports that disturb nobody.
fn pod() -> Node {
    let overlay = Overlay::read("k8s/overlays/single");
    let workload = overlay.workload("throng");
    assert_eq!(texts(&workload.container["args"]), ["serve"]);
    let environment = environment(&overlay, &workload);
    let launch = Launch::serve(&["--reactors", "1", "--lame-duck", "1h"]);
    let launch = environment.iter().fold(launch, |launch, (name, value)| launch.variable(name, value));
    // What Kubernetes sets even in a pod that wants no variables of Services.
    launch.variable("KUBERNETES_SERVICE_HOST", "10.96.0.1").start()
}

/// A balancer with the environment of a pod, before this node, and its port.
fn balancer_before(node: &Node) -> (Process, SocketAddr) {
    let overlay = Overlay::read("k8s/overlays/with-balancer");
    let workload = overlay.workload("throng-balance");
    assert_eq!(texts(&workload.container["args"]), ["balance"]);
    let mut environment = environment(&overlay, &workload);
    // The only name that does not exist here.
    assert!(environment.remove("THRONG_BACKENDS_DNS").is_some());
    let backend = node.http.to_string();
    let flags = ["--port", "0", "--bind", "127.0.0.1", "--reactors", "1", "--lame-duck", "1h"];
    let launch = Launch::bare(&[&["balance", "--backend", &backend][..], &flags].concat());
    let launch = environment.iter().fold(launch, |launch, (name, value)| launch.variable(name, value));
    let process = launch.spawn();
    let ready = process.stdout_line().unwrap_or_else(|| panic!("{:#?}", process.rest_of_stderr()));
    let address = ready.split("http=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let address = address.parse().unwrap();
    (process, address)
}

fn probe(name: &str) -> String {
    let overlay = Overlay::read(FULL);
    let of = |workload: &str| {
        overlay.workload(workload).container[name]["httpGet"]["path"].as_str().unwrap().to_owned()
    };
    assert_eq!(of("throng"), of("throng-balance"), "{name}");
    of("throng")
}

#[test]
fn probes_ask_what_is_answered() {
    let node = pod();
    let (startup, liveness, readiness) =
        (probe("startupProbe"), probe("livenessProbe"), probe("readinessProbe"));
    for path in [&startup, &liveness, &readiness] {
        assert_eq!(node.get(path).status, 200, "{path}");
    }
    node.process.signal(libc::SIGTERM);
    eventually("readiness fails", || node.get(&readiness).status == 503);
    assert_eq!(node.get(&liveness).status, 200, "a node that drains is alive");
}

#[test]
fn probes_ask_what_a_balancer_answers() {
    let node = pod();
    let (balancer, address) = balancer_before(&node);
    let status = |path: &str| Web::connect(address).request("GET", path, "", "").status;
    let (liveness, readiness) = (probe("livenessProbe"), probe("readinessProbe"));
    eventually("the balancer is ready", || status(&readiness) == 200);
    assert_eq!(status(&liveness), 200);
    balancer.signal(libc::SIGTERM);
    eventually("readiness fails", || status(&readiness) == 503);
    assert_eq!(status(&liveness), 200, "a balancer that drains is alive");
}

#[test]
fn a_pod_knows_itself() {
    let node = pod();
    assert_eq!(node.id, "throng-0");
    let identity = &node.json("/health")["service_identity"];
    let says = |name: &str| identity[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(says("environment"), "kubernetes");
    assert_eq!(says("pod_name"), "throng-0");
    assert_eq!(says("namespace"), "throng");
    assert_eq!(says("node_name"), "machine-1");
    assert_eq!(says("service_name"), "throng");
    assert_eq!(says("display_name"), "throng-throng-0");
}

/// The autoscaler's metric, and the rule of the adapter in the documentation.
#[test]
fn the_autoscaler_goes_by_a_metric_that_exists() {
    let body = String::from_utf8(pod().get("/metrics").body).unwrap();
    let overlay = Overlay::read(FULL);
    let scaler = &overlay.object("HorizontalPodAutoscaler", "throng")["spec"]["metrics"][0];
    let metric = scaler["pods"]["metric"]["name"].as_str().unwrap();
    assert!(body.lines().any(|line| line.starts_with(&format!("{metric}{{"))), "no {metric}");
    assert!(
        text(&path("docs/kubernetes.md")).contains(&format!("'{metric}{{")),
        "the adapter's rule is gone"
    );
}
