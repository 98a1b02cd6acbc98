"""Pods, what the kubelet does with them, and Services, acted out with processes, namespaces and nftables."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import kube_manifests as manifests

DEADLINE_SECONDS = 60
# How late a Service hears of a pod that came, went or changed: the watch, the batch of kube-proxy.
PROXY_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 0.02
# What goes faster when everything does, and how long it takes unless the manifests say otherwise.
DRAIN = {"THRONG_LAME_DUCK": "3s", "THRONG_DRAIN_WINDOW": "10s", "THRONG_DRAIN_TIMEOUT": "25s"}
TIMES = {"serve": DRAIN,
         "balance": {**DRAIN, "THRONG_DNS_INTERVAL": "5s", "THRONG_HEALTH_INTERVAL": "2s", "THRONG_HEALTH_TIMEOUT": "1s",
                     "THRONG_SLOW_START": "10s"}}


def wait_until(what, is_so, seconds=DEADLINE_SECONDS):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(LOOK_AGAIN_SECONDS)


def listens(address, port):
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


def seconds(text):
    """A duration as throng writes it."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|s|m|h)", text))


class Workload:
    """A StatefulSet or a Deployment: pods by ordinal, each start with an address of its own."""

    def __init__(self, cluster, given, subnet):
        self.cluster, self.given, self.subnet = cluster, given, subnet
        self.name = given["metadata"]["name"]
        self.template = given["spec"]["template"]["spec"]
        self.container = cluster.given.container(given)
        self.port = cluster.given.port(given, "http")
        self.pods, self.made = {}, 0

    def seconds(self, key):
        return self.given["spec"].get(key, 0) / self.cluster.options.speed

    def create(self, ordinal):
        self.made += 1
        pod = Pod(self, f"{self.name}-{ordinal}", f"127.77.{self.subnet}.{self.made}")
        pod.start()
        self.pods[ordinal] = pod
        return pod

    def wait_until_ready(self):
        for pod in self.pods.values():
            pod.wait_until_ready()

    def kill(self):
        for pod in self.pods.values():
            pod.kill()


