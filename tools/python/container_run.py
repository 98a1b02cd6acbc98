"""Containers of the image: what they need, how long they take, and how one of three leaves."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socketserver
import struct
import subprocess
import tempfile
import threading
import time

import throng_tools as tools
from container_image import IMAGE
from containers import LOCKED, Container, answers, free_ports, health_of, node, wait_until


CHECKS = 5


def run(results, podman, options):
    results.check("a node is ready", start_time, podman)
    results.check("it runs as pid 1, not as root, on a read-only root, and leaves no zombies", process, podman)
    results.check("the health check is the binary itself", health, podman)
    if shutil.which("openssl"):
        results.check("so it is when the node speaks TLS", health_by_tls, podman)
    else:
        results.skip("a node that speaks TLS", "openssl is not installed")
    results.check("SIGTERM ends it with status 0, a second one at once", signals, podman)
    results.check("names are resolved, by file and by DNS", names, podman)
    results.check("one of three is stopped", stop_one_of_three, podman, options.clients)


def start_time(podman):
    port, = free_ports(1)
    with node(podman, 0, port) as container:
        began = time.monotonic()
        container.start()
        wait_until("ready", lambda: answers(port))
        by_podman = time.monotonic() - began
        identity = health_of(port)["service_identity"]
        assert identity["environment"] == "docker", identity
    return f"{by_podman * 1000:.0f} ms after podman start, {bare_start(podman) * 1000:.1f} ms after its own (best of 5)"


def bare_start(podman):
    """From starting the image's binary to its ready line, without a container around it."""
    mounted = podman.call("image", "mount", IMAGE)
    try:
        return min(seconds_to_ready(pathlib.Path(mounted) / "throng") for _ in range(5))
    finally:
        podman.call("image", "unmount", IMAGE)


def seconds_to_ready(binary):
    command = [binary, "serve", "--port", "0", "--ws-port", "off", "--bind", "127.0.0.1"]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        line = process.stdout.readline()
        took = time.monotonic() - began
        process.kill()
    assert line.startswith("throng ready "), line
    return took


def process(podman):
    port, = free_ports(1)
    with node(podman, 0, port) as container:
        container.start()
        wait_until("ready", lambda: answers(port))
        ready = container.logs()[0]
        assert ready.rstrip().endswith("pid=1"), ready
        pid = container.state()["Pid"]
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["Uid"].split()[0] != "0" and status["NoNewPrivs"] == "1", status
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, status
        mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        root = next(line.split() for line in mounts if line.split()[4] == "/")
        assert "ro" in root[5].split(","), root
        # Checks run beside it in its namespace, where it is the one who inherits what nobody waits for.
        for _ in range(CHECKS):
            podman.call("exec", container.name, "/throng", "health", f"http://127.0.0.1:{port}/health")
        assert children(pid) == [], f"left behind: {children(pid)}"
    return (f"pid 1, uid {status['Uid'].split()[0]}, gid {status['Gid'].split()[0]}, capabilities {status['CapEff']}, "
            f"root {root[5].split(',')[0]}, children after {CHECKS} checks inside: 0")


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def health(podman):
    """As the Dockerfile's HEALTHCHECK has it. The checks are run by hand: they need no timers of systemd so."""
    port, = free_ports(1)
    with node(podman, 0, port) as container:
        container.start()
        wait_until("ready", lambda: answers(port))
        podman.call("healthcheck", "run", container.name)
        seen = [container.health()["Status"]]
        os.kill(container.state()["Pid"], signal.SIGSTOP)
        try:
            # Those that fail while it may still be starting do not count.
            wait_until("the state changes", lambda: not checked(podman, container) and
                       container.health()["Status"] != seen[0])
            seen.append(container.health()["Status"])
            said = container.health()["Log"][-1]["Output"].strip()
        finally:
            os.kill(container.state()["Pid"], signal.SIGCONT)
        podman.call("healthcheck", "run", container.name)
        seen.append(container.health()["Status"])
    assert seen == ["healthy", "unhealthy", "healthy"], seen
    assert "no answer in time" in said, f"the log of the check does not say why: {said!r}"
    return f"{seen[0]}, stopped by SIGSTOP {seen[1]} ({said}), continued {seen[2]}"


def health_by_tls(podman):
    """The certificate is for another name than the check asks by, and its authority is unknown."""
    port, = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "2", "-subj", "/CN=gateway.example", "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt"],
                       check=True, capture_output=True, timeout=60)
        # Whoever the container runs as.
        os.chmod(folder, 0o755)
        os.chmod(f"{folder}/tls.key", 0o644)
        with node(podman, 0, port, flags=["--volume", f"{folder}:/tls:ro"], THRONG_TLS_CERT="/tls/tls.crt",
                  THRONG_TLS_KEY="/tls/tls.key") as container:
            container.start()
            wait_until("ready", lambda: "throng ready" in container.logs()[0])
            podman.call("healthcheck", "run", container.name)
            assert container.health()["Status"] == "healthy", container.health()
            assert not answers(port), "it speaks plain HTTP as well"


def checked(podman, container):
    """Whether a check finds it well."""
    done = subprocess.run(["podman", "healthcheck", "run", container.name], env=podman.environment,
                          capture_output=True, check=False, timeout=30)
    return done.returncode == 0


