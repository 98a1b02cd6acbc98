//! What a container runs, read by the program itself.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::Value;
use throng::balancer::config::BalanceConfig;
use throng::cli::{self, Command, Configured};
use throng::config::{Config, Loader, Settings};
use throng::drain::Plan;

use crate::files::{mapping, texts};
use crate::overlay::{Overlay, Workload};

/// What a command line and an environment come to.
pub(crate) enum Program {
    Node(Box<Config>),
    Balancer(Box<BalanceConfig>),
    Client,
    Health,
}

impl Program {
    /// Reads them as `throng` would; whatever it would not take fails the test.
    pub(crate) fn read(args: &[String], environment: &BTreeMap<String, String>) -> Program {
        let words = std::iter::once("throng").chain(args.iter().map(String::as_str));
        match cli::parse(words.map(OsString::from)) {
            Ok(Command::Serve(line)) => Program::Node(Box::new(load(*line, environment))),
            Ok(Command::Balance(line)) => Program::Balancer(Box::new(load(*line, environment))),
            Ok(Command::Client(_)) => Program::Client,
            Ok(Command::Health(_)) => Program::Health,
            Err(stop) => panic!("{args:?}: {stop:?}"),
        }
    }

    /// The port of HTTP, if it listens.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Program::Node(config) => Some(config.port),
            Program::Balancer(config) => Some(config.port),
            Program::Client | Program::Health => None,
        }
    }

    /// The bounds of its drain, if it drains.
    pub(crate) fn plan(&self) -> Option<Plan> {
        let (lame_duck, window, timeout) = match self {
            Program::Node(config) => (config.lame_duck, config.drain_window, config.drain_timeout),
            Program::Balancer(config) => (config.lame_duck, config.drain_window, config.drain_timeout),
            Program::Client | Program::Health => return None,
        };
        Some(Plan { lame_duck, window, timeout })
    }
}

fn load<C: Settings>(line: Configured<C>, environment: &BTreeMap<String, String>) -> C {
    let variables = environment.iter().map(|(name, value)| (name.into(), value.into()));
    let loaded = Loader::new(line.flags, variables).load();
    loaded.unwrap_or_else(|error| panic!("{environment:?}: {error}")).0
}

/// What is in a pod's environment. Secrets that may be missing are.
pub(crate) fn environment(overlay: &Overlay, workload: &Workload<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for source in workload.container["envFrom"].as_array().into_iter().flatten() {
        let name = source["configMapRef"]["name"].as_str().unwrap();
        environment
            .extend(overlay.config_maps.get(name).unwrap_or_else(|| panic!("no ConfigMap {name}")).clone());
    }
    for variable in workload.container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap();
        if let Some(value) = value(variable, workload) {
            environment.insert(name.to_owned(), value);
        }
    }
    environment
}

fn value(variable: &Value, workload: &Workload<'_>) -> Option<String> {
    if let Some(value) = variable["value"].as_str() {
        return Some(value.to_owned());
    }
    let from = &variable["valueFrom"];
    if from["secretKeyRef"].is_object() {
        assert_eq!(from["secretKeyRef"]["optional"], true, "{variable}");
        return None;
    }
    let field = from["fieldRef"]["fieldPath"].as_str().unwrap();
    let label = |field: &str| field.strip_prefix("metadata.labels['")?.strip_suffix("']").map(str::to_owned);
    Some(match field {
        "metadata.name" => format!("{}-0", workload.name),
        "metadata.namespace" => "throng".to_owned(),
        "spec.nodeName" => "machine-1".to_owned(),
        _ => workload.labels[&label(field).unwrap_or_else(|| panic!("{field}"))].clone(),
    })
}

/// A container's arguments, its variables put in.
pub(crate) fn args(container: &Value, environment: &BTreeMap<String, String>) -> Vec<String> {
    let put_in = |arg: String| {
        environment.iter().fold(arg, |arg, (name, value)| arg.replace(&format!("$({name})"), value))
    };
    texts(&container["args"]).into_iter().map(put_in).collect()
}

/// The program of a pod of throng; `None` for other images.
pub(crate) fn of_pod(overlay: &Overlay, workload: &Workload<'_>) -> Option<Program> {
    let image = workload.container["image"].as_str().unwrap();
    let environment = environment(overlay, workload);
    image.starts_with("throng:").then(|| Program::read(&args(workload.container, &environment), &environment))
}

/// The program of a service of Compose; `None` for other images.
pub(crate) fn of_service(service: &Value) -> Option<Program> {
    let image = service["image"].as_str().unwrap();
    let environment = mapping(&service["environment"]);
    image.starts_with("throng:").then(|| Program::read(&texts(&service["command"]), &environment))
}
