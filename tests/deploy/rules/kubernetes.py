"""The sidecar manifest: schema, and every name, label, port and period that another one repeats."""

import re
from pathlib import PurePosixPath

import yaml

from .tools import GateConfig, findings_of

FILE = "deploy/kubernetes/sidecar.yaml"
VERSION = "1.33"


def schema(root):
    return findings_of("kubernetes-validate", "-k", VERSION, "--strict", root / FILE)


class Manifest:
    def __init__(self, root):
        self.text = (root / FILE).read_text()
        self.by_kind = {}
        for document in yaml.safe_load_all(self.text):
            self.by_kind.setdefault(document["kind"], []).append(document)
        self.deployment = self.by_kind["Deployment"][0]
        self.template = self.deployment["spec"]["template"]
        self.pod = self.template["spec"]
        self.gate = next(c for c in self.pod["initContainers"] if c["name"] == "wsgate")
        self.app = self.pod["containers"][0]
        self.containers = self.pod["initContainers"] + self.pod["containers"]
        self.config = GateConfig(yaml.safe_load(embedded(self)))

    def names(self, kind):
        return {document["metadata"]["name"] for document in self.by_kind.get(kind, [])}


def embedded(manifest):
    return manifest.by_kind["ConfigMap"][0]["data"]["wsgate.yaml"]


def volumes(root):
    m = Manifest(root)
    declared = {volume["name"]: volume for volume in m.pod["volumes"]}
    found, used = [], set()
    for container in m.containers:
        for mount in container.get("volumeMounts", []):
            used.add(mount["name"])
            if mount["name"] not in declared:
                found.append(f"{container['name']}: mounts {mount['name']}, which is no volume")
            if "subPath" in mount:
                found.append(f"{container['name']}: {mount['name']} by subPath is never updated")
            if not mount.get("readOnly"):
                found.append(f"{container['name']}: {mount['name']} is mounted writable")
    found += [f"volume {name} is mounted nowhere" for name in declared.keys() - used]
    announced = set(re.findall(r"create secret tls (\S+)", m.text))
    for volume in declared.values():
        if "configMap" in volume and volume["configMap"]["name"] not in m.names("ConfigMap"):
            found.append(f"volume {volume['name']}: no ConfigMap {volume['configMap']['name']}")
        if "secret" in volume:
            secret = volume["secret"]
            if secret["secretName"] not in m.names("Secret") | announced:
                found.append(f"volume {volume['name']}: no Secret {secret['secretName']}")
            if secret.get("defaultMode") != 0o440:
                found.append(f"volume {volume['name']}: defaultMode is not 288 (0440)")
    return found


def files(root):
    """What wsgate.yaml names lies where a volume of the right kind is mounted."""
    m = Manifest(root)
    kinds = {v["name"]: "secret" if "secret" in v else "configMap" for v in m.pod["volumes"]}
    mounted = {mount["mountPath"]: kinds.get(mount["name"]) for mount in m.gate["volumeMounts"]}
    found = []
    for file in m.config.key_files:
        path = PurePosixPath(file)
        if mounted.get(str(path.parent)) != "secret":
            found.append(f"{file}: no Secret is mounted at {path.parent}")
        if path.name not in ("tls.crt", "tls.key"):
            found.append(f"{file}: a kubernetes.io/tls Secret has tls.crt and tls.key only")
    if mounted.get("/etc/wsgate") != "configMap":
        found.append("/etc/wsgate/wsgate.yaml, the default file, comes from no ConfigMap")
    return found


def selectors(root):
    m = Manifest(root)
    labels = m.template["metadata"]["labels"].items()
    chosen = [("Deployment", m.deployment["spec"]["selector"]["matchLabels"])]
    chosen += [("Service", service["spec"]["selector"]) for service in m.by_kind["Service"]]
    chosen += [
        ("PodDisruptionBudget", budget["spec"]["selector"]["matchLabels"])
        for budget in m.by_kind["PodDisruptionBudget"]
    ]
    return [
        f"{kind}: its selector does not choose the pods"
        for kind, selector in chosen if not selector or not selector.items() <= labels
    ]


