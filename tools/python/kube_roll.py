"""The StatefulSet acted out: pods as processes with the environment, the arguments, the probes and the times of the
rendered manifests, rolled as the controller does it, while clients talk through the Service or through the balancer.

What is real: the program, its environment, pid 1, the user without rights, host names, signals, probes over HTTP,
Services as kube-proxy makes them (DNAT by nftables, a little late), names that are used again by pods with other
addresses. What is not: the machine is one, and its network the loopback of a namespace of our own.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import kube_manifests as manifests
import kube_pods as pods
import kube_traffic as traffic
import throng_tools as tools

INSIDE = "THRONG_TOOLS_INSIDE"
HOSTS = pathlib.Path("/etc/hosts")


def run(results, options):
    """Goes on in namespaces of its own, which take everything with them when they end."""
    if os.environ.get(INSIDE):
        for name in ("demo", "full"):
            what = {"demo": "by way of the Service", "full": "by way of the balancer"}[name]
            results.check(f"the StatefulSet rolled {what}", roll, name, options)
        return
    missing = [what for what, here in [("root", os.geteuid() == 0), ("unshare", shutil.which("unshare"))] if not here]
    if missing:
        results.skip("the roll", f"needs {' and '.join(missing)}")
        return
    tools.install("nft", "nftables")
    tools.install("ip", "iproute2")
    tools.install("redis-server", "redis-server")
    if not pathlib.Path(options.binary).exists():
        raise tools.ToolError(f"{options.binary} is not there: cargo build --release")
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
               sys.argv[0], "--roll", "--clients", str(options.clients), "--speed", str(options.speed), "--binary",
               options.binary, *(["--verbose"] if options.verbose else [])]
    done = subprocess.run(command, env={**os.environ, INSIDE: "1"}, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("ok "):
            results.passed += 1
        elif line.startswith("not ok "):
            results.failed += 1
        if not line.startswith("kubernetes: "):
            print(line, flush=True)
    if "kubernetes: passed=" not in done.stdout:
        raise tools.ToolError(f"the roll ended with status {done.returncode}")


class Cluster:
    """Everything that runs in the namespaces."""

    def __init__(self, overlay, options, folder):
        self.given = manifests.Manifests(manifests.text(manifests.overlay(overlay)))
        self.options, self.folder = options, folder
        self.nodes = pods.Workload(self, self.given.get("StatefulSet", "throng"), subnet=1)
        self.balancers = None
        if any(one["metadata"]["name"] == "throng-balance" for one in self.given.workloads()):
            self.balancers = pods.Workload(self, self.given.get("Deployment", "throng-balance"), subnet=2)
        self.services = pods.Services(self)
        self.redis = None
        # A pod's user may not look into the folder of whoever builds it.
        self.binary = folder / "throng"
        shutil.copy(options.binary, self.binary)
        self.binary.chmod(0o755)

    def say(self, text):
        if self.options.verbose:
            print(f"# {time.monotonic():9.2f} {text}", file=sys.stderr, flush=True)

    def start(self):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        (self.folder / "hosts").write_text("")
        subprocess.run(["mount", "--bind", str(self.folder / "hosts"), str(HOSTS)], check=True)
        self.services.publish()
        address = self.services.address("redis-trial")
        self.redis = subprocess.Popen(["redis-server", "--bind", address, "--port", "6379", "--save", "", "--dir",
                                       str(self.folder)], stdout=subprocess.DEVNULL)
        pods.wait_until("Redis listens", lambda: pods.listens(address, 6379))
        for workload in filter(None, [self.nodes, self.balancers]):
            for ordinal in range(3 if workload is self.nodes else 2):
                workload.create(ordinal)
        for workload in filter(None, [self.nodes, self.balancers]):
            workload.wait_until_ready()
            pods.wait_until("the Service leads to all pods",
                            lambda one=workload: self.services.behind.get(one.name) == len(one.pods))

    def stop(self):
        self.services.close()
        for workload in filter(None, [self.nodes, self.balancers]):
            workload.kill()
        if self.redis:
            self.redis.kill()
            self.redis.wait()
        subprocess.run(["umount", str(HOSTS)], check=False)


def roll(overlay, options):
    """Rolls three pods under traffic; what it came to, or what is wrong with it."""
    with tempfile.TemporaryDirectory(prefix="throng-roll-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        cluster = Cluster(overlay, options, folder)
        clients = None
        try:
            cluster.start()
            clients = traffic.Clients(cluster, options.clients)
            pods.wait_until("all clients are connected", lambda: clients.connected() == options.clients)
            ended = [rolled(cluster, ordinal) for ordinal in reversed(range(3))]
            pods.wait_until("all clients are connected again", lambda: clients.connected() == options.clients)
            nobody_is_missing(cluster, options.clients)
            clients.stop()
            return judge(clients, ended, options)
        except AssertionError as error:
            raise AssertionError(f"{error}; logs in {keep_logs(folder, overlay)}") from error
        finally:
            if clients:
                clients.kill()
            cluster.stop()


def keep_logs(folder, overlay):
    """What the pods and the clients said, where it outlives the roll."""
    kept = tools.CACHE / f"kubernetes-roll-{overlay}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("throng"))
    return kept


def rolled(cluster, ordinal):
    """Replaces one pod as the controller of the StatefulSet does."""
    pod = cluster.nodes.pods[ordinal]
    held = pod.get_json("/health")["connections"]
    cluster.say(f"{pod.name} is deleted, with {held} clients")
    pod.delete()
    took = pod.drained_after
    assert pod.status == 0, f"{pod.name} ended with status {pod.status}: {pod.log_tail()}"
    successor = cluster.nodes.create(ordinal)
    successor.wait_until_ready()
    time.sleep(cluster.nodes.seconds("minReadySeconds"))
    cluster.say(f"{successor.name} is back after {successor.ready_after * 1000:.0f} ms")
    return {"name": pod.name, "held": held, "drained": took, "ready": successor.ready_after}


def nobody_is_missing(cluster, clients):
    """Every node knows the same three, and the users of the clients, all of them and nobody else."""
    for pod in cluster.nodes.pods.values():
        expected = [(f"throng-{ordinal}", "active") for ordinal in range(3)]
        pods.wait_until(f"{pod.name} knows three nodes",
                        lambda: [(node["id"], node["status"]) for node in pod.get_json("/nodes")] == expected)
        pods.wait_until(f"{pod.name} knows all users", lambda: len(traffic.users(pod)) == clients)


def judge(clients, ended, options):
    """What the clients saw of it."""
    sums, seen = clients.summary(), clients.figures()
    assert sums["complete"] and sums["lost"] == 0, f"something is missing: {sums}"
    assert sums["confirmed"] == sums["sent"] > 0 and sums["duplicates"] == 0, f"{sums}"
    assert sums["announced_received"] == sums["announced"] > 0, f"nothing was announced: {sums}"
    assert seen["codes"] == {1012}, f"connections ended otherwise: {seen['codes']}"
    assert ended[0]["held"] > 0, "nobody was connected to the first pod"
    held = sum(one["held"] for one in ended)
    assert sums["reconnects"] == held, f"{held} clients had to move, {sums['reconnects']} moved"
    # Without a pace all clients of a pod would come back within the same second.
    crowd = max(one["held"] for one in ended)
    assert seen["peak"] <= crowd / 2, f"{seen['peak']} of {crowd} clients came back in one second"
    return (f"clients {options.clients}, moved {sums['reconnects']}, peak {seen['peak']} reconnects/s, longest away "
            f"{sums['longest_away_ms']} ms, announced {sums['announced']}, received {sums['announced_received']}, sent "
            f"{sums['sent']}, confirmed {sums['confirmed']}, lost {sums['lost']}, drains "
            f"{', '.join(format(one['drained'], '.1f') for one in ended)} s, new pods ready after "
            f"{', '.join(format(one['ready'] * 1000, '.0f') for one in ended)} ms, at {options.speed:g} times the speed")
