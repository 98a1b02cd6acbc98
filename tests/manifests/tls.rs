//! The components for TLS: a pod with a Secret as the kubelet puts it there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::files::{document, path, variables};
use crate::node::{Launch, Node, eventually};
use crate::overlay::Overlay;
use crate::program::Program;

/// Each with what its patch changes.
const COMPONENTS: [(&str, &str, &str); 2] = [
    ("k8s/components/tls", "StatefulSet", "serve"),
    ("k8s/components/balancer-tls", "Deployment", "balance"),
];

/// What a component makes of a pod, and the settings it adds.
pub(crate) fn read(component: &str, kind: &str, settings: &str) -> (Value, BTreeMap<String, String>) {
    let patches = document(&path(component).join("kustomization.yaml"))["patches"].clone();
    let patches = patches.as_array().unwrap();
    let patch = patches.iter().find(|patch| patch["target"]["kind"] == kind).unwrap();
    let patched: Value = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
    assert_eq!(patched["metadata"]["name"], patch["target"]["name"]);
    let settings = variables(&path(component).join(settings));
    (patched["spec"]["template"]["spec"].clone(), settings)
}

#[test]
fn the_program_is_told_where_the_secret_is() {
    for (component, kind, command) in COMPONENTS {
        let (pod, mut settings) = read(component, kind, "tls.env");
        let container = &pod["containers"][0];
        let mount = &container["volumeMounts"][0];
        assert!(mount["subPath"].is_null(), "{component}: it would never be replaced");
        assert_eq!(mount["name"], pod["volumes"][0]["name"], "{component}");
        settings.insert("THRONG_BACKENDS".to_owned(), "node:8080".to_owned());
        let tls = match Program::read(&[command.to_owned()], &settings) {
            Program::Node(config) => config.tls(),
            Program::Balancer(config) => config.tls(),
            _ => panic!("{command}"),
        };
        let tls = tls.unwrap();
        // So the type kubernetes.io/tls names them.
        let folder = Path::new(mount["mountPath"].as_str().unwrap());
        assert_eq!((tls.certificate, tls.key), (folder.join("tls.crt"), folder.join("tls.key")));
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS", "{component}: {probe}");
        }
    }
}

/// What lets the balancers speak TLS with the nodes of the first component.
const BACKENDS: (&str, &str, &str) = ("k8s/components/backend-tls", "Deployment", "backend.env");

#[test]
fn the_balancers_are_told_whom_to_believe() {
    let (pod, mut settings) = read(BACKENDS.0, BACKENDS.1, BACKENDS.2);
    let (mount, secret) = (&pod["containers"][0]["volumeMounts"][0], &pod["volumes"][0]["secret"]);
    assert!(mount["subPath"].is_null(), "it would never be replaced");
    assert_eq!(mount["name"], pod["volumes"][0]["name"]);
    let (nodes, _) = read(COMPONENTS[0].0, COMPONENTS[0].1, "tls.env");
    assert_eq!(secret["secretName"], nodes["volumes"][0]["secret"]["secretName"]);
    assert_eq!(secret["items"], json!([{"key": "ca.crt", "path": "ca.crt"}]), "the key is the nodes' alone");
    let overlay = Overlay::read("k8s/overlays/with-balancer");
    settings.extend(overlay.config_maps["throng-balance"].clone());
    let Program::Balancer(config) = Program::read(&["balance".to_owned()], &settings) else { panic!() };
    let file = Path::new(mount["mountPath"].as_str().unwrap()).join("ca.crt");
    assert_eq!((config.backend_tls, config.backend_ca), (true, Some(file)));
    // The name they are found by is the name they have.
    let (found, _) = config.backends_dns.as_deref().unwrap().split_once(':').unwrap();
    assert_eq!(config.backend_tls_name.as_deref(), Some(found));
    overlay.object("Service", found);
}

/// A Secret as the kubelet mounts it: files are links into the folder that the
/// link `..data` leads to, which is all that an update replaces.
pub(crate) struct Secret {
    pub(crate) mounted: PathBuf,
    updates: u32,
}

impl Secret {
    pub(crate) fn mount(files: &[(&str, &str)]) -> Secret {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mounted = std::env::temp_dir().join(format!("throng-secret-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&mounted);
        fs::create_dir_all(&mounted).unwrap();
        let mut secret = Secret { mounted, updates: 0 };
        secret.update(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), secret.mounted.join(name)).unwrap();
        }
        secret
    }

    pub(crate) fn update(&mut self, files: &[(&str, &str)]) {
        self.updates += 1;
        let folder = format!("..{}", self.updates);
        fs::create_dir(self.mounted.join(&folder)).unwrap();
        for (name, text) in files {
            fs::write(self.mounted.join(&folder).join(name), text).unwrap();
        }
        symlink(&folder, self.mounted.join("..data_tmp")).unwrap();
        fs::rename(self.mounted.join("..data_tmp"), self.mounted.join("..data")).unwrap();
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.mounted);
    }
}

