"""Are the manifests what Kubernetes takes? Rendered by kustomize, validated against its schemas, references followed."""

import re
import shutil
import subprocess
import sys
import tempfile
import pathlib

import kube_manifests as manifests
import throng_tools as tools

VERSION = "1.32"
CLUSTER_SCOPED = ["Namespace"]
# Components that are part of no overlay, with what they are tried on: a base, and components beside them.
OPTIONS = {"session-affinity": ("base", []), "tls": ("base", ["monitoring"]),
           "balancer-tls": ("overlays/with-balancer", ["monitoring"]), "jwt": ("base", ["tls"]),
           "backend-tls": ("overlays/with-balancer", ["tls", "balancer-tls", "monitoring"])}
# Their schemas are no part of Kubernetes: checked here.
CUSTOM = ["ServiceMonitor", "PrometheusRule"]
DURATION = r"(\d+(ms|[smhd]))+"


def run(results):
    rendered = {}
    for name in [*manifests.OVERLAYS, *OPTIONS]:
        folder = option(name) if name in OPTIONS else manifests.overlay(name)
        results.check(f"{name}: kustomize renders it", lambda: rendered.update({name: manifests.text(folder)}))
        if name not in rendered:
            continue
        results.check(f"{name}: valid in Kubernetes {VERSION}", validate, rendered[name])
        results.check(f"{name}: refers to what is there", references, manifests.Manifests(rendered[name]))
    for name, check in [("single", single), ("with-balancer", with_balancer), ("full", full),
                        ("session-affinity", session_affinity), ("tls", tls), ("balancer-tls", balancer_tls),
                        ("backend-tls", backend_tls), ("jwt", jwt)]:
        if name in rendered:
            results.check(f"{name}: its patches have their effect", check, manifests.Manifests(rendered[name]))
    if "full" in rendered:
        what = "the kinds of the Prometheus Operator are well formed"
        results.check(what, custom, manifests.Manifests(rendered["full"]))
        results.check("the validator refuses what is wrong", refuses, rendered["full"])
        if shutil.which("promtool"):
            results.check("promtool takes the rules", promtool, manifests.Manifests(rendered["full"]))
        else:
            results.skip("promtool", "it is not installed (apt-get install prometheus)")


def option(name):
    """An overlay for a component that none of ours has; kustomize leaves a folder only by relative paths."""
    folder = tools.CACHE / f"kustomize-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    components = [f"../../k8s/components/{one}" for one in (name, *OPTIONS[name][1])]
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: throng\n"
        f"resources: [../../k8s/{OPTIONS[name][0]}]\ncomponents: [{', '.join(components)}]\n")
    return folder


def validator(text):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        command = pathlib.Path(sys.prefix) / "bin" / "kubernetes-validate"
        return subprocess.run([command, "--strict", "-k", VERSION, file.name], capture_output=True, text=True,
                              timeout=120)


def validate(text):
    done = validator(text)
    said = done.stdout + done.stderr
    unknown = re.findall(r"Couldn't find schema for kind (\w+)", said)
    assert set(unknown) <= set(CUSTOM), f"no schema for {unknown}"
    assert done.returncode == 0, said.strip()[-1500:]
    return f"{len(manifests.Manifests(text).objects)} objects"


def refuses(text):
    wrong = [("readinessProbe:", "readynessProbe:"), ("replicas: 2", "replicas: two"),
             ("kind: StatefulSet", "kind: Statefulset")]
    for right, mistake in wrong:
        assert right in text, f"nothing to spoil: {right}"
        done = validator(text.replace(right, mistake, 1))
        found = done.returncode != 0 or "schema for kind Statefulset" in done.stdout + done.stderr
        assert found, f"{mistake} was taken"


def references(given):
    config_maps = [one["metadata"]["name"] for one in given.of_kind("ConfigMap")]
    for one in given.objects:
        scoped = one["metadata"].get("namespace") == "throng"
        assert scoped != (one["kind"] in CLUSTER_SCOPED), f"{one['kind']} {one['metadata']['name']} is in no namespace"
    for workload in given.workloads():
        for source in given.container(workload).get("envFrom", []):
            name = source["configMapRef"]["name"]
            assert name in config_maps, f"no ConfigMap {name}"
    labels = [workload["spec"]["template"]["metadata"]["labels"].items() for workload in given.workloads()]
    for service in given.of_kind("Service"):
        wanted = service["spec"]["selector"].items()
        name = service["metadata"]["name"]
        assert sum(wanted <= pod for pod in labels) == 1, f"Service {name} does not select one kind of pods"
    for config_map in given.of_kind("ConfigMap"):
        url = config_map.get("data", {}).get("SERVER_URL")
        if url:
            given.get("Service", re.match(r"ws://([\w-]+):\d+/ws$", url).group(1))


def single(given):
    assert given.get("StatefulSet", "throng")["spec"]["replicas"] == 1
    assert "REDIS_HOST" not in given.get("ConfigMap", "throng")["data"]


def with_balancer(given):
    nodes = given.get("Service", "throng")["spec"]
    assert nodes["type"] == "ClusterIP" and "externalTrafficPolicy" not in nodes, nodes
    assert given.get("Service", "throng-balance")["spec"]["type"] == "LoadBalancer"
    rule = given.get("NetworkPolicy", "throng")["spec"]["ingress"][0]
    reaches = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]]
    assert reaches == ["balancer"], f"nodes are reached by {reaches}"
    data = given.get("ConfigMap", "throng")["data"]
    assert "REDIS_HOST" in data and "THRONG_TRUSTED_PROXIES" in data and "THRONG_LAME_DUCK" in data, data


