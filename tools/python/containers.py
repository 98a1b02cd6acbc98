"""Containers of the image, for the checks of `tools/container`."""

import contextlib
import http.client
import json
import socket
import subprocess
import time

from container_image import IMAGE

DEADLINE_SECONDS = 60
# As compose.yaml and the manifests have it.
LOCKED = ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges"]


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(what, is_so, seconds=DEADLINE_SECONDS):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def answers(port, path="/readyz"):
    try:
        return get(port, path)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


class Container:
    """A container of the image, gone when left."""

    def __init__(self, podman, name, *command, flags=(), **variables):
        self.podman, self.name = podman, f"throng-test-{name}"
        podman.remove(self.name)
        environment = [word for key, value in variables.items() for word in ("--env", f"{key}={value}")]
        podman.call("create", "--name", self.name, *LOCKED, *environment, *flags, IMAGE, *command)

    def start(self):
        self.podman.call("start", self.name)
        return self

    def state(self):
        return self.podman.inspect(self.name)["State"]

    def health(self):
        """The state its health checks have brought it to, and their log."""
        return self.state()["Health"]

    def logs(self):
        done = subprocess.run(["podman", "logs", self.name], env=self.podman.environment, capture_output=True, text=True,
                              check=True)
        return done.stdout, done.stderr

    def wait(self, seconds):
        """Its exit status, once it has ended. `podman wait` also waits for who cleans up after it, sometimes in vain."""
        wait_until(f"{self.name} has ended", lambda: not self.state()["Running"], seconds)
        return self.state()["ExitCode"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.podman.remove(self.name)


def node(podman, number, port, **variables):
    usual = {"PORT": port, "THRONG_WS_PORT": "off", "THRONG_BIND": "127.0.0.1", "NODE_ID": f"node-{number}"}
    return Container(podman, f"node-{number}", "serve", **{**usual, **variables})


def health_of(port):
    """What /health says."""
    return json.loads(get(port, "/health")[1])
