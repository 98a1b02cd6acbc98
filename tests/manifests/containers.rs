//! The Dockerfile and the file for Compose.

use std::collections::BTreeMap;

use serde_json::Value;
use throng::client::target::Target;
use throng::config::Config;

use crate::files::{document, path, text, texts};
use crate::program::{Program, of_service};

/// The nodes that Compose starts.
const NODES: [&str; 3] = ["node-1:8080", "node-2:8080", "node-3:8080"];

/// The instructions of the Dockerfile's last stage: name and the rest.
fn last_stage() -> Vec<(String, String)> {
    let joined = text(&path("Dockerfile")).replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let all: Vec<_> = lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, rest)| (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    let start = all.iter().rposition(|(name, _)| name == "FROM").unwrap();
    all[start..].to_vec()
}

fn instruction(name: &str) -> String {
    let found: Vec<_> = last_stage().into_iter().filter(|(known, _)| known == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found[0].1.clone()
}

#[test]
fn the_image_is_the_binary_alone_and_not_root() {
    assert_eq!(instruction("FROM"), "scratch");
    assert_eq!(instruction("COPY"), "--from=build /out /");
    assert_eq!(instruction("ENTRYPOINT"), r#"["/throng"]"#);
    assert_eq!(instruction("STOPSIGNAL"), "SIGTERM");
    let user: Vec<u32> = instruction("USER").split(':').map(|id| id.parse().unwrap()).collect();
    assert!(user.len() == 2 && user.iter().all(|id| *id > 0), "{user:?}");
}

#[test]
fn the_image_runs_and_checks_what_the_program_takes() {
    let list = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap();
    let nothing = BTreeMap::new();
    let command = Program::read(&list(&instruction("CMD")), &nothing);
    let Program::Node(config) = command else { panic!("the image runs something else") };
    assert_eq!(*config, Config::default());
    let check = instruction("HEALTHCHECK");
    let check = list(check.split_once("CMD ").unwrap().1);
    assert_eq!(check[0], "/throng");
    assert!(matches!(Program::read(&check[1..], &nothing), Program::Health));
    let ports = instruction("EXPOSE");
    assert_eq!(ports, format!("{} {}", config.port, config.ws_port.unwrap()));
}

#[test]
fn the_image_is_of_this_version() {
    let args: Vec<_> =
        last_stage().into_iter().filter(|(name, _)| name == "ARG").map(|(_, rest)| rest).collect();
    assert!(args.contains(&format!("VERSION={}", env!("CARGO_PKG_VERSION"))), "{args:?}");
    assert!(instruction("LABEL").contains(r#"org.opencontainers.image.version="${VERSION}""#));
}

#[test]
fn the_compiler_is_new_enough() {
    let dockerfile = text(&path("Dockerfile"));
    let version = dockerfile.lines().find_map(|line| line.strip_prefix("ARG RUST_VERSION=")).unwrap();
    let number = |text: &str| text.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    assert!(number(version) >= number(env!("CARGO_PKG_RUST_VERSION")), "{version}");
}

fn services() -> BTreeMap<String, Value> {
    let services = document(&path("compose.yaml"))["services"].as_object().unwrap().clone();
    services.into_iter().collect()
}

#[test]
fn compose_runs_what_the_program_takes() {
    let programs = services().into_iter().filter_map(|(name, service)| Some((name, of_service(&service)?)));
    let mut nodes = Vec::new();
    for (name, program) in programs {
        match program {
            Program::Node(config) => {
                assert_eq!(config.node_id.as_deref(), Some(&*name));
                assert!(services().contains_key(config.redis_host.as_deref().unwrap()));
                nodes.push(format!("{name}:{}", config.port));
            }
            Program::Balancer(config) => {
                assert_eq!(config.backends, NODES);
                assert_eq!(texts(&services()[&name]["ports"]), [format!("8080:{}", config.port)]);
            }
            Program::Client => {
                let url: Target =
                    services()[&name]["environment"]["SERVER_URL"].as_str().unwrap().parse().unwrap();
                let server = of_service(&services()[&url.host]).unwrap();
                assert_eq!(server.port(), Some(url.port));
            }
            Program::Health => panic!("{name} is a health check"),
        }
    }
    assert_eq!(nodes, NODES);
}

#[test]
fn composed_containers_are_locked_in_and_of_this_version() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}");
        if of_service(&service).is_some() {
            assert_eq!(service["image"], concat!("throng:", env!("CARGO_PKG_VERSION")), "{name}");
            assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        }
    }
}