def full(given):
    with_balancer(given)
    assert "replicas" not in given.get("StatefulSet", "throng")["spec"], "the autoscaler is overruled"
    assert given.get("ConfigMap", "throng-client")["data"]["SERVER_URL"] == "ws://throng-balance:8080/ws"
    assert given.get("ConfigMap", "throng")["data"]["THRONG_SIMULATE"] == "true"


def session_affinity(given):
    service = given.get("Service", "throng")["spec"]
    assert service["sessionAffinity"] == "ClientIP"
    assert service["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] > 0
    assert service["type"] == "LoadBalancer"


def tls(given):
    speaks_tls(given, "StatefulSet", "throng", {"https": 443, "wss": 8765})
    data = given.get("ConfigMap", "throng")["data"]
    assert "THRONG_LAME_DUCK" in data, "the other settings are gone"
    assert given.get("Service", "throng-headless")["metadata"]["labels"]["throng/scheme"] == "https"


def balancer_tls(given):
    speaks_tls(given, "Deployment", "throng-balance", {"https": 443})
    assert "THRONG_TLS_CERT" not in given.get("ConfigMap", "throng")["data"], "the balancers speak plain TCP with nodes"
    assert given.get("Service", "throng-balance")["metadata"]["labels"]["throng/scheme"] == "https"
    assert "throng/scheme" not in given.get("Service", "throng-headless")["metadata"]["labels"]


def backend_tls(given):
    """All the way: clients, balancers, nodes; and the balancers have a Secret of their own besides the nodes' authorities."""
    speaks_tls(given, "StatefulSet", "throng", {"https": 443, "wss": 8765})
    speaks_tls(given, "Deployment", "throng-balance", {"https": 443})
    assert given.get("Service", "throng")["spec"]["type"] == "ClusterIP"
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    mounts_secret(given, "Deployment", "throng-balance", "nodes", "throng-tls", defaultMode=0o444, items=items)
    data = given.get("ConfigMap", "throng-balance")["data"]
    assert data["THRONG_BACKEND_TLS"] == "true" and data["THRONG_BACKEND_CA"] == "/nodes/ca.crt", data
    assert data["THRONG_BACKENDS_DNS"].split(":")[0] == data["THRONG_BACKEND_TLS_NAME"], data


def speaks_tls(given, kind, name, ports):
    """The files are where the settings say, readable and replaced when the Secret is; probes and Services speak TLS."""
    workload = given.get(kind, name)
    pod, container = workload["spec"]["template"]["spec"], given.container(workload)
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"], pod["securityContext"]
    mounts_secret(given, kind, name, "tls", f"{name}-tls")
    data = given.get("ConfigMap", name)["data"]
    assert (data["THRONG_TLS_CERT"], data["THRONG_TLS_KEY"]) == ("/tls/tls.crt", "/tls/tls.key"), data
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        request = container[probe]["httpGet"]
        assert request["scheme"] == "HTTPS" and request["port"] == "http", request
    found = {port["name"]: port["port"] for port in given.get("Service", name)["spec"]["ports"]}
    assert found == ports, found


def mounts_secret(given, kind, name, volume, secret, **other):
    """A folder as the volume is called, with the files of the Secret, which the group may read unless it is said otherwise."""
    workload = given.get(kind, name)
    volumes = {one["name"]: one for one in workload["spec"]["template"]["spec"]["volumes"]}
    assert volumes[volume]["secret"] == {"secretName": secret, "defaultMode": 0o440, **other}, volumes
    mounts = [mount for mount in given.container(workload)["volumeMounts"] if mount["name"] == volume]
    assert mounts == [{"name": volume, "mountPath": f"/{volume}", "readOnly": True}], mounts


def jwt(given):
    """Beside TLS, which mounts a Secret as well."""
    speaks_tls(given, "StatefulSet", "throng", {"https": 443, "wss": 8765})
    mounts_secret(given, "StatefulSet", "throng", "jwt", "throng-jwt")
    data = given.get("ConfigMap", "throng")["data"]
    assert data["THRONG_AUTH"] == "jwt" and data["THRONG_JWT_JWKS_FILE"] == "/jwt/jwks.json", data


def custom(given):
    monitor = given.get("ServiceMonitor", "throng")
    only(monitor["spec"], {"selector", "endpoints", "namespaceSelector", "jobLabel"})
    for endpoint in monitor["spec"]["endpoints"]:
        only(endpoint, {"targetPort", "path", "interval", "scrapeTimeout", "relabelings", "tlsConfig"})
        for key in ("interval", "scrapeTimeout"):
            assert re.fullmatch(DURATION, endpoint[key]), endpoint
    groups = given.get("PrometheusRule", "throng")["spec"]["groups"]
    assert len({group["name"] for group in groups}) == len(groups), "a group is there twice"
    for rule in [rule for group in groups for rule in group["rules"]]:
        only(rule, {"alert", "expr", "for", "labels", "annotations"})
        assert rule["labels"]["severity"] in ("info", "warning", "critical") and rule["annotations"]["summary"], rule["alert"]
        assert re.fullmatch(DURATION, rule.get("for", "0s")), rule["alert"]


def only(mapping, known):
    assert set(mapping) <= known, f"unknown keys {set(mapping) - known}"


def promtool(given):
    import yaml
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": given.get("PrometheusRule", "throng")["spec"]["groups"]}, file)
        file.flush()
        done = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).strip()
    return re.search(r"\d+ rules found", done.stdout).group(0)
