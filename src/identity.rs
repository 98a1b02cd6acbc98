//! Where and as what this node runs.
//!
//! [`Identity::detect`] decides from a [`Probe`]; [`Probe::of_this_machine`]
//! is the only part that looks at the machine. Nothing here changes after the
//! start.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::SystemTime;
use std::{env, fmt, fs};

use serde::Serialize;

/// The kind of place a node runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// A process on a machine.
    Local,
    /// A container: Docker, Podman or another.
    Docker,
    /// A Kubernetes pod.
    Kubernetes,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Environment::Local => "local",
            Environment::Docker => "docker",
            Environment::Kubernetes => "kubernetes",
        })
    }
}

/// What a node says about itself, to clients and operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// 8 hex digits, different at each start.
    pub instance_id: String,
    /// The machine's, container's or pod's host name.
    pub hostname: String,
    /// The address of the interface that has the default route.
    pub container_ip: IpAddr,
    /// Name of the pod, in Kubernetes.
    pub pod_name: Option<String>,
    /// Name of the Kubernetes node, if `NODE_NAME` tells.
    pub node_name: Option<String>,
    /// Namespace of the pod, in Kubernetes.
    pub namespace: Option<String>,
    /// Configured name of the service.
    pub service_name: String,
    /// The kind of place.
    pub environment: Environment,
    /// `{service_name}-{pod name or hostname}`.
    pub display_name: String,
    /// Version of this program.
    pub version: &'static str,
    /// Time of the start, RFC 3339, UTC.
    pub started_at: String,
    /// Configured labels.
    pub labels: BTreeMap<String, String>,
}

/// What the machine shows, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Host name; `None` when it cannot be read.
    pub hostname: Option<String>,
    /// Address of the interface that has the default route, if there is one.
    pub address: Option<IpAddr>,
    /// `POD_NAME`.
    pub pod_name: Option<String>,
    /// `POD_NAMESPACE`.
    pub pod_namespace: Option<String>,
    /// `NODE_NAME`.
    pub node_name: Option<String>,
    /// Whether `KUBERNETES_SERVICE_HOST` is set.
    pub kubernetes_service: bool,
    /// Whether a Kubernetes service account is mounted.
    pub service_account: bool,
    /// Namespace in the service account.
    pub service_account_namespace: Option<String>,
    /// Whether `/.dockerenv` or `/run/.containerenv` exists.
    pub container_file: bool,
    /// Whether the variable `container` is set, as container managers do.
    pub container_variable: bool,
    /// `/proc/self/cgroup`; empty when it cannot be read.
    pub cgroup: String,
    /// `/proc/self/mountinfo`; empty when it cannot be read.
    pub mountinfo: String,
    /// A random number.
    pub random: u32,
    /// The time of the start.
    pub started_at: SystemTime,
}

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Identity {
    /// Decides from what the machine shows and what is configured.
    pub fn detect(probe: &Probe, service_name: &str, labels: &BTreeMap<String, String>) -> Identity {
        let environment = environment(probe);
        let hostname = probe.hostname.clone().unwrap_or_else(|| "localhost".to_owned());
        let in_pod = environment == Environment::Kubernetes;
        // A pod's host name is its own name unless it shares the host's network.
        let pod_name = probe.pod_name.clone().or_else(|| in_pod.then(|| hostname.clone()));
        let namespace = probe.pod_namespace.clone().or_else(|| probe.service_account_namespace.clone());
        let display_name = format!("{service_name}-{}", pod_name.as_ref().unwrap_or(&hostname));
        Identity {
            instance_id: format!("{:08x}", probe.random),
            container_ip: probe.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            pod_name,
            node_name: probe.node_name.clone(),
            namespace,
            service_name: service_name.to_owned(),
            environment,
            display_name,
            version: env!("CARGO_PKG_VERSION"),
            started_at: humantime::format_rfc3339_millis(probe.started_at).to_string(),
            labels: labels.clone(),
            hostname,
        }
    }

    /// The node's id: as configured, else the pod's name (a StatefulSet keeps
    /// it), else host name and instance, since one host may run several nodes.
    pub fn node_id(&self, configured: Option<&str>) -> String {
        match (configured, &self.pod_name) {
            (Some(id), _) => id.to_owned(),
            (None, Some(pod)) => pod.clone(),
            (None, None) => format!("{}-{}", self.hostname, self.instance_id),
        }
    }
}

fn environment(probe: &Probe) -> Environment {
    if probe.kubernetes_service || probe.service_account {
        Environment::Kubernetes
    } else if probe.container_file
        || probe.container_variable
        || cgroup_of_container(&probe.cgroup)
        || mounts_of_container(&probe.mountinfo)
    {
        Environment::Docker
    } else {
        Environment::Local
    }
}

/// With cgroup v1, or v2 without a cgroup namespace, the path names the manager.
fn cgroup_of_container(cgroup: &str) -> bool {
    const MARKS: [&str; 7] =
        ["/docker/", "/docker-", "/kubepods", "/libpod-", "/libpod_", "/cri-containerd-", "/lxc/"];
    cgroup.lines().any(|line| MARKS.iter().any(|mark| line.contains(mark)))
}

/// A container's `/etc/hostname` and the like are bound from its manager's
/// directory. The host has mounts of that directory too, but not there.
fn mounts_of_container(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| {
        // proc_pid_mountinfo(5): id, parent, device, root, mount point, …
        let mut fields = line.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { return false };
        matches!(point, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf")
            && ["/containers/", "-containers/", "/kubelet/pods/"].iter().any(|mark| root.contains(mark))
    })
}

impl Probe {
    /// Looks at this machine. May ask the resolver when there is no default
    /// route, so it is called once, at the start.
    pub fn of_this_machine() -> Probe {
        let hostname = hostname();
        let service_account = Path::new(SERVICE_ACCOUNT);
        Probe {
            address: address(hostname.as_deref()),
            hostname,
            pod_name: variable("POD_NAME"),
            pod_namespace: variable("POD_NAMESPACE"),
            node_name: variable("NODE_NAME"),
            kubernetes_service: variable("KUBERNETES_SERVICE_HOST").is_some(),
            service_account: service_account.is_dir(),
            service_account_namespace: text(service_account.join("namespace")),
            container_file: Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists(),
            container_variable: variable("container").is_some(),
            cgroup: fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
            mountinfo: fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            random: random(),
            started_at: SystemTime::now(),
        }
    }
}

/// The variable's value, unless it is unset, empty or not UTF-8.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// A file's text without the white space around it, unless there is none.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn hostname() -> Option<String> {
    text("/proc/sys/kernel/hostname").or_else(|| variable("HOSTNAME")).or_else(|| text("/etc/hostname"))
}

/// The address packets to the world leave from, else one the host name stands for.
fn address(hostname: Option<&str>) -> Option<IpAddr> {
    // Addresses kept for documentation (RFC 5737, RFC 3849): connecting a
    // datagram socket looks up the route and sends nothing.
    routed("0.0.0.0:0", "192.0.2.1:9").or_else(|| routed("[::]:0", "[2001:db8::1]:9")).or_else(|| {
        (hostname?, 0).to_socket_addrs().ok()?.map(|found| found.ip()).find(|ip| !ip.is_loopback())
    })
}

fn routed(from: &str, to: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|address: SocketAddr| address.ip()).filter(|ip| !ip.is_unspecified())
}

/// 32 bits that differ between processes: the standard library seeds its
/// hashers from the operating system's random source.
fn random() -> u32 {
    let hash = RandomState::new().hash_one(std::process::id());
    (hash ^ (hash >> 32)) as u32
}