class Pod:
    """One container as the kubelet runs it."""

    def __init__(self, workload, name, address):
        self.workload, self.cluster = workload, workload.cluster
        self.name, self.address = name, address
        self.speed = self.cluster.options.speed
        self.ready = self.terminating = False
        self.gone = threading.Event()
        self.status = self.drained_after = self.ready_after = None
        self.log = self.cluster.folder / f"{name}.{address}.log"

    def environment(self):
        """That of the manifest, its times divided, on the address that is this pod's network."""
        environment = self.cluster.given.environment(self.workload.given, self.name)
        command = self.cluster.given.arguments(self.workload.given, environment)[0]
        for name, usual in TIMES[command].items():
            environment[name] = f"{seconds(environment.get(name, usual)) / self.speed * 1000:.0f}ms"
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "THRONG_BIND": self.address, **environment}

    def start(self):
        environment = self.environment()
        identity = self.workload.template["securityContext"]
        program = ["setpriv", f"--reuid={identity['runAsUser']}", f"--regid={identity['runAsGroup']}", "--clear-groups",
                   "--no-new-privs", "--bounding-set=-all", str(self.cluster.binary),
                   *self.cluster.given.arguments(self.workload.given, environment)]
        command = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
                   "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *program]
        self.begun = time.monotonic()
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.cluster.services.changed()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """The kubelet's probes, until the pod is gone."""
        container = self.workload.container
        startup, readiness = container["startupProbe"], container["readinessProbe"]
        for _ in range(int(startup["failureThreshold"] * startup.get("periodSeconds", 10) * 50)):
            if self.process.poll() is not None or self.probe(startup):
                break
            time.sleep(LOOK_AGAIN_SECONDS)
        failures = 0
        while self.process.poll() is None:
            good = self.probe(readiness)
            failures = 0 if good else failures + 1
            if good != self.ready and (good or failures >= readiness["failureThreshold"]):
                self.ready = good
                if good and self.ready_after is None:
                    self.ready_after = time.monotonic() - self.begun
                self.cluster.services.changed()
            self.gone.wait(readiness["periodSeconds"] / self.speed)

    def probe(self, probe):
        try:
            return self.get(probe["httpGet"]["path"], probe.get("timeoutSeconds", 1))[0] in range(200, 400)
        except OSError:
            return False

    def get(self, path, timeout=10):
        connection = http.client.HTTPConnection(self.address, self.workload.port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get_json(self, path):
        return json.loads(self.get(path)[1])

    def delete(self):
        """Takes it out of the Services, runs the preStop hook, sends SIGTERM, and waits as long as the manifest says."""
        begun = time.monotonic()
        grace = self.workload.template["terminationGracePeriodSeconds"] / self.speed
        self.terminating = True
        self.cluster.services.changed()
        time.sleep(self.workload.container["lifecycle"]["preStop"]["sleep"]["seconds"] / self.speed)
        asked = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            self.status = self.process.wait(grace - (time.monotonic() - begun))
        except subprocess.TimeoutExpired:
            self.kill()
            self.status = "killed when its time was up"
        self.drained_after = time.monotonic() - asked
        self.gone.set()
        self.cluster.services.changed()

    def signal(self, number):
        """To pid 1 of the pod, the child of unshare."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as children:
            for child in children.read().split():
                os.kill(int(child), number)

    def kill(self):
        """Its pid 1, with which all of it ends: to have changed its user has cut it loose from unshare."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()
        self.gone.set()

    def wait_until_ready(self):
        def is_ready():
            status = self.process.poll()
            assert status is None, f"{self.name} ended with status {status}: {self.log_tail()}"
            return self.ready
        wait_until(f"{self.name} is ready", is_ready)

    def log_tail(self):
        return self.log.read_text(encoding="utf-8", errors="replace")[-1500:]


class Services:
    """Names and the addresses behind them, as kube-proxy and the resolver have them."""

    def __init__(self, cluster):
        self.cluster = cluster
        names = [service["metadata"]["name"] for service in cluster.given.of_kind("Service")]
        self.addresses = {name: f"127.77.0.{number}" for number, name in enumerate(sorted(names), 1)}
        self.lock, self.timer, self.over = threading.Lock(), None, False
        self.behind = {}

    def close(self):
        """Nothing is published any more."""
        with self.lock:
            self.over = True

    def address(self, name):
        return self.addresses[name]

    def changed(self):
        """Something did; it is known a little later."""
        with self.lock:
            if self.timer is None:
                self.timer = threading.Timer(PROXY_SECONDS / self.cluster.options.speed, self.publish)
                self.timer.daemon = True
                self.timer.start()

    def publish(self):
        with self.lock:
            self.timer = None
            if self.over:
                return
            workloads = [one for one in (self.cluster.nodes, self.cluster.balancers) if one]
            self.publish_names(workloads)
            rules = "\n".join(self.rules(workload) for workload in workloads)
            chain = f"chain output {{\ntype nat hook output priority -100\n{rules}\n}}"
            table = f"table ip services\ndelete table ip services\ntable ip services {{\n{chain}\n}}\n"
            subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)

    def publish_names(self, workloads):
        """In place: pods have this very file before them."""
        lines = [f"{address} {name}" for name, address in self.addresses.items() if name != "throng-headless"]
        # With publishNotReadyAddresses the headless Service names every pod that has an address.
        nodes = [pod for pod in self.cluster.nodes.pods.values() if pod.process.poll() is None]
        lines += [f"{pod.address} throng-headless" for pod in nodes]
        lines += [f"{pod.address} {pod.name}" for workload in workloads for pod in workload.pods.values()]
        (self.cluster.folder / "hosts").write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")

    def rules(self, workload):
        """A Service spreads new connections over the pods that are ready and are to stay."""
        service = self.address(workload.name)
        ready = [pod.address for pod in workload.pods.values() if pod.ready and not pod.terminating]
        self.cluster.say(f"{workload.name} leads to {' '.join(ready) or 'nobody'}")
        self.behind[workload.name] = len(ready)
        if not ready:
            return ""
        choice = ", ".join(f"{number} : {address}" for number, address in enumerate(ready))
        return f"ip daddr {service} tcp dport {workload.port} dnat to numgen random mod {len(ready)} map {{ {choice} }}"


def client_environment(cluster):
    """What the manifests tell a client."""
    clients = cluster.given.get("Deployment", "throng-client")
    return {**manifests.plain_environment(), **cluster.given.environment(clients, "throng-client-0")}
