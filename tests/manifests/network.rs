//! Who reaches whom: ports, Services, policies, names.

use std::collections::BTreeMap;

use serde_json::Value;
use throng::client::target::Target;

use crate::files::{document, documents, mapping, path};
use crate::overlay::{FULL, OVERLAYS, Overlay, Workload, selects};
use crate::program::{Program, of_pod};

/// Ports of a container by their names.
fn ports(workload: &Workload<'_>) -> BTreeMap<String, u64> {
    let ports = workload.container["ports"].as_array().into_iter().flatten();
    ports
        .map(|port| (port["name"].as_str().unwrap().to_owned(), port["containerPort"].as_u64().unwrap()))
        .collect()
}

/// The pods behind a Service.
fn behind<'a>(overlay: &'a Overlay, service: &Value) -> Workload<'a> {
    let selector = serde_json::json!({"matchLabels": service["spec"]["selector"]});
    let mut found: Vec<_> =
        overlay.workloads().into_iter().filter(|workload| selects(&selector, &workload.labels)).collect();
    assert_eq!(found.len(), 1, "{}", service["metadata"]["name"]);
    found.remove(0)
}

#[test]
fn containers_open_the_ports_that_the_program_listens_on() {
    let overlay = Overlay::read(FULL);
    for workload in overlay.workloads() {
        let Some(program) = of_pod(&overlay, &workload) else { continue };
        let mut expected = BTreeMap::new();
        expected.extend(program.port().map(|port| ("http".to_owned(), u64::from(port))));
        if let Program::Node(config) = &program {
            expected.extend(config.ws_port.map(|port| ("ws".to_owned(), u64::from(port))));
        }
        assert_eq!(ports(&workload), expected, "{}", workload.name);
    }
}

#[test]
fn services_lead_to_ports_that_are_open() {
    let overlay = Overlay::read(FULL);
    for service in overlay.of_kind("Service") {
        let open = ports(&behind(&overlay, service));
        for port in service["spec"]["ports"].as_array().unwrap() {
            let target = port["targetPort"].as_str().unwrap();
            assert_eq!(open.get(target).copied(), port["port"].as_u64(), "{}", service["metadata"]["name"]);
        }
    }
    let nodes = overlay.object("Service", "throng");
    assert_eq!(nodes["spec"]["type"], "LoadBalancer");
    assert_eq!(nodes["spec"]["externalTrafficPolicy"], "Local");
    let headless = overlay.object("Service", "throng-headless");
    assert_eq!(headless["spec"]["clusterIP"], "None");
}

#[test]
fn probes_and_policies_name_ports_that_are_open() {
    let overlay = Overlay::read(FULL);
    for workload in overlay.workloads() {
        let open = ports(&workload);
        for probe in
            ["startupProbe", "readinessProbe", "livenessProbe"].map(|probe| &workload.container[probe])
        {
            let port = probe.pointer("/httpGet/port").or(probe.pointer("/tcpSocket/port"));
            assert!(port.is_none_or(|port| open.contains_key(port.as_str().unwrap())), "{}", workload.name);
        }
    }
    for policy in overlay.of_kind("NetworkPolicy") {
        for (rules, far) in [("ingress", false), ("egress", true)] {
            for rule in policy["spec"][rules].as_array().into_iter().flatten() {
                check_rule(&overlay, policy, rule, far);
            }
        }
    }
}

/// Named ports of a rule are open in the pods that are reached: those of the
/// policy, or, `far`, those it lets out to.
fn check_rule(overlay: &Overlay, policy: &Value, rule: &Value, far: bool) {
    let selector = if far { &rule["to"][0]["podSelector"] } else { &policy["spec"]["podSelector"] };
    let reached: Vec<_> = overlay
        .workloads()
        .into_iter()
        .filter(|workload| selects(selector, &workload.labels) && !ports(workload).is_empty())
        .collect();
    for port in rule["ports"].as_array().unwrap().iter().filter_map(|port| port["port"].as_str()) {
        assert!(!reached.is_empty(), "{policy}");
        assert!(reached.iter().all(|workload| ports(workload).contains_key(port)), "{policy}");
    }
}

