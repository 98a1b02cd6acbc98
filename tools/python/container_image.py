"""Building the image, and looking at it."""

import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

import throng_tools as tools

IMAGE = "localhost/throng:0.1.0"
IMAGE_BYTES_MAX = 15_000_000
BUILD_SECONDS = 3000


class Podman:
    """podman and buildah with a configuration and a store of our own, on the machine's network."""

    def __init__(self):
        self.folder = tools.CACHE / "containers"
        self.folder.mkdir(parents=True, exist_ok=True)
        # Sockets below it must not have long names. It is this checkout's and nobody else's.
        mark = hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        self.run_root = pathlib.Path(tempfile.gettempdir()) / f"throng-containers-{mark}"
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{self.folder / "storage"}"\nrunroot = "{self.run_root}"\n')
        # A container may not be given more than we have.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limits = ", ".join(f'"{name}={hard}:{hard}"' for name in ("nofile", "nproc"))
        runtime = "runc" if shutil.which("runc") else "crun"
        (self.folder / "containers.conf").write_text(
            f'[containers]\nnetns = "host"\ndefault_ulimits = [{limits}]\nlog_driver = "k8s-file"\n'
            f'[engine]\nruntime = "{runtime}"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
        # What the build stage keeps between builds is buildah's temporary folder's.
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        self.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
                            "CONTAINERS_CONF": str(self.folder / "containers.conf"), "BUILDAH_FORMAT": "docker",
                            "TMPDIR": str(temporary)}

    def call(self, *arguments, timeout=120):
        """What podman prints."""
        done = subprocess.run(["podman", *map(str, arguments)], env=self.environment, capture_output=True, text=True,
                              errors="replace", timeout=timeout, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise tools.ToolError(f"podman {' '.join(map(str, arguments[:4]))}: {done.stderr.strip()[-2000:]}")
        return done.stdout.strip()

    def build(self, *arguments):
        """What buildah and cargo print goes to stderr as it comes: it takes minutes where nothing is cached."""
        done = subprocess.run(["buildah", "build", *map(str, arguments)], env=self.environment, stdout=sys.stderr,
                              timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise tools.ToolError(f"buildah ended with status {done.returncode}; what it printed says why")

    def inspect(self, what):
        return json.loads(self.call("inspect", what))[0]

    def exists(self, image):
        return subprocess.run(["podman", "image", "exists", image], env=self.environment, check=False).returncode == 0

    def remove(self, *containers):
        """Ends them at once; those that are not there do not matter."""
        self.call("rm", "--force", "--time", "0", "--ignore", *containers, timeout=180)


def run(results, podman, options):
    """Builds the image if it is to be built and checks what it is; whether there is one."""
    if options.keep and podman.exists(IMAGE):
        tools.say(f"keeping {IMAGE}")
    elif not results.check("the Dockerfile builds", build, podman, options.registry):
        return False
    results.check("the image is small", size, podman)
    results.check("the image is what the Dockerfile says", configuration, podman)
    results.check("the image holds the binary and the certificates alone", contents, podman)
    return True


def build(podman, registry):
    base = base_image()
    source = ["--pull"] if registry else ["--pull-never", *stand_in(podman, base)]
    began = time.monotonic()
    podman.build("--isolation", "chroot", "--format", "docker", "--build-arg", f"REVISION={revision()}", *source,
                 "--tag", IMAGE, tools.ROOT)
    podman.call("image", "prune", "--force")
    return f"{time.monotonic() - began:.0f} s from {base if registry else f'this machine under the name of {base}'}"


def base_image():
    text = (tools.ROOT / "Dockerfile").read_text()
    version = re.search(r"^ARG RUST_VERSION=(\S+)", text, re.M).group(1)
    return re.search(r"^FROM (\S+) AS build", text, re.M).group(1).replace("${RUST_VERSION}", version)


def stand_in(podman, base):
    """An image under the base's name that has nothing but places for this machine's tools, and the flags that bring
    these there."""
    asked = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True, cwd=tools.ROOT)
    sysroot = asked.stdout.strip()
    lent = ["/usr/bin", "/usr/lib", "/usr/lib64", "/usr/include", "/usr/share", "/usr/libexec", "/usr/sbin", "/etc/ssl",
            "/etc/alternatives"]
    lent = [path for path in lent if pathlib.Path(path).is_dir()]
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name) / "root"
        for path in [*lent, "/toolchain", "/usr/local/cargo", "/tmp", "/var/tmp", "/proc", "/dev", "/sys", "/run"]:
            (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for link in ("bin", "lib", "lib64", "sbin"):
            (root / link).symlink_to(f"usr/{link}")
        archive = pathlib.Path(name) / "root.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".")
        path = "/toolchain/bin:/usr/sbin:/usr/bin"
        variables = [f"ENV PATH={path}", "ENV CARGO_HOME=/usr/local/cargo"]
        podman.call("import", *(word for change in variables for word in ("--change", change)), archive, base)
    places = [*((path, path) for path in lent), (sysroot, "/toolchain")]
    return [word for source, target in places for word in ("--volume", f"{source}:{target}:ro")]


def revision():
    done = subprocess.run(["git", "-C", str(tools.ROOT), "rev-parse", "HEAD"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() or "unknown"


def size(podman):
    found = podman.inspect(IMAGE)["Size"]
    assert found <= IMAGE_BYTES_MAX, f"{found} bytes, more than {IMAGE_BYTES_MAX}"
    return f"{found / 1e6:.2f} MB of at most {IMAGE_BYTES_MAX / 1e6:.0f}"


def configuration(podman):
    found = podman.inspect(IMAGE)
    config = found["Config"]
    assert config["User"] == "65532:65532", config
    assert config["Entrypoint"] == ["/throng"] and config["Cmd"] == ["serve"], config
    assert config["StopSignal"] in ("SIGTERM", "15"), config
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8765/tcp"}, config
    assert found["Healthcheck"]["Test"] == ["CMD", "/throng", "health", "--quiet", "--timeout", "2s"], \
        found["Healthcheck"]
    for label in ("title", "description", "licenses", "version", "revision"):
        assert config["Labels"][f"org.opencontainers.image.{label}"], label
    marked = config["Labels"]["org.opencontainers.image.revision"]
    assert re.fullmatch("[0-9a-f]{40}|unknown", marked), marked


def contents(podman):
    """The files of a container that never ran, and that the binary asks for no other."""
    name = "throng-test-contents"
    podman.remove(name)
    podman.call("create", "--name", name, IMAGE)
    try:
        with tempfile.TemporaryDirectory() as folder:
            archive = pathlib.Path(folder) / "all.tar"
            podman.call("export", "--output", archive, name)
            with tarfile.open(archive) as tar:
                files = {member.name.lstrip("./"): member for member in tar if member.isfile() and member.size > 0}
                assert set(files) == {"throng", "etc/ssl/certs/ca-certificates.crt"}, sorted(files)
                tar.extract(files["throng"], folder)
            read = ["readelf", "--program-headers", f"{folder}/throng"]
            header = subprocess.run(read, capture_output=True, text=True, check=True)
    finally:
        podman.remove(name)
    assert "INTERP" not in header.stdout, "the binary is not static"
    return f"static, {files['throng'].size / 1e6:.2f} MB"
