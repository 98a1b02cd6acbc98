"""What the scripts under tools/ share: servers as child processes, and packages kept in .cache/.

Only the standard library. A script finds this file through its own path.
"""

import hashlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
SKIPPED = 77  # exit status of a check that could not be made


class ToolError(Exception):
    """Something the caller can be told in one sentence."""


def say(text):
    """Progress, on stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def release_binary(name):
    """Path of a release build of this workspace."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / name


class Results:
    """What held and what did not, printed as it is known."""

    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.skipped = 0

    def check(self, what, function, *arguments):
        """Runs a check, which raises what is wrong and may return a remark."""
        try:
            remark = function(*arguments)
        except (AssertionError, OSError, ToolError, KeyError, subprocess.SubprocessError) as error:
            self.failed += 1
            print(f"not ok {what}: {error if not isinstance(error, KeyError) else f'no {error}'}", flush=True)
            return False
        self.passed += 1
        print(f"ok {what}" + (f": {remark}" if remark else ""), flush=True)
        return True

    def skip(self, what, why):
        self.skipped += 1
        print(f"skipped {what}: {why}", flush=True)

    def close(self):
        """The last line, and the exit status."""
        skipped = f" skipped={self.skipped}" if self.skipped else ""
        print(f"{self.name}: passed={self.passed} failed={self.failed}{skipped}")
        return 1 if self.failed else 0


def install(command, *packages):
    """Makes sure that `command` is there, by apt if it can be; raises ToolError when it cannot be had."""
    if shutil.which(command):
        return
    say(f"installing {' '.join(packages)}, for {command}")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (sudo and shutil.which("sudo") is None):
        raise ToolError(f"{command} is not there; install {' '.join(packages)}")
    run_quietly([*sudo, "apt-get", "update", "-q"], "apt-get update", timeout=300)
    run_quietly([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q",
                 "--no-install-recommends", *packages], f"installing {' '.join(packages)}", timeout=900)
    if shutil.which(command) is None:
        raise ToolError(f"{' '.join(packages)} brought no {command}")