#[test]
fn what_is_not_allowed_is_denied() {
    let overlay = Overlay::read("k8s/overlays/single");
    let policy = overlay.object("NetworkPolicy", "deny-the-rest");
    assert_eq!(policy["spec"], serde_json::json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
}

#[test]
fn balancers_follow_the_headless_service() {
    let overlay = Overlay::read("k8s/overlays/with-balancer");
    let Some(Program::Balancer(config)) = of_pod(&overlay, &overlay.workload("throng-balance")) else {
        panic!()
    };
    let (name, port) = config.backends_dns.as_deref().unwrap().rsplit_once(':').unwrap();
    let service = overlay.object("Service", name);
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true, "the balancer checks for itself");
    let nodes = behind(&overlay, service);
    assert_eq!(Some(&port.parse().unwrap()), ports(&nodes).get("http"));
    let Some(Program::Node(node)) = of_pod(&overlay, &nodes) else { panic!() };
    assert!(!node.trusted_proxies.is_empty(), "what the balancer says of clients is not believed");
    // DNS gives up an address only once the pod is gone; nobody may be sent there meanwhile.
    let readiness = &nodes.container["readinessProbe"]["httpGet"]["path"];
    assert_eq!(*readiness, config.health_path);
}

#[test]
fn clients_find_a_service() {
    for name in OVERLAYS {
        let overlay = Overlay::read(name);
        let Some(settings) = overlay.config_maps.get("throng-client") else { continue };
        check_url(&overlay, &settings["SERVER_URL"]);
    }
    let patches = &document(&path(FULL).join("kustomization.yaml"))["patches"];
    let patch: Vec<Value> = serde_saphyr::from_str(patches[0]["patch"].as_str().unwrap()).unwrap();
    assert_eq!(patch[0]["path"], "/data/SERVER_URL");
    check_url(&Overlay::read(FULL), patch[0]["value"].as_str().unwrap());
}

fn check_url(overlay: &Overlay, url: &str) {
    let target: Target = url.parse().unwrap();
    let service = overlay.object("Service", &target.host);
    let ports = service["spec"]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["port"] == target.port), "{url}");
    assert_eq!(target.path, "/ws");
}

/// The Services by way of which pods are scraped.
pub(crate) fn scraped(overlay: &Overlay) -> Vec<&Value> {
    let selector = &overlay.object("ServiceMonitor", "throng")["spec"]["selector"];
    let is_scraped = |service: &&Value| selects(selector, &mapping(&service["metadata"]["labels"]));
    overlay.of_kind("Service").filter(is_scraped).collect()
}

#[test]
fn every_pod_of_ours_that_listens_is_scraped_once() {
    let overlay = Overlay::read(FULL);
    let scraped = scraped(&overlay);
    let mut names: Vec<_> = scraped.iter().map(|service| behind(&overlay, service).name).collect();
    names.sort();
    assert_eq!(names, ["throng", "throng-balance"]);
    let endpoint = &overlay.object("ServiceMonitor", "throng")["spec"]["endpoints"][0];
    for service in scraped {
        let ports = service["spec"]["ports"].as_array().unwrap();
        assert!(ports.iter().any(|port| port["targetPort"] == endpoint["targetPort"]));
    }
}

#[test]
fn affinity_is_an_option() {
    let base = documents(&path("k8s/base/services.yaml"));
    assert!(base.iter().all(|service| service["spec"]["sessionAffinity"].is_null()));
    let option = document(&path("k8s/components/session-affinity/kustomization.yaml"));
    let patch: Vec<Value> = serde_saphyr::from_str(option["patches"][0]["patch"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&patch[0]["path"], &patch[0]["value"]),
        (&"/spec/sessionAffinity".into(), &"ClientIP".into())
    );
}
