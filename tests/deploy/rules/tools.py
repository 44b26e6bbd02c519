"""Running the validators, and reading what they and the gate read."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

BIN = Path(sys.executable).parent
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Skipped(Exception):
    """The rule cannot be judged here; the message says why."""


def run(*command, env=None):
    """Runs a tool, the project's own environment first. Returns (exit code, all its output)."""
    own = BIN / command[0]
    program = str(own) if own.exists() else shutil.which(command[0])
    if program is None:
        raise Skipped(f"{command[0]} is not installed")
    done = subprocess.run(
        [program, *map(str, command[1:])],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, env=env,
    )
    return done.returncode, done.stdout.strip()


def findings_of(*command):
    """What a tool that exits 0 or complains has to say."""
    code, output = run(*command)
    return [] if code == 0 else output.splitlines() or [f"{command[0]} ended with {code}"]


def read_yaml(path):
    return yaml.safe_load(path.read_text())


def seconds(text):
    """A duration as wsgate.yaml and Compose spell it: 10s, 1m30s, 500ms."""
    parts = re.findall(r"(\d+)(ms|s|m|h|d)", str(text))
    if not parts or "".join(n + u for n, u in parts) != str(text):
        raise ValueError(f"not a duration: {text!r}")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def port_of(address):
    return int(str(address).rsplit(":", 1)[1])


class GateConfig:
    """The parts of a wsgate.yaml that other files must agree with."""

    def __init__(self, document):
        listen = document.get("listen", {})
        drain = document.get("drain", {})
        self.https = port_of(listen.get("https", "[::]:8443"))
        redirect = listen.get("http_redirect")
        self.redirect = port_of(redirect) if redirect else None
        self.status = port_of(document.get("status", {}).get("listen", "0.0.0.0:9180"))
        self.admin = document.get("admin", {}).get("listen", "127.0.0.1:9181")
        self.public = {port for port in (self.https, self.redirect) if port}
        self.delay_seconds = seconds(drain.get("delay", "5s"))
        self.drain_seconds = self.delay_seconds + seconds(drain.get("timeout", "60s"))
        self.servers = document["upstreams"]["servers"]
        self.key_files = [
            pair[part] for pair in document["tls"]["certificates"] for part in ("cert", "key")
        ]
