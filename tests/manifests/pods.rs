//! Pods: what they run, and with what rights.

use serde_json::json;
use throng::config::Config;

use crate::files::texts;
use crate::overlay::{FULL, OVERLAYS, Overlay, selects};
use crate::program::{Program, environment, of_pod};

#[test]
fn every_pod_is_locked_in() {
    let overlay = Overlay::read(FULL);
    for workload in overlay.workloads() {
        let name = &workload.name;
        let (pod, container) = (&workload.pod, &workload.container);
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert!(pod["securityContext"]["runAsUser"].as_u64() > Some(0), "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(container["securityContext"], expected, "{name}");
        for key in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
            assert!(pod[key].is_null(), "{name} has {key}");
        }
        let bounded =
            ["requests", "limits"].iter().all(|key| container["resources"][key]["memory"].is_string());
        assert!(bounded, "{name}");
    }
}

#[test]
fn every_pod_runs_what_the_program_takes() {
    for name in OVERLAYS {
        let overlay = Overlay::read(name);
        let programs: Vec<_> =
            overlay.workloads().iter().filter_map(|workload| of_pod(&overlay, workload)).collect();
        let nodes = programs.iter().filter(|program| matches!(program, Program::Node(_))).count();
        assert_eq!(nodes, 1, "{name}");
    }
}

#[test]
fn images_are_of_this_version() {
    let overlay = Overlay::read(FULL);
    let images: Vec<_> =
        overlay.workloads().iter().map(|workload| workload.container["image"].clone()).collect();
    let ours = concat!("throng:", env!("CARGO_PKG_VERSION"));
    assert_eq!(images.iter().filter(|image| **image == ours).count(), 3, "{images:?}");
    assert_eq!(images.len(), 4, "{images:?}");
}

#[test]
fn nodes_are_told_where_they_run() {
    let overlay = Overlay::read(FULL);
    let environment = environment(&overlay, &overlay.workload("throng"));
    let told = |name: &str| environment.get(name).map(String::as_str);
    assert_eq!(told("POD_NAME"), Some("throng-0"));
    assert_eq!(told("POD_NAMESPACE"), Some("throng"));
    assert_eq!(told("NODE_NAME"), Some("machine-1"));
    assert_eq!(told("SERVICE_NAME"), Some("throng"));
    assert_eq!(told("NODE_ID"), told("POD_NAME"), "pods of one name are one node");
}

#[test]
fn nodes_have_their_resources_and_numbers() {
    let overlay = Overlay::read("k8s/overlays/cluster");
    let nodes = overlay.workload("throng");
    let expected = json!({
        "requests": {"cpu": "500m", "memory": "512Mi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    });
    assert_eq!(nodes.container["resources"], expected);
    assert_eq!(nodes.object["spec"]["replicas"], 3);
    assert_eq!(nodes.object["spec"]["serviceName"], "throng-headless");
    let budget = overlay.object("PodDisruptionBudget", "throng");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let keys = nodes.pod["topologySpreadConstraints"].as_array().unwrap().iter();
    let keys: Vec<_> = keys.map(|constraint| constraint["topologyKey"].clone()).collect();
    assert_eq!(keys, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]);
}

#[test]
fn a_full_node_is_within_its_memory() {
    let overlay = Overlay::read(FULL);
    let Some(Program::Node(config)) = of_pod(&overlay, &overlay.workload("throng")) else { panic!() };
    // The kernel's part of an idle connection and its row; as much again is left for what is under way.
    let idle = 5 * 1024 + 200;
    assert!(config.max_connections * idle * 2 < 2 * 1024 * 1024 * 1024);
    let scaler = overlay.object("HorizontalPodAutoscaler", "throng");
    let target: usize =
        scaler["spec"]["metrics"][0]["pods"]["target"]["averageValue"].as_str().unwrap().parse().unwrap();
    assert!(
        2 * target <= config.max_connections,
        "the others have no room for the clients of one that leaves"
    );
    let limit =
        |workload: &str| overlay.workload(workload).container["resources"]["limits"]["memory"].clone();
    assert_eq!(limit("throng"), limit("throng-balance"));
}

#[test]
fn nodes_share_a_redis_that_is_there() {
    for (name, expected) in [("k8s/overlays/single", None), ("k8s/overlays/cluster", Some("redis-trial"))] {
        let overlay = Overlay::read(name);
        let Some(Program::Node(config)) = of_pod(&overlay, &overlay.workload("throng")) else { panic!() };
        assert_eq!(config.redis_host.as_deref(), expected);
        if let Some(host) = expected {
            let service = overlay.object("Service", host);
            assert_eq!(service["spec"]["ports"][0]["port"], config.redis_port);
        }
    }
}

#[test]
fn clients_check_what_nodes_make_up() {
    for name in ["k8s/overlays/demo", FULL] {
        let overlay = Overlay::read(name);
        let Some(Program::Node(config)) = of_pod(&overlay, &overlay.workload("throng")) else { panic!() };
        assert!(config.simulate);
        let clients = overlay.workload("throng-client");
        assert!(texts(&clients.container["args"]).contains(&"--simulate".to_owned()));
    }
    assert!(!Config::default().simulate);
}

#[test]
fn selectors_select() {
    let overlay = Overlay::read(FULL);
    for workload in overlay.workloads() {
        let selector = &workload.object["spec"]["selector"];
        let selected: Vec<_> = overlay
            .workloads()
            .iter()
            .filter(|other| selects(selector, &other.labels))
            .map(|one| one.name.clone())
            .collect();
        assert_eq!(selected, std::slice::from_ref(&workload.name));
        for constraint in workload.pod["topologySpreadConstraints"].as_array().into_iter().flatten() {
            assert!(selects(&constraint["labelSelector"], &workload.labels), "{}", workload.name);
        }
    }
    for budget in overlay.of_kind("PodDisruptionBudget") {
        let name = budget["metadata"]["name"].as_str().unwrap();
        assert!(selects(&budget["spec"]["selector"], &overlay.workload(name).labels), "{name}");
    }
    let scaled = &overlay.object("HorizontalPodAutoscaler", "throng")["spec"]["scaleTargetRef"];
    let target = overlay.object(scaled["kind"].as_str().unwrap(), scaled["name"].as_str().unwrap());
    assert_eq!(target["apiVersion"], scaled["apiVersion"]);
}