def ports(root):
    m = Manifest(root)
    opened = {port["containerPort"] for port in m.gate["ports"]}
    found = []
    if opened != m.config.public | {m.config.status}:
        found.append(f"containerPorts {sorted(opened)} are not where wsgate.yaml listens")
    for service in m.by_kind["Service"]:
        targets = [port.get("targetPort") for port in service["spec"]["ports"]]
        for target in targets:
            if not isinstance(target, int):
                found.append(f"Service: targetPort {target} is not a number")
        if set(targets) != m.config.public:
            found.append(f"Service: targetPorts {targets} are not the public listeners")
        if service["spec"].get("externalTrafficPolicy") != "Local":
            found.append("Service: externalTrafficPolicy is not Local, clients lose their address")
    environment = {entry["name"]: entry.get("value") for entry in m.app["env"]}
    expected = [f"{environment.get('HOST')}:{environment.get('PORT')}"]
    if m.config.servers != expected:
        found.append(f"upstreams.servers {m.config.servers} are not the app's {expected}")
    return found


def probes(root):
    m = Manifest(root)
    found = []
    wanted = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for name, path in wanted.items():
        get = m.gate.get(name, {}).get("httpGet", {})
        if get.get("path") != path:
            found.append(f"{name}: asks {get.get('path')}, not {path}")
        if get.get("port") != m.config.status:
            found.append(f"{name}: port {get.get('port')} is not status.listen")
    if m.gate.get("restartPolicy") != "Always":
        found.append("wsgate: an init container without restartPolicy Always is no sidecar")
    return found


def hardened(root):
    m = Manifest(root)
    found = []
    pod = m.pod.get("securityContext", {})
    if not pod.get("runAsNonRoot") or pod.get("runAsUser") != 65532 or pod.get("fsGroup") != 65532:
        found.append("pod: not run as 65532 with that fsGroup")
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("pod: no seccomp profile")
    if m.pod.get("automountServiceAccountToken") is not False:
        found.append("pod: the service account's token is mounted")
    for container in m.containers:
        name, context = container["name"], container.get("securityContext", {})
        if context.get("readOnlyRootFilesystem") is not True:
            found.append(f"{name}: the root file system is writable")
        if context.get("allowPrivilegeEscalation") is not False:
            found.append(f"{name}: privileges may be escalated")
        if context.get("capabilities") != {"drop": ["ALL"]}:
            found.append(f"{name}: capabilities are not dropped")
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
            found.append(f"{name}: no requests for cpu and memory")
        if "memory" not in resources.get("limits", {}):
            found.append(f"{name}: no memory limit")
        image, _, tag = container["image"].rpartition(":")
        if not image or tag == "latest":
            found.append(f"{name}: image {container['image']} has no fixed tag")
    return found


def periods(root):
    m = Manifest(root)
    found = []
    drain = m.config.drain_seconds
    if m.config.delay_seconds < 5:
        found.append("drain.delay does not outlast the change of endpoints")
    wait = re.fullmatch(r"/drained(?:\?timeout=(\d+))?", pre_stop(m.app, "httpGet").get("path", ""))
    seconds = int(wait[1] or 60) if wait else 0
    if not drain < seconds <= 3600:
        found.append(f"app: its preStop waits {seconds} s at /drained, the drain takes up to {drain}")
    needed = drain + 15
    grace = m.pod.get("terminationGracePeriodSeconds", 30)
    if grace < needed:
        found.append(f"terminationGracePeriodSeconds {grace} is below drain + 15 = {needed}")
    return found


def hooks(root):
    """Both preStop hooks begin at once: the gate drains, the application waits for the end of that."""
    m = Manifest(root)
    found = []
    if pre_stop(m.gate, "exec").get("command") != ["/wsgate", "drain", "--wait"]:
        found.append("wsgate: its preStop is not /wsgate drain --wait")
    if m.config.admin is None:
        found.append("admin.listen: wsgate drain has nobody to ask")
    port = pre_stop(m.app, "httpGet").get("port")
    if port != m.config.status:
        found.append(f"app: its preStop asks port {port}, which is not status.listen")
    return found


def pre_stop(container, kind):
    return container.get("lifecycle", {}).get("preStop", {}).get(kind, {})


RULES = {
    "kubernetes: schema": schema,
    "kubernetes: volumes": volumes,
    "kubernetes: files": files,
    "kubernetes: selectors": selectors,
    "kubernetes: ports": ports,
    "kubernetes: probes": probes,
    "kubernetes: hardened": hardened,
    "kubernetes: periods": periods,
    "kubernetes: hooks": hooks,
}
