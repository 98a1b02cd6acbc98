"""The manifests of k8s/ as kustomize renders them, and what a pod of them is given."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import throng_tools as tools

OVERLAYS = ["single", "cluster", "with-balancer", "demo", "full"]


def usable_kubectl(name):
    """The path of a kubectl whose kustomize is of version 5 or later, or None."""
    path = shutil.which(name)
    if path is None:
        return None
    done = subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=60)
    try:
        version = json.loads(done.stdout)["kustomizeVersion"]
    except (ValueError, KeyError):
        return None
    return path if int(re.match(r"v?(\d+)", version).group(1)) >= 5 else None


def kubectl():
    beside_python = str(pathlib.Path(sys.prefix) / "bin" / "kubectl")
    path = usable_kubectl("kubectl") or usable_kubectl(beside_python)
    if path is None:
        raise tools.ToolError("there is no kubectl with kustomize 5")
    return path


def text(folder):
    """What kustomize makes of a folder."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr.strip()
    return done.stdout


def overlay(name):
    return tools.ROOT / "k8s" / "overlays" / name


class Manifests:
    """The objects of a rendered overlay."""

    def __init__(self, rendered):
        import yaml
        self.objects = [one for one in yaml.safe_load_all(rendered) if one is not None]

    def get(self, kind, name):
        """The object of this kind, whose name may end with a hash."""
        for one in self.objects:
            if one["kind"] == kind and re.fullmatch(re.escape(name) + "(-[a-z0-9]{10})?", one["metadata"]["name"]):
                return one
        raise AssertionError(f"there is no {kind} {name}")

    def of_kind(self, kind):
        return [one for one in self.objects if one["kind"] == kind]

    def workloads(self):
        return [one for one in self.objects if "template" in one.get("spec", {})]

    def container(self, workload):
        return workload["spec"]["template"]["spec"]["containers"][0]

    def environment(self, workload, pod_name):
        """The environment of a pod; secrets that may be missing are."""
        container, template = self.container(workload), workload["spec"]["template"]
        environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
        for source in container.get("envFrom", []):
            environment.update(self.get("ConfigMap", source["configMapRef"]["name"]).get("data", {}))
        fields = {"metadata.name": pod_name, "metadata.namespace": workload["metadata"]["namespace"],
                  "spec.nodeName": "machine-1"}
        for key, value in template["metadata"]["labels"].items():
            fields[f"metadata.labels['{key}']"] = value
        for variable in container.get("env", []):
            if "value" in variable:
                environment[variable["name"]] = variable["value"]
            elif "fieldRef" in variable["valueFrom"]:
                environment[variable["name"]] = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                assert variable["valueFrom"]["secretKeyRef"]["optional"], variable["name"]
        return environment

    def arguments(self, workload, environment):
        """A pod's arguments, its variables put in."""
        put_in = lambda found: environment[found.group(1)]  # noqa: E731
        return [re.sub(r"\$\((\w+)\)", put_in, argument) for argument in self.container(workload).get("args", [])]

    def port(self, workload, name):
        return next(port["containerPort"] for port in self.container(workload)["ports"] if port["name"] == name)


def plain_environment():
    """This process's environment without anything that throng reads."""
    ours = ("PORT", "NODE_ID", "SERVICE_NAME", "POD_NAME", "POD_NAMESPACE", "NODE_NAME", "SERVER_URL", "NOTIFY_SOCKET",
            "REDIS_URL", "REDIS_HOST", "REDIS_PORT")
    return {name: value for name, value in os.environ.items() if not name.startswith("THRONG_") and name not in ours}
