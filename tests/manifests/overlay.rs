//! What a kustomization is made of. Patches are not applied: `tools/kubernetes`
//! has kustomize itself do that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::files::{below, document, documents, mapping, path, text, texts, variables};

/// The overlay that has everything.
pub(crate) const FULL: &str = "k8s/overlays/full";

/// Every overlay.
pub(crate) const OVERLAYS: [&str; 5] =
    ["k8s/overlays/single", "k8s/overlays/cluster", "k8s/overlays/with-balancer", "k8s/overlays/demo", FULL];

/// Components that none of them has.
const OPTIONS: [&str; 5] = [
    "k8s/components/session-affinity",
    "k8s/components/tls",
    "k8s/components/balancer-tls",
    "k8s/components/backend-tls",
    "k8s/components/jwt",
];

/// Objects and generated ConfigMaps, gathered.
#[derive(Default)]
pub(crate) struct Overlay {
    pub(crate) objects: Vec<Value>,
    pub(crate) config_maps: BTreeMap<String, BTreeMap<String, String>>,
    files: BTreeSet<PathBuf>,
}

/// A kind of pods.
pub(crate) struct Workload<'a> {
    pub(crate) name: String,
    pub(crate) object: &'a Value,
    pub(crate) labels: BTreeMap<String, String>,
    /// The pod's specification.
    pub(crate) pod: &'a Value,
    /// Its only container.
    pub(crate) container: &'a Value,
}

impl Overlay {
    pub(crate) fn read(folder: &str) -> Overlay {
        let mut overlay = Overlay::default();
        overlay.add(&path(folder));
        overlay
    }

    fn add(&mut self, folder: &Path) {
        let file = folder.join("kustomization.yaml");
        let kustomization = document(&file);
        self.files.insert(file.canonicalize().unwrap());
        for key in ["resources", "components"] {
            for name in texts(&kustomization[key]) {
                let part =
                    folder.join(&name).canonicalize().unwrap_or_else(|error| panic!("{name}: {error}"));
                if part.is_dir() {
                    self.add(&part);
                } else {
                    self.objects.extend(documents(&part));
                    self.files.insert(part);
                }
            }
        }
        for generator in kustomization["configMapGenerator"].as_array().into_iter().flatten() {
            let name = generator["name"].as_str().unwrap().to_owned();
            for file in texts(&generator["envs"]) {
                let file = folder.join(file).canonicalize().unwrap();
                self.config_maps.entry(name.clone()).or_default().extend(variables(&file));
                self.files.insert(file);
            }
        }
    }

    /// The object of this kind and name.
    pub(crate) fn object(&self, kind: &str, name: &str) -> &Value {
        let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Everything that makes pods.
    pub(crate) fn workloads(&self) -> Vec<Workload<'_>> {
        self.objects.iter().filter(|object| object["spec"]["template"].is_object()).map(workload).collect()
    }

    pub(crate) fn workload(&self, name: &str) -> Workload<'_> {
        self.workloads().into_iter().find(|workload| workload.name == name).unwrap()
    }
}

fn workload(object: &Value) -> Workload<'_> {
    let template = &object["spec"]["template"];
    let containers = template["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{}", object["metadata"]["name"]);
    Workload {
        name: object["metadata"]["name"].as_str().unwrap().to_owned(),
        object,
        labels: mapping(&template["metadata"]["labels"]),
        pod: &template["spec"],
        container: &containers[0],
    }
}

/// Whether a selector selects what has these labels.
pub(crate) fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let equal = mapping(&selector["matchLabels"]).iter().all(|(name, value)| labels.get(name) == Some(value));
    let one_of = |expression: &Value| {
        assert_eq!(expression["operator"], "In");
        let value = labels.get(expression["key"].as_str().unwrap());
        value.is_some_and(|value| texts(&expression["values"]).contains(value))
    };
    equal && selector["matchExpressions"].as_array().into_iter().flatten().all(one_of)
}

#[test]
fn every_file_is_part_of_an_overlay() {
    let mut used = BTreeSet::new();
    for overlay in OPTIONS.iter().chain(&OVERLAYS) {
        used.extend(Overlay::read(overlay).files);
    }
    let there: BTreeSet<PathBuf> = below(&path("k8s")).into_iter().collect();
    assert_eq!(there, used);
    let overlays = std::fs::read_dir(path("k8s/overlays")).unwrap().count();
    assert_eq!(overlays, OVERLAYS.len());
}

#[test]
fn an_overlay_has_one_namespace_and_no_object_twice() {
    for name in OVERLAYS {
        let overlay = Overlay::read(name);
        let id = |object: &Value| {
            assert!(object["apiVersion"].is_string(), "{name}: {object}");
            format!("{} {}", object["kind"], object["metadata"]["name"])
        };
        let ids: BTreeSet<_> = overlay.objects.iter().map(id).collect();
        assert_eq!(ids.len(), overlay.objects.len(), "{name}");
        assert!(ids.contains("\"StatefulSet\" \"throng\""), "{name}: {ids:?}");
        let namespace = &document(&path(name).join("kustomization.yaml"))["namespace"];
        assert_eq!(*namespace, overlay.object("Namespace", "throng")["metadata"]["name"], "{name}");
    }
}

#[test]
fn what_is_for_trials_says_so() {
    let overlay = Overlay::read(FULL);
    for object in overlay.of_kind("Deployment") {
        let is_redis = object["metadata"]["labels"]["app.kubernetes.io/component"] == "redis";
        let is_marked = object["metadata"]["annotations"]["throng/purpose"].to_string().contains("trials");
        assert_eq!(is_redis, is_marked, "{}", object["metadata"]["name"]);
    }
    let about = text(&path("k8s/components/redis-trial/kustomization.yaml"));
    assert!(about.starts_with("# FOR TRIALS ONLY"), "{about}");
}