def signals(podman):
    port, = free_ports(1)
    quick = {"THRONG_LAME_DUCK": "200ms", "THRONG_DRAIN_WINDOW": "0s"}
    with node(podman, 0, port, **quick) as container:
        container.start()
        wait_until("ready", lambda: answers(port))
        podman.call("stop", "--time", 20, container.name)
        assert container.state()["ExitCode"] == 0, container.state()
    with node(podman, 0, port, THRONG_LAME_DUCK="1h") as container:
        container.start()
        wait_until("ready", lambda: answers(port))
        podman.call("kill", "--signal", "TERM", container.name)
        wait_until("the lame duck", lambda: not answers(port))
        # Sooner it would be taken for the same request.
        time.sleep(0.5)
        podman.call("kill", "--signal", "TERM", container.name)
        assert container.wait(20) == 143, container.state()


class OneName(socketserver.BaseRequestHandler):
    """A resolver that knows one name: it stands for the loopback."""

    def handle(self):
        data, out = self.request
        end = data.index(0, 12) + 5
        question, kind = data[12:end], data[end - 4:end - 2]
        is_it = question.lower().startswith(b"\x04node\x06throng\x04test\x00")
        loopback = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x7f\x00\x00\x01"
        found = loopback if is_it and kind == b"\x00\x01" else b""
        head = data[:2] + struct.pack("!HHHHH", 0x8180 if is_it else 0x8183, 1, 1 if found else 0, 0, 0)
        out.sendto(head + question + found, self.client_address)


def names(podman):
    """Static binaries have to bring a resolver along."""
    port, = free_ports(1)
    flags = ["--add-host", "by-file:127.0.0.1"]
    address = "127.77.0.53"
    try:
        server = socketserver.ThreadingUDPServer((address, 53), OneName)
    except PermissionError as error:
        raise tools.ToolError("port 53 of a loopback address cannot be bound") from error
    with server, node(podman, 0, port) as container:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        container.start()
        wait_until("ready", lambda: answers(port))
        ask = ["run", "--rm", *LOCKED, "--dns", address, *flags, IMAGE, "health"]
        podman.call(*ask, f"http://by-file:{port}/health")
        podman.call(*ask, f"http://node.throng.test:{port}/health")
        unknown = subprocess.run(["podman", *ask, f"http://nobody.throng.test:{port}/health"], env=podman.environment,
                                 capture_output=True, check=False)
        assert unknown.returncode == 1, "a name that is not there was found"
        server.shutdown()


def connections(ports):
    return [health_of(port)["connections"] for port in ports]


def stop_one_of_three(podman, clients):
    """Three nodes and a balancer; one node is stopped while clients do business."""
    *ports, front = free_ports(4)
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(node(podman, number, port, THRONG_SIMULATE="true")).start()
                 for number, port in enumerate(ports, 1)]
        for port in ports:
            # One that is found later than the others would be given its share slowly.
            wait_until("ready", lambda port=port: answers(port))
        backends = " ".join(f"127.0.0.1:{port}" for port in ports)
        balancer = Container(podman, "balancer", "balance", PORT=front, THRONG_BIND="127.0.0.1",
                             THRONG_BACKENDS=backends, THRONG_STRATEGY="least_connections")
        stack.enter_context(balancer).start()
        wait_until("the balancer has three nodes",
                   lambda: answers(front) and health_of(front)["backends"]["available"] == 3)
        client = Container(podman, "client", "client", "--simulate", "--connections", clients, "--interval", "500ms",
                           "--json", SERVER_URL=f"ws://127.0.0.1:{front}/ws")
        stack.enter_context(client).start()
        # The nodes' figures may be a moment behind the balancer's.
        wait_until("all clients are connected", lambda: sum(connections(ports)) == clients)
        held = connections(ports)[1]
        assert clients / 4 < held < clients / 2, f"the node holds {held} of {clients}"
        began = time.monotonic()
        podman.call("stop", "--time", 60, nodes[1].name)
        took = time.monotonic() - began
        assert nodes[1].state()["ExitCode"] == 0, nodes[1].state()
        wait_until("all clients are connected again", lambda: health_of(front)["connections"] == clients)
        podman.call("stop", "--time", 30, client.name)
        status = client.state()["ExitCode"]
        sums = json.loads(client.logs()[0].splitlines()[-1])
        podman.call("stop", "--time", 60, balancer.name)
        assert balancer.state()["ExitCode"] == 0, balancer.state()
    assert sums["event"] == "summary" and status == 0 and sums["complete"], f"status {status}: {sums}"
    assert sums["notices"] == sums["reconnects"] == held, f"{held} clients had to be told and to move: {sums}"
    assert sums["announced_received"] == sums["announced"] > 0 and sums["lost"] == sums["duplicates"] == 0, sums
    return (f"clients {clients}, told {sums['notices']}, moved {sums['reconnects']}, announced {sums['announced']}, "
            f"received {sums['announced_received']}, lost {sums['lost']}, longest away {sums['longest_away_ms']} ms, "
            f"stopped in {took:.1f} s")
