"""Certificates, and what speaks TLS with them: a node, the balancer, nginx. Only the standard library and openssl."""

import contextlib
import pathlib
import ssl
import subprocess
import tempfile

import proxies
import throng_tools as tools

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"
# The line of the configuration that all proxies share which nginx has otherwise when it terminates TLS.
PLAIN_LISTENER = "listen 127.0.0.1:{port} reuseport backlog=4096;"
TLS_LISTENER = """listen 127.0.0.1:{port} ssl reuseport backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets on;
        ssl_session_cache shared:tls:16m;"""


def openssl(folder, *arguments):
    tools.run_quietly(["openssl", *arguments], "openssl", timeout=60, cwd=folder)


class Certificates:
    """An authority, and what it has signed: a server's certificate for 127.0.0.1 and a client's."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        authority = [*CURVE, "-days", "2", "-subj", "/CN=throng tools authority"]
        openssl(folder, "req", "-x509", *authority, "-keyout", "ca.key", "-out", "ca.pem")
        self.ca = self.folder / "ca.pem"
        self.certificate, self.key = self.sign("server", NAMES)
        self.client_certificate, self.client_key = self.sign("client", "extendedKeyUsage=clientAuth")

    def sign(self, name, extension):
        """Files of a certificate and of its key."""
        openssl(self.folder, "req", "-x509", *CURVE, "-days", "2", "-subj", f"/CN=throng tools {name}", "-CA", "ca.pem",
                "-CAkey", "ca.key", "-addext", extension, "-addext", "basicConstraints=critical,CA:FALSE",
                "-keyout", f"{name}.key", "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def flags(self):
        """What makes a node or a balancer speak TLS."""
        return ["--tls-cert", self.certificate, "--tls-key", self.key]

    def context(self):
        """What Python's clients speak TLS with."""
        return ssl.create_default_context(cafile=str(self.ca))


@contextlib.contextmanager
def certificates():
    """Made anew, and gone afterwards."""
    tools.install("openssl", "openssl")
    with tempfile.TemporaryDirectory(prefix="throng-tls-") as folder:
        yield Certificates(folder)


def node(files, *arguments, **options):
    """A node whose ports speak TLS."""
    return tools.start_throng(*files.flags(), *arguments, **options)


def balance(files, node_address, *arguments, backend_tls=False, **options):
    """A balancer that terminates TLS in front of a node, to which it speaks TLS as well if told to."""
    if backend_tls:
        arguments = ("--backend-tls", "--backend-ca", files.ca, *arguments)
    return proxies.balance([node_address], *files.flags(), *arguments, tls=files.context(), **options)


@contextlib.contextmanager
def nginx(files, node_address, workers=1):
    """A real nginx that terminates TLS in front of a node."""
    listener = TLS_LISTENER.replace("{certificate}", str(files.certificate)).replace("{key}", str(files.key))
    template = proxies.NGINX.replace(PLAIN_LISTENER, listener)
    if listener not in template:
        raise tools.ToolError("the configuration of nginx has no listener to speak TLS on")
    with proxies.nginx([node_address], template=template, workers=workers) as proxy:
        yield proxy


def said_by_openssl(address, files, *flags):
    """Exit status and output of `openssl s_client`, which ends as soon as it is connected."""
    command = ["openssl", "s_client", "-connect", address, "-CAfile", str(files.ca), "-verify_return_error"]
    done = subprocess.run([*command, *flags], input="", capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr
