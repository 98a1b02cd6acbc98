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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn probe() -> Probe {
        Probe {
            hostname: Some("host".to_owned()),
            address: Some(IpAddr::from([10, 0, 0, 7])),
            pod_name: None,
            pod_namespace: None,
            node_name: None,
            kubernetes_service: false,
            service_account: false,
            service_account_namespace: None,
            container_file: false,
            container_variable: false,
            cgroup: "0::/user.slice/user-1000.slice/session-1.scope\n".to_owned(),
            mountinfo: "22 1 0:20 / / rw - ext4 /dev/sda rw\n".to_owned(),
            random: 0xabc,
            started_at: UNIX_EPOCH + Duration::from_millis(1500),
        }
    }

    fn detect(change: impl FnOnce(&mut Probe)) -> Identity {
        let mut probe = probe();
        change(&mut probe);
        Identity::detect(&probe, "throng", &BTreeMap::new())
    }

    #[test]
    fn environments() {
        let check = |expected: Environment, change: fn(&mut Probe)| {
            assert_eq!(detect(change).environment, expected);
        };
        check(Environment::Local, |_| ());
        // A machine that runs containers is none, whatever it has mounted.
        check(Environment::Local, |p| {
            p.mountinfo = "40 22 0:50 / /var/lib/docker/containers/ab/mounts/shm rw - tmpfs shm rw\n\
                           41 22 0:51 / /var/lib/docker/overlay2/cd/merged rw - overlay overlay rw\n"
                .to_owned();
        });
        check(Environment::Local, |p| p.pod_name = Some("named-by-hand".to_owned()));
        check(Environment::Docker, |p| p.container_file = true);
        check(Environment::Docker, |p| p.container_variable = true);
        check(Environment::Docker, |p| p.cgroup = "12:cpu:/docker/0123abcd\n".to_owned());
        check(Environment::Docker, |p| p.cgroup = "0::/system.slice/docker-0123abcd.scope\n".to_owned());
        check(Environment::Docker, |p| p.cgroup = "0::/machine.slice/libpod-0123.scope\n".to_owned());
        check(Environment::Docker, |p| {
            p.mountinfo = "22 1 0:20 / / rw - overlay overlay rw\n\
                           60 22 8:1 /var/lib/docker/containers/ab/hostname /etc/hostname rw - ext4 /dev/sda rw\n"
                .to_owned();
        });
        check(Environment::Docker, |p| {
            p.mountinfo = "60 22 0:24 /containers/storage/overlay-containers/ab/userdata/hosts /etc/hosts rw - tmpfs t rw\n"
                .to_owned();
        });
        check(Environment::Kubernetes, |p| p.kubernetes_service = true);
        check(Environment::Kubernetes, |p| p.service_account = true);
        check(Environment::Kubernetes, |p| (p.service_account, p.container_file) = (true, true));
        check(Environment::Local, |p| (p.cgroup, p.mountinfo) = (String::new(), "short\n\n".to_owned()));
    }

    #[test]
    fn a_machine() {
        let identity = detect(|_| ());
        assert_eq!(identity.display_name, "throng-host");
        assert_eq!((&*identity.instance_id, &*identity.started_at), ("00000abc", "1970-01-01T00:00:01.500Z"));
        assert_eq!((identity.pod_name.as_ref(), identity.namespace.as_ref()), (None, None));
    }

    #[test]
    fn a_pod() {
        let identity = detect(|p| {
            p.kubernetes_service = true;
            p.pod_name = Some("throng-0".to_owned());
            p.pod_namespace = Some("chat".to_owned());
            p.service_account_namespace = Some("other".to_owned());
            p.node_name = Some("worker-1".to_owned());
        });
        assert_eq!(identity.display_name, "throng-throng-0");
        assert_eq!(identity.namespace.as_deref(), Some("chat"));
        assert_eq!(identity.node_name.as_deref(), Some("worker-1"));

        let identity = detect(|p| {
            p.service_account = true;
            p.service_account_namespace = Some("other".to_owned());
        });
        assert_eq!(
            (identity.pod_name.as_deref(), identity.namespace.as_deref()),
            (Some("host"), Some("other"))
        );
    }

    #[test]
    fn what_cannot_be_found_has_a_stand_in() {
        let identity = detect(|p| (p.hostname, p.address) = (None, None));
        assert_eq!(
            (&*identity.hostname, identity.container_ip),
            ("localhost", IpAddr::V4(Ipv4Addr::LOCALHOST))
        );
        assert_eq!(identity.display_name, "throng-localhost");
    }

    #[test]
    fn as_json() {
        let mut identity = detect(|_| ());
        identity.labels = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
        let json = serde_json::to_string(&identity).expect("serialises").replace(identity.version, "V");
        assert_eq!(
            json,
            r#"{"instance_id":"00000abc","hostname":"host","container_ip":"10.0.0.7","pod_name":null,"node_name":null,"namespace":null,"service_name":"throng","environment":"local","display_name":"throng-host","version":"V","started_at":"1970-01-01T00:00:01.500Z","labels":{"region":"eu"}}"#
        );
    }

    #[test]
    fn this_machine() {
        let probe = Probe::of_this_machine();
        assert!(probe.hostname.is_some());
        assert!(probe.address.is_none_or(|address| !address.is_unspecified()));
        let ids: std::collections::BTreeSet<u32> = (0..16).map(|_| random()).collect();
        assert!(ids.len() > 8, "{ids:?}");
    }
}
