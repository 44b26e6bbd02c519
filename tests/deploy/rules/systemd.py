"""The unit: systemd's own reading of it, and how much it leaves open."""

import re
import tempfile
from pathlib import Path

from .tools import run, seconds

FILE = "deploy/systemd/wsgate.service"


def verify(root):
    # A bad value only warns, so any output is a finding. The program itself is not installed here.
    with tempfile.TemporaryDirectory() as directory:
        unit = Path(directory, "wsgate.service")
        unit.write_text((root / FILE).read_text().replace("/usr/local/bin/wsgate", "/bin/true"))
        return run("systemd-analyze", "verify", unit)[1].splitlines()


def exposure(root):
    code, output = run(
        "systemd-analyze", "security", "--offline=true", "--threshold=25", root / FILE
    )
    return [] if code == 0 else output.splitlines()[-1:]


def periods(root):
    grace = re.search(r"^TimeoutStopSec=(\S+)$", (root / FILE).read_text(), re.M)
    if not grace or seconds(grace[1]) < 5 + 60 + 5:
        return ["TimeoutStopSec is not 5 s above the default drain of 65 s"]
    return []


RULES = {"systemd: verify": verify, "systemd: exposure": exposure, "systemd: periods": periods}
