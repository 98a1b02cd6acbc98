"""compose.yaml, read by a parser that is not ours and brought up."""

import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

import throng_tools as tools
from containers import answers, free_ports, get, health_of, wait_until

REDIS_IMAGE = "docker.io/library/redis:7-alpine"
NODES = ["node-1", "node-2", "node-3"]


def run(results, podman, requirements):
    try:
        python = tools.python_environment("compose-tools", requirements)
    except tools.ToolError as error:
        results.skip("compose", str(error))
        return
    compose = Compose(podman, python.parent / "podman-compose")
    results.check("compose.yaml is read by podman-compose", parsed, compose)
    try:
        tools.install("redis-server", "redis-server")
    except tools.ToolError as error:
        results.skip("compose up", str(error))
        return
    results.check("compose up brings the whole system up", up, compose)


class Compose:
    def __init__(self, podman, program):
        self.podman, self.program = podman, program

    def call(self, *arguments, files=("compose.yaml",), timeout=300):
        flags = [word for file in files for word in ("--file", str(tools.ROOT / file))]
        done = subprocess.run([self.program, *flags, *arguments], env=self.podman.environment, cwd=tools.ROOT,
                              capture_output=True, text=True, errors="replace", timeout=timeout,
                              stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise tools.ToolError(f"podman-compose {' '.join(arguments)}: {(done.stdout + done.stderr).strip()[-2000:]}")
        return done.stdout


def parsed(compose):
    shown = compose.call("config")
    for name in [*NODES, "balancer", "client", "redis"]:
        assert f"  {name}:" in shown, f"{name} is missing"


def up(compose):
    """On the machine's network, because a bridge would leave its traces in the machine's tables."""
    redis, front, *ports = free_ports(2 + len(NODES))
    if not compose.podman.exists(REDIS_IMAGE):
        redis_stand_in(compose.podman)
    with tempfile.TemporaryDirectory() as folder:
        override = pathlib.Path(folder) / "override.json"
        override.write_text(json.dumps(on_one_machine(redis, front, ports)))
        files = ("compose.yaml", str(override))
        try:
            compose.call("up", "--detach", "--no-build", files=files)
            wait_until("the balancer has three nodes",
                       lambda: answers(front) and health_of(front)["backends"]["available"] == 3)
            wait_until("the nodes are one hub",
                       lambda: all(len(json.loads(get(port, "/nodes")[1])) == 3 for port in ports))
            wait_until("the client is connected", lambda: health_of(front)["connections"] == 5)
            status, page = get(front, "/web-loadbalancer.html")
            assert status == 200 and b"</html>" in page, status
        finally:
            compose.call("down", "--timeout", "10", files=files)
    left = compose.podman.call("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=throng")
    assert not left, f"left behind: {left}"
    return f"{len(NODES)} nodes, balancer, Redis, 5 connections of the client"


def on_one_machine(redis, front, ports):
    services = {name: {"network_mode": "host", "environment": {
        "PORT": str(port), "THRONG_WS_PORT": "off", "THRONG_BIND": "127.0.0.1", "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis), "THRONG_LAME_DUCK": "500ms", "THRONG_DRAIN_WINDOW": "1s"}}
        for name, port in zip(NODES, ports)}
    services["redis"] = {
        "network_mode": "host", "healthcheck": {"test": ["CMD", "redis-cli", "-p", str(redis), "ping"]},
        "command": ["redis-server", "--save", "", "--bind", "127.0.0.1", "--port", str(redis)]}
    backends = " ".join(f"127.0.0.1:{port}" for port in ports)
    services["balancer"] = {"network_mode": "host", "environment": {
        "PORT": str(front), "THRONG_BIND": "127.0.0.1", "THRONG_BACKENDS": backends,
        "THRONG_LAME_DUCK": "500ms", "THRONG_DRAIN_WINDOW": "1s"}}
    services["client"] = {"network_mode": "host", "environment": {"SERVER_URL": f"ws://127.0.0.1:{front}/ws"}}
    return {"services": services}


def redis_stand_in(podman):
    """This machine's Redis under the name of the image, with the libraries it asks for."""
    programs = [shutil.which("redis-server"), shutil.which("redis-cli")]
    files = set(programs)
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        files |= {word for word in listed.split() if word.startswith("/")}
    with tempfile.TemporaryDirectory() as folder:
        archive = pathlib.Path(folder) / "redis.tar"
        with tarfile.open(archive, "w") as tar:
            for file in sorted(files):
                tar.add(os.path.realpath(file), arcname=file)
        podman.call("import", "--change", "ENV PATH=/usr/bin", archive, REDIS_IMAGE)
