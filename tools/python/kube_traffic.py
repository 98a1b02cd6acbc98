"""Clients during a roll, and what they saw of it."""

import datetime
import json
import signal
import subprocess

import kube_pods as pods

WAIT_SECONDS = 60


class Clients:
    """One `throng client` with many connections, each a user of its own, told where to go as in the manifests."""

    def __init__(self, cluster, connections):
        self.output = cluster.folder / "clients.json"
        command = [str(cluster.binary), "client", "--simulate", "--connections", str(connections), "--interval", "500ms",
                   "--user-id", "user-%n", "--json"]
        with open(self.output, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(command, env=pods.client_environment(cluster), stdout=output,
                                            stdin=subprocess.DEVNULL)
        self.read_up_to, self.events, self.open = 0, [], set()

    def read(self):
        """Takes in what was written since the last time."""
        with open(self.output, encoding="utf-8") as output:
            output.seek(self.read_up_to)
            text = output.read()
        whole = text[:text.rfind("\n") + 1]
        self.read_up_to += len(whole.encode())
        for line in whole.splitlines():
            event = json.loads(line)
            self.events.append(event)
            if event["event"] == "connected":
                self.open.add(event["connection"])
            elif event["event"] in ("disconnected", "closed"):
                self.open.discard(event["connection"])

    def connected(self):
        assert self.process.poll() is None, f"the client ended with status {self.process.returncode}"
        self.read()
        return len(self.open)

    def stop(self):
        """One Ctrl-C: what is under way is finished, then it says what it came to."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(WAIT_SECONDS)
        self.read()
        assert status == 0, f"the client ended with status {status}: {self.summary()}"

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def summary(self):
        assert self.events and self.events[-1]["event"] == "summary", "the client gave no summary"
        return self.events[-1]

    def figures(self):
        """How connections ended before they were opened again, and the most that were in any one second."""
        opened = (event for event in self.events if event["event"] == "connected")
        again = sorted(at(event) for event in opened if event["away_ms"] is not None)
        peak = max((sum(1 for other in again if 0 <= other - one < 1) for one in again), default=0)
        codes = {event["code"] for event in self.events if event["event"] == "disconnected"}
        return {"peak": peak, "codes": codes}


def at(event):
    return datetime.datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp()


def users(pod):
    """All users that the cluster knows."""
    found, after = [], ""
    while True:
        page = pod.get_json(f"/api/users?limit=1000&after={after}")
        found += page["users"]
        if not page.get("next"):
            return found
        after = page["next"]
