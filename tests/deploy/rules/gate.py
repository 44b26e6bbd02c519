"""Every wsgate.yaml that ships, read by the gate itself. $WSGATE names the program."""

import re
import os
import tempfile
from pathlib import Path

from . import kubernetes
from .tools import Skipped, run


def program():
    path = os.environ.get("WSGATE")
    if not path:
        raise Skipped("WSGATE names no program")
    return Path(path).resolve()


def shipped(root):
    """(name, text) of each configuration in deploy/ and config/, the ConfigMap's included."""
    paths = sorted({*root.glob("deploy/**/wsgate.yaml"), *root.glob("config/**/*.yaml")})
    texts = [(str(path.relative_to(root)), path.read_text()) for path in paths]
    inside = kubernetes.embedded(kubernetes.Manifest(root))
    return [*texts, (f"{kubernetes.FILE} (ConfigMap)", inside)]


def each(root, judge):
    """Hands each configuration to `judge` as a file whose certificates exist."""
    found = []
    with tempfile.TemporaryDirectory() as directory:
        cert, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
        code, output = run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "30", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-out", cert, "-keyout", key,
        )
        if code != 0:
            return output.splitlines()
        for name, text in shipped(root):
            file = Path(directory, "wsgate.yaml")
            file.write_text(served_from(text, directory))
            code, output = judge(file)
            if code != 0:
                found.append(f"{name}: {output}")
    return found


def check(root):
    gate = program()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WSGATE")}
    return each(root, lambda file: run(gate, "check", "-c", file, env=clean))


def schema(root):
    with tempfile.TemporaryDirectory() as directory:
        code, output = run(program(), "config", "schema")
        if code != 0:
            return output.splitlines()
        file = Path(directory, "schema.json")
        file.write_text(output)
        return each(root, lambda config: run("check-jsonschema", "--schemafile", file, config))


RULES = {"wsgate.yaml: wsgate check": check, "wsgate.yaml: schema": schema}


def served_from(text, directory):
    """The same configuration with every certificate and key taken from `directory`."""
    for key, file in (("cert", "tls.crt"), ("key", "tls.key")):
        text = re.sub(rf"(\b{key}: *)/[^\s,}}]+", rf"\g<1>{directory}/{file}", text)
    return text
