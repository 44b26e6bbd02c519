"""The image: lint, what old builders accept, and what the build context holds."""

import fnmatch
import json
import re

from .tools import GateConfig, findings_of, read_yaml

# buildah 1.28, which Debian 12 ships, accepts none of these.
NOT_PORTABLE = {
    r"<<-?[\"']?[A-Za-z]": "a heredoc",
    r"COPY\b.*--link": "COPY --link",
    r"RUN\b.*--network": "RUN --network",
    r"HEALTHCHECK\b.*--start-interval": "HEALTHCHECK --start-interval",
}


def instructions(path):
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M).replace("\\\n", " ")
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def lint(root):
    return findings_of("hadolint", root / "Dockerfile", root / "deploy/compose/app/Dockerfile")


def portable(root):
    return [
        f"{what}: {line[:60]}"
        for line in instructions(root / "Dockerfile")
        for pattern, what in NOT_PORTABLE.items() if re.search(pattern, line)
    ]


def final_stage(root):
    lines = instructions(root / "Dockerfile")
    last = max(i for i, line in enumerate(lines) if line.startswith("FROM "))
    said = dict(line.split(" ", 1) for line in lines[last:])
    gate = GateConfig(read_yaml(root / "deploy/compose/wsgate/wsgate.yaml"))
    found = []
    if said["FROM"] != "scratch":
        found.append(f"the last stage is FROM {said['FROM']}, not scratch")
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", said.get("USER", "")):
        found.append(f"USER {said.get('USER')} is not a numeric user other than root")
    if json.loads(said.get("ENTRYPOINT", "[]")) != ["/wsgate"]:
        found.append("ENTRYPOINT is not /wsgate in its exec form")
    if 'CMD ["/wsgate", "healthcheck"]' not in said.get("HEALTHCHECK", ""):
        found.append("HEALTHCHECK does not run /wsgate healthcheck in its exec form")
    exposed = {int(port) for port in said.get("EXPOSE", "").split()}
    if exposed != gate.public | {gate.status}:
        found.append(f"EXPOSE {sorted(exposed)} are not the ports of compose's wsgate.yaml")
    return found


def context(root):
    """Every COPY from the context names something that is there and that .dockerignore lets in."""
    ignore = [line for line in (root / ".dockerignore").read_text().split() if line[0] != "#"]
    found = []
    for line in instructions(root / "Dockerfile"):
        words = [word for word in line.split() if not word.startswith("--")]
        if words[0] != "COPY" or "--from=" in line:
            continue
        for source in words[1:-1]:
            if not (root / source).exists():
                found.append(f"COPY {source}: no such path")
            admitted = True
            for pattern in ignore:
                if fnmatch.fnmatch(source, pattern.lstrip("!")):
                    admitted = pattern.startswith("!")
            if not admitted:
                found.append(f"COPY {source}: left out by .dockerignore")
    return found


RULES = {
    "Dockerfile: hadolint": lint,
    "Dockerfile: buildah 1.28": portable,
    "Dockerfile: final stage": final_stage,
    "Dockerfile: context": context,
}
