"""The balancer, nginx and haproxy as child processes in front of the same nodes, each set up as its manual advises for
many long connections. Only the standard library.

A proxy has the attributes of `throng_tools.Server`: name, pid, address, and is gone after `with`. What all have in common:
two workers, the least used node next, no time limit a WebSocket could run into, no access log.
"""

import contextlib
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import tempfile
import time

import throng_tools as tools

WORKERS = 2
SECONDS_TO_START, SECONDS_TO_END = 15, 15
# Both ends of a pair, and some for listeners, logs and checks.
DESCRIPTORS_SPARE = 200

NGINX = """
{user}
daemon off;
worker_processes {workers};
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections {descriptors}; multi_accept on; }}
http {{
    access_log off;
    {temporary}
    upstream nodes {{ least_conn; zone nodes 64k; {nodes} }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_buffering off;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout http_503;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread {workers}
    maxconn {pairs}
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    timeout tunnel 1h
    option redispatch 1
    option forwardfor
    retries 3
frontend clients
    bind 127.0.0.1:{port} backlog 4096 shards by-thread
    default_backend nodes
backend nodes
    balance leastconn
    option httpchk GET /readyz
    default-server check inter 2s fall 3 rise 2 {lost}
{nodes}
"""


class Proxy:
    """A program that listens on `port` when constructed."""

    def __init__(self, name, argv, port, log):
        self.name, self.address, self.log_path = name, f"127.0.0.1:{port}", pathlib.Path(log)
        with open(self.log_path, "a", encoding="utf-8") as stream:
            self.process = subprocess.Popen([str(part) for part in argv], stdin=subprocess.DEVNULL, stdout=stream,
                                            stderr=stream)
        self.pid = self.process.pid
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise tools.ToolError(f"{name} does not listen: {self.log_tail()}") from None
                time.sleep(0.02)

    def log_tail(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")[-1000:].strip()

    def kill(self):
        """Ends it; its workers with it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(SECONDS_TO_END)


def descriptors():
    """What one process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def pairs_max():
    """How many connections one process can pass on."""
    return (descriptors() - DESCRIPTORS_SPARE) // 2


@contextlib.contextmanager
def nginx(nodes, template=NGINX, workers=WORKERS):
    """A real nginx in front of these addresses."""
    with tempfile.TemporaryDirectory(prefix="throng-nginx-") as folder:
        port, kinds = tools.free_port(), ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        conf = pathlib.Path(folder) / "nginx.conf"
        conf.write_text(template.format(
            user="user root;" if os.geteuid() == 0 else "", workers=workers, descriptors=descriptors(), folder=folder,
            temporary=" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds), port=port,
            nodes=" ".join(f"server {node} max_fails=1 fail_timeout=2s;" for node in nodes)), encoding="utf-8")
        with running(Proxy("nginx", ["nginx", "-p", folder, "-c", conf], port, f"{folder}/out.log")) as proxy:
            yield proxy


@contextlib.contextmanager
def haproxy(nodes, end_lost_sessions=False):
    """A real haproxy in front of these addresses; it cuts the sessions of a node that it finds dead if told to."""
    with tempfile.TemporaryDirectory(prefix="throng-haproxy-") as folder:
        port, conf = tools.free_port(), pathlib.Path(folder) / "haproxy.cfg"
        conf.write_text(HAPROXY.format(
            workers=WORKERS, pairs=pairs_max(), port=port,
            lost="on-marked-down shutdown-sessions" if end_lost_sessions else "",
            nodes="\n".join(f"    server node{index} {node}" for index, node in enumerate(nodes))), encoding="utf-8")
        with running(Proxy("haproxy", ["haproxy", "-db", "-f", conf], port, f"{folder}/out.log")) as proxy:
            yield proxy


@contextlib.contextmanager
def running(proxy):
    try:
        yield proxy
    finally:
        proxy.kill()


@contextlib.contextmanager
def balance(nodes, *arguments, strategy="least_connections", binary=None, workers=WORKERS, tls=None):
    """`throng balance` in front of these addresses; it has found all of them to be well. `tls` as for
    `throng_tools.until_available`."""
    backends = [part for node in nodes for part in ("--backend", node)]
    argv = [binary or tools.release_binary("throng"), "balance", "--bind", "127.0.0.1", "--port", "0", "--reactors",
            str(workers), "--strategy", strategy, *backends, *arguments]
    ready = r"^throng ready http=(?P<address>\S+).* pid=(?P<pid>\d+)"
    with tools.Server("throng-balance", argv, ready) as server:
        tools.until_available(server.address, len(nodes), tls=tls)
        yield server


def missing(names):
    """Of the programs in these names, those that are not installed."""
    return [name for name in names if name in ("nginx", "haproxy") and shutil.which(name) is None]
