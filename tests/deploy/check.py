#!/usr/bin/env python3
"""Checks what ships for deployment: the Dockerfile, deploy/, and each wsgate.yaml.

    tests/deploy/check.py               every rule; with WSGATE=path also the gate's own opinion
    tests/deploy/check.py --self-test   seeds faults into copies: each must be found

The validators are installed once, into tests/.env. Ends with `N passed, N failed`, and with 1 if
anything failed.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENV = ROOT / "tests" / ".env"


def enter_environment():
    """Goes on in tests/.env, which is made or brought up to date if it has to be."""
    wanted = HERE / "requirements.txt"
    stamp = ENV / "deploy-requirements.txt"
    if not stamp.is_file() or stamp.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", ENV], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted]
        subprocess.run([ENV / "bin" / "python", *install], check=True)
        stamp.write_text(wanted.read_text())
    if Path(sys.prefix).resolve() != ENV.resolve():
        python = str(ENV / "bin" / "python")
        os.execv(python, [python, __file__, *sys.argv[1:]])


def rules():
    from rules import compose, dockerfile, gate, kubernetes, systemd
    rooms = (dockerfile, compose, kubernetes, gate, systemd)
    return {name: rule for room in rooms for name, rule in room.RULES.items()}


def findings(rule, root):
    """What a rule finds; a file so broken that the rule cannot read it is a finding too."""
    from rules.tools import Skipped
    try:
        return rule(root)
    except Skipped:
        raise
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


def judge(name, found):
    print(f"{'FAIL' if found else 'ok  '} {name}")
    for line in found:
        print(f"       {line}")
    return not found


def check_all():
    from rules.tools import Skipped
    for name, rule in rules().items():
        try:
            yield judge(name, findings(rule, ROOT))
        except Skipped as reason:
            print(f"skip {name}: {reason}")


def self_test():
    """Each fault, and nothing but the fault, makes its rule fail."""
    import faults
    from rules.tools import Skipped
    known = rules()
    for fault in faults.FAULTS:
        with fault.seeded(ROOT) as copy:
            try:
                found = findings(known[fault.rule], copy)
            except Skipped as reason:
                print(f"skip {fault}: {reason}")
                continue
        missed = [] if any(fault.says in line for line in found) else [f"not found, but: {found}"]
        yield judge(str(fault), missed)
    untried = known.keys() - {fault.rule for fault in faults.FAULTS}
    yield judge("every rule has a fault that it finds", sorted(untried))


def main():
    if sys.argv[1:] not in ([], ["--self-test"]):
        sys.exit(__doc__)
    enter_environment()
    results = list(self_test() if sys.argv[1:] else check_all())
    failed = results.count(False)
    print(f"{results.count(True)} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
