"""The Compose edge: schema, and whether its parts and its wsgate.yaml agree."""

import json
from pathlib import Path, PurePosixPath

from .tools import GateConfig, findings_of, read_yaml, run, seconds

FILE = "deploy/compose/compose.yaml"


def schema(root):
    return findings_of("check-jsonschema", "--builtin-schema", "vendor.compose-spec", root / FILE)


def parses(root):
    return findings_of("docker-compose", "-f", root / FILE, "--profile", "setup", "config", "--quiet")


def model(root):
    """(services as Compose resolves them, the gate's configuration)."""
    code, output = run(
        "docker-compose", "-f", root / FILE, "--profile", "setup", "config", "--format", "json"
    )
    if code != 0:
        raise ValueError(output)
    gate = GateConfig(read_yaml(root / "deploy/compose/wsgate/wsgate.yaml"))
    return json.loads(output)["services"], gate


def hardened(root):
    services, _ = model(root)
    found = []
    for name, service in services.items():
        if not service.get("read_only"):
            found.append(f"{name}: the root file system is writable")
        if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
            found.append(f"{name}: capabilities are not dropped")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            found.append(f"{name}: no-new-privileges is missing")
        if service.get("privileged") or service.get("network_mode") == "host":
            found.append(f"{name}: privileged, or on the host's network")
    if services["edge"].get("ulimits", {}).get("nofile", {}).get("soft", 0) < 65536:
        found.append("edge: ulimits.nofile is below 65536")
    return found


def ports(root):
    services, gate = model(root)
    published = {int(port["target"]): port for port in services["edge"]["ports"]}
    found = []
    for target in gate.public - published.keys():
        found.append(f"wsgate.yaml listens on {target}, and nothing publishes it")
    for target, port in published.items():
        if target == gate.status and port.get("host_ip") != "127.0.0.1":
            found.append(f"the status port {target} is published beyond loopback")
        if target not in gate.public | {gate.status}:
            found.append(f"{port['published']}:{target}: wsgate.yaml does not listen there")
    return found


def mounts(root):
    services, gate = model(root)
    found = []
    for name, service in services.items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind" and not Path(volume["source"]).is_dir():
                found.append(f"{name}: {volume['source']} is not a directory")
    edge = {volume["target"]: volume for volume in services["edge"].get("volumes", [])}
    for file in gate.key_files:
        if str(PurePosixPath(file).parent) not in edge:
            found.append(f"edge: {file} lies in no mounted directory")
    config = edge.get("/etc/wsgate", {}).get("source")
    if not config or not (Path(config) / "wsgate.yaml").is_file():
        found.append("edge: /etc/wsgate/wsgate.yaml, the default file, is not mounted")
    for target, volume in edge.items():
        if not volume.get("read_only"):
            found.append(f"edge: {target} is mounted writable")
    writer = {v["target"]: v["source"] for v in services["cert"]["volumes"]}
    if any(edge.get(target, {}).get("source") != source for target, source in writer.items()):
        found.append("cert: writes to another volume than edge reads")
    return found


def backends(root):
    services, gate = model(root)
    edge = services["edge"]
    found = []
    for server in gate.servers:
        name, port = server.rsplit(":", 1)
        service = services.get(name)
        if service is None:
            found.append(f"upstreams.servers: {name} is no service")
            continue
        if not service["networks"].keys() & edge["networks"].keys():
            found.append(f"{name}: on no network with edge")
        if service.get("ports"):
            found.append(f"{name}: published, so clients can go around the gate")
        if f":{port}/" not in json.dumps(service.get("healthcheck", {}).get("test", [])):
            found.append(f"{name}: its healthcheck does not ask port {port}")
        if edge["depends_on"].get(name, {}).get("condition") != "service_healthy":
            found.append(f"edge: does not depend on a healthy {name}")
    return found


def periods(root):
    services, gate = model(root)
    grace = seconds(services["edge"].get("stop_grace_period", "10s"))
    if grace < gate.drain_seconds + 5:
        return [f"stop_grace_period {grace}s is not 5 s above the drain's {gate.drain_seconds}s"]
    return []


def pinned(root):
    """The backends install what package-lock.json says, and it says what package.json does."""
    app = root / "deploy/compose/app"
    package = json.loads((app / "package.json").read_text())["dependencies"]
    lock = json.loads((app / "package-lock.json").read_text())["packages"]
    found = [f"{n}: {v} is not an exact version" for n, v in package.items() if not v[0].isdigit()]
    if lock[""]["dependencies"] != package:
        found.append("package-lock.json does not match package.json")
    return found


RULES = {
    "compose: schema": schema,
    "compose: config": parses,
    "compose: hardened": hardened,
    "compose: ports": ports,
    "compose: mounts": mounts,
    "compose: backends": backends,
    "compose: periods": periods,
    "compose: pinned": pinned,
}