def free_port():
    """A loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_available(address, backends, timeout=20, tls=None):
    """Waits until the balancer at this address has found so many backends to be well. `tls` is the context to ask it
    with if it speaks TLS."""
    deadline = time.monotonic() + timeout
    url = f"{'https' if tls else 'http'}://{address}/health"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=timeout, context=tls) as answer:
                if json.load(answer)["backends"]["available"] >= backends:
                    return
        except (urllib.error.HTTPError, ConnectionError):
            pass  # 503 while there is none.
        if time.monotonic() > deadline:
            raise ToolError(f"the balancer at {address} has not found {backends} backends to be well within {timeout} s")
        time.sleep(0.02)


class Server:
    """A server started by a script. It is ready when constructed and gone after `stop`."""

    def __init__(self, name, argv, ready, cpu=None, env=None, timeout=20):
        CACHE.mkdir(exist_ok=True)
        self.name = name
        if not pathlib.Path(argv[0]).exists():
            raise ToolError(f"{argv[0]} is not there: run cargo build --release --workspace")
        command = [str(part) for part in argv]
        if cpu is not None:
            command = ["taskset", "-c", str(cpu)] + command
        self.log_path = CACHE / f"{name}.{os.getpid()}.log"
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
            )
        line = self._first_line(ready, timeout)
        found = re.search(ready, line)
        self.fields = found.groupdict()
        self.pid = int(self.fields["pid"])
        self.address = self.fields["address"]

    def _first_line(self, ready, timeout):
        """Waits for the line that says that the server can serve."""
        deadline = time.monotonic() + timeout
        output = self.process.stdout
        os.set_blocking(output.fileno(), False)
        text = ""
        while time.monotonic() < deadline:
            if select.select([output], [], [], 0.2)[0]:
                chunk = output.read()
                if not chunk:
                    break
                text += chunk.decode("utf-8", "replace")
                for line in text.splitlines():
                    if re.search(ready, line):
                        return line
        status = self.wait(1)
        self.kill()
        ended = "did not become ready" if status is None else f"ended with status {status} instead of becoming ready"
        raise ToolError(" ".join(f"{self.name} {ended}. {text.strip()} {self.log_tail()}".split()))

    def log_tail(self):
        """The end of what it wrote to stderr."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")[-2000:].strip()

    def alive(self):
        return self.process.poll() is None

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout):
        """Exit status, or None if it still runs when the time is up."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdout.close()
        self.log_path.unlink(missing_ok=True)


def start_throng(*arguments, binary=None, cpu=None, env=None, name="throng"):
    """A node on a free loopback port; /ws, /echo and the HTTP API are all on `address`."""
    argv = [binary or release_binary("throng"), "serve", "--bind", "127.0.0.1", "--port", "0",
            "--ws-port", "0", *arguments]
    ready = r"^throng ready http=(?P<address>\S+).* pid=(?P<pid>\d+)"
    return Server(name, argv, ready, cpu=cpu, env=env)


def start_baseline(*arguments, cpu=None):
    """The server built on tungstenite, on a free loopback port."""
    ready = r"^baseline ready ws=(?P<address>\S+) pid=(?P<pid>\d+)"
    return Server("baseline", [release_binary("throng-baseline"), *arguments], ready, cpu=cpu)


def system_calls(pids, action):
    """What `action` returns, and how often each system call was made meanwhile by these processes, as `strace -c` says."""
    with tempfile.NamedTemporaryFile("r") as table:
        command = ["strace", "-c", "-f", "-o", table.name]
        strace = subprocess.Popen(command + [part for pid in pids for part in ("-p", str(pid))],
                                  stderr=subprocess.PIPE, text=True)
        try:
            attached = 0
            while attached < len(pids):
                line = strace.stderr.readline()
                if not line:
                    raise ToolError("strace could not attach")
                attached += "attached" in line
            result = action()
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate(timeout=20)
        calls = {}
        for line in table.read().splitlines():
            # % time, seconds, usecs/call, calls, errors (may be blank), name
            found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
            if found and found[2] != "total":
                calls[found[2]] = int(found[1])
    return result, calls


def _stamp(*parts):
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def _fresh(directory, stamp):
    """True if `directory` holds what `stamp` names; otherwise it is removed to be made anew."""
    marker = directory / ".complete"
    if marker.exists() and marker.read_text() == stamp:
        return True
    shutil.rmtree(directory, ignore_errors=True)
    return False


def run_quietly(argv, what, timeout=600, **options):
    """Runs an installer; its output is shown only when it fails."""
    argv = [str(part) for part in argv]
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                              stdin=subprocess.DEVNULL, text=True, errors="replace", check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{what}: {error}") from error
    if done.returncode != 0:
        raise ToolError(f"{what} failed:\n{done.stdout[-3000:]}")


def python_environment(name, requirements):
    """The interpreter of a virtual environment of this Python in .cache/, with these packages."""
    directory = CACHE / name
    stamp = _stamp(sys.version, directory, *requirements)
    python = directory / "bin" / "python"
    if not _fresh(directory, stamp):
        say(f"installing {' '.join(requirements)} into {directory}")
        run_quietly([sys.executable, "-m", "venv", directory], "making a virtual environment")
        run_quietly([python, "-m", "pip", "install", "-q", *requirements], "pip install")
        (directory / ".complete").write_text(stamp)
    return python


def python2():
    """A Python 2.7 that runs, or None."""
    home = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    candidates = [os.environ.get("PYTHON27")]
    candidates += sorted(home.glob("versions/2.7*/bin/python2.7"), reverse=True)
    candidates += [shutil.which("python2.7"), shutil.which("python2")]
    for candidate in filter(None, candidates):
        check = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
        try:
            if subprocess.run([str(candidate), "-c", check], capture_output=True, timeout=20).returncode == 0:
                return str(candidate)
        except (OSError, subprocess.TimeoutExpired):
            continue
    return None


def python2_environment(name, requirements):
    """As `python_environment`, for Python 2.7; raises ToolError when there is none."""
    interpreter = python2()
    if interpreter is None:
        raise ToolError("there is no Python 2.7 on this machine (looked at PYTHON27, pyenv and PATH)")
    directory, tool = CACHE / name, CACHE / "virtualenv"
    stamp = _stamp(interpreter, directory, *requirements)
    python = directory / "bin" / "python"
    if not _fresh(directory, stamp):
        say(f"installing {' '.join(requirements)} into {directory}")
        if not _fresh(tool, "20.21.1"):
            # The last release that still makes environments for 2.7.
            run_quietly([sys.executable, "-m", "pip", "install", "-q", "--target", tool, "virtualenv==20.21.1"],
                        "installing virtualenv")
            (tool / ".complete").write_text("20.21.1")
        run_quietly([sys.executable, "-m", "virtualenv", "-q", "-p", interpreter, directory],
                    "making a Python 2.7 environment", env={**os.environ, "PYTHONPATH": str(tool)})
        run_quietly([python, "-m", "pip", "install", "-q", *requirements], "pip install")
        (directory / ".complete").write_text(stamp)
    return python


def node_modules(name, packages):
    """A directory in .cache/ whose node_modules holds these packages."""
    directory = CACHE / name
    stamp = _stamp(directory, *packages)
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise ToolError("Node.js and npm are not installed (apt-get install nodejs npm)")
    if not _fresh(directory, stamp):
        say(f"installing {' '.join(packages)} into {directory}")
        directory.mkdir(parents=True)
        (directory / "package.json").write_text('{"private": true}\n')
        run_quietly(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *packages], "npm install",
                    cwd=directory)
        (directory / ".complete").write_text(stamp)
    return directory