/// Whether `throng health` believes the node, with these words besides.
fn is_well(node: &Node, path: &str, words: &[&str]) -> bool {
    let url = format!("https://localhost:{}{path}", node.http.port());
    Launch::bare(&[&["health", &url], words].concat()).spawn().wait().success()
}

#[test]
fn a_new_certificate_is_shown_without_a_signal() {
    let made = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (old, new) = (made(), made());
    let mut secret = Secret::mount(&[("tls.crt", &old.0), ("tls.key", &old.1)]);
    let (_, settings) = read(COMPONENTS[0].0, COMPONENTS[0].1, "tls.env");
    let launch = settings.iter().fold(Launch::serve(&["--reactors", "1"]), |launch, (name, file)| {
        launch.variable(name, &file.replacen("/tls", secret.mounted.to_str().unwrap(), 1))
    });
    let node = launch.start();
    // As the kubelet asks.
    for path in ["/livez", "/readyz"] {
        assert!(is_well(&node, path, &["--insecure"]), "{path}");
    }
    let trusted = [("old.pem", &old.0), ("new.pem", &new.0)].map(|(name, certificate)| {
        let file = secret.mounted.join(name);
        fs::write(&file, certificate).unwrap();
        file
    });
    let shows = |which: usize| is_well(&node, "/livez", &["--ca-file", trusted[which].to_str().unwrap()]);
    assert!(shows(0) && !shows(1));
    secret.update(&[("tls.crt", &new.0), ("tls.key", &new.1)]);
    eventually("the new certificate is shown", || shows(1));
    assert!(!shows(0));

    // What cannot be used is not.
    secret.update(&[("tls.crt", &old.0), ("tls.key", &new.1)]);
    node.process.log_line("the certificate in force stays");
    assert!(shows(1) && !shows(0));
}

/// Certificates for the name that nodes are found by: one that is its own authority, and its key.
fn made_for_nodes() -> (String, String) {
    let name = variables(&path(BACKENDS.0).join(BACKENDS.2)).remove("THRONG_BACKEND_TLS_NAME").unwrap();
    let made = rcgen::generate_simple_self_signed(vec![name]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Started with the settings of a component, what it mounts being in this folder.
fn with_settings(launch: Launch, component: (&str, &str, &str), folder: &Path) -> Launch {
    let (pod, settings) = read(component.0, component.1, component.2);
    let mounted = pod["containers"][0]["volumeMounts"][0]["mountPath"].as_str().unwrap();
    settings.iter().fold(launch, |launch, (name, value)| {
        let inside = value.strip_prefix(mounted).map(|file| format!("{}{file}", folder.display()));
        launch.variable(name, inside.as_deref().unwrap_or(value))
    })
}

#[test]
fn balancers_believe_the_nodes_of_their_secret() {
    let (old, new) = (made_for_nodes(), made_for_nodes());
    let files = |(certificate, key): &(String, String), authorities: &str| {
        [("tls.crt", certificate.clone()), ("tls.key", key.clone()), ("ca.crt", authorities.to_owned())]
    };
    let lent =
        |files: &[(&'static str, String); 3]| files.clone().map(|(name, text)| (name, text.leak() as &str));
    let mut secret = Secret::mount(&lent(&files(&old, &old.0)));
    let nodes = (COMPONENTS[0].0, COMPONENTS[0].1, "tls.env");
    let node = with_settings(Launch::serve(&["--reactors", "1"]), nodes, &secret.mounted).start();
    let address = node.http.to_string();
    let balance = ["balance", "--bind", "127.0.0.1", "--port", "0", "--backend", &address];
    let checks = ["--health-interval", "300ms", "--health-timeout", "250ms", "--health-fall", "100"];
    let balancer = Launch::bare(&[&balance[..], &checks].concat());
    let balancer = with_settings(balancer, BACKENDS, &secret.mounted).spawn();
    let ready = balancer.stdout_line().unwrap();
    let http = ready.split(' ').find_map(|word| word.strip_prefix("http=")).unwrap().to_owned();
    let asks_node =
        || Launch::bare(&["health", &format!("http://{http}/nodes"), "--quiet"]).spawn().wait().success();
    eventually("the node is reached", asks_node);

    // First both authorities are believed, then the nodes have a certificate of the new one. What
    // is read anew is all of the Secret.
    let both = [old.0.as_str(), &new.0].concat();
    for shown in [&old, &new] {
        secret.update(&lent(&files(shown, &both)));
        balancer.log_line("ca.crt read again, for new connections to backends");
        node.process.log_line("tls.crt read again");
        assert!(asks_node());
    }
}
