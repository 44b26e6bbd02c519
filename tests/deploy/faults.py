"""Faults for the self-test: one small change of a file, the rule that must notice, and its words."""

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

COPIED = (
    "Dockerfile", ".dockerignore", "Cargo.toml", "Cargo.lock", "LICENSE-MIT", "LICENSE-APACHE",
    "src", "config", "deploy",
)


@dataclass(frozen=True)
class Fault:
    rule: str
    file: str
    old: str
    new: str
    says: str

    def __str__(self):
        return f"{self.rule}: finds {self.new.strip() or 'the lack of ' + self.old.strip()!r}"

    @contextlib.contextmanager
    def seeded(self, root):
        """A copy of what ships with this fault in it."""
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory)
            for name in COPIED:
                source = root / name
                if source.is_dir():
                    shutil.copytree(source, copy / name)
                elif source.exists():
                    shutil.copy(source, copy / name)
            path = copy / self.file
            text = path.read_text()
            if self.old not in text:
                raise ValueError(f"{self.file} no longer says {self.old!r}")
            path.write_text(text.replace(self.old, self.new))
            yield copy


def faults_in(file, *rows):
    return [Fault(rule, file, old, new, says) for rule, old, new, says in rows]


DOCKERFILE = faults_in(
    "Dockerfile",
    ("Dockerfile: hadolint", "WORKDIR /src", "RUN cd /src", "DL3003"),
    ("Dockerfile: buildah 1.28", "COPY src src", "COPY --link src src", "COPY --link"),
    ("Dockerfile: buildah 1.28", "COPY src src", "RUN cat <<EOF\nEOF", "a heredoc"),
    ("Dockerfile: final stage", "FROM scratch", "FROM debian:bookworm-slim", "not scratch"),
    ("Dockerfile: final stage", "USER 65532:65532", "USER 0:0", "USER 0:0"),
    ("Dockerfile: final stage", 'ENTRYPOINT ["/wsgate"]', 'ENTRYPOINT ["/bin/wsgate"]', "exec form"),
    ("Dockerfile: final stage", '"healthcheck"]', '"version"]', "HEALTHCHECK"),
    ("Dockerfile: final stage", "EXPOSE 8443", "EXPOSE 443", "EXPOSE"),
    ("Dockerfile: context", "COPY src src", "COPY sources src", "no such path"),
    ("Dockerfile: context", "COPY src src", "COPY deploy src", "left out"),
)

COMPOSE = faults_in(
    "deploy/compose/compose.yaml",
    ("compose: schema", "stop_grace_period: 40s", "stop_grace: 40s", "stop_grace"),
    ("compose: config", "networks: [edge, backends]", "networks: [outside]", "outside"),
    ("compose: hardened", "read_only: true", "read_only: false", "writable"),
    ("compose: hardened", "cap_drop: [ALL]", "cap_drop: [CHOWN]", "capabilities"),
    ("compose: hardened", "no-new-privileges:true", "no-new-privileges:false", "no-new-privileges"),
    ("compose: hardened", "soft: 65536", "soft: 1024", "nofile"),
    ("compose: ports", "443:8443", "443:443", "does not listen there"),
    ("compose: ports", "127.0.0.1:9180:9180", "9180:9180", "beyond loopback"),
    ("compose: mounts", "./wsgate:/etc/wsgate:ro", "./wsgate/wsgate.yaml:/etc/wsgate/wsgate.yaml:ro",
     "not a directory"),
    ("compose: mounts", "- certs:/etc/wsgate-tls:ro", "- certs:/certs:ro", "no mounted directory"),
    ("compose: mounts", "- certs:/etc/wsgate-tls:ro", "- certs:/etc/wsgate-tls", "mounted writable"),
    ("compose: backends", "app3: {condition: service_healthy}", "app3: {condition: service_started}",
     "healthy app3"),
    ("compose: backends", "networks: [edge, backends]", "networks: [edge]", "no network"),
    ("compose: backends", "127.0.0.1:8080/health", "127.0.0.1:80/health", "does not ask port"),
    ("compose: periods", "stop_grace_period: 40s", "stop_grace_period: 20s", "stop_grace_period"),
) + faults_in(
    "deploy/compose/wsgate/wsgate.yaml",
    ("compose: ports", '"[::]:8080"', '"[::]:8088"', "nothing publishes it"),
    ("compose: backends", "app3:8080", "app4:8080", "no service"),
    ("compose: periods", "timeout: 30s", "timeout: 5m", "stop_grace_period"),
    ("wsgate.yaml: wsgate check", "http_redirect:", "http_redirct:", "http_redirect"),
    ("wsgate.yaml: schema", "http_redirect:", "http_redirct:", "http_redirct"),
) + faults_in(
    "deploy/compose/app/package.json",
    ("compose: pinned", '"8.', '"^8.', "not an exact version"),
)

KUBERNETES = faults_in(
    "deploy/kubernetes/sidecar.yaml",
    ("kubernetes: schema", "defaultMode: 288", 'defaultMode: "0440"', "defaultMode"),
    ("kubernetes: schema", "periodSeconds: 10", "periodSecond: 10", "periodSecond"),
    ("kubernetes: volumes", "{name: tls, mountPath", "{name: cert, mountPath", "is no volume"),
    ("kubernetes: volumes", "mountPath: /etc/wsgate-tls,",
     "mountPath: /etc/wsgate-tls, subPath: tls.key,", "never updated"),
    ("kubernetes: volumes", "{name: example-wsgate}", "{name: example-gate}", "no ConfigMap"),
    ("kubernetes: volumes", "secretName: example-tls", "secretName: other-tls", "no Secret"),
    ("kubernetes: volumes", "defaultMode: 288", "defaultMode: 420", "defaultMode"),
    ("kubernetes: files", "key: /etc/wsgate-tls/tls.key", "key: /etc/tls/tls.key", "no Secret"),
    ("kubernetes: files", "mountPath: /etc/wsgate,", "mountPath: /config,", "default file"),
    ("kubernetes: selectors", "selector: {app.kubernetes.io/name: example}",
     "selector: {app.kubernetes.io/name: other}", "Service"),
    ("kubernetes: selectors", "matchLabels: {app.kubernetes.io/name: example}",
     "matchLabels: {app: example}", "PodDisruptionBudget"),
    ("kubernetes: ports", 'https: "[::]:8443"', 'https: "[::]:443"', "containerPorts"),
    ("kubernetes: ports", "targetPort: 8443", "targetPort: https", "not a number"),
    ("kubernetes: ports", "externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster", "Local"),
    ("kubernetes: ports", '"127.0.0.1:3000"', '"127.0.0.1:8081"', "upstreams.servers"),
    ("kubernetes: probes", "{path: /readyz, port: 9180}", "{path: /livez, port: 9180}", "/readyz"),
    ("kubernetes: probes", 'listen: "0.0.0.0:9180"', 'listen: "0.0.0.0:9190"', "status.listen"),
    ("kubernetes: probes", "restartPolicy: Always", "", "no sidecar"),
    ("kubernetes: hardened", "readOnlyRootFilesystem: true", "", "writable"),
    ("kubernetes: hardened", "{drop: [ALL]}", "{drop: [ALL], add: [NET_BIND_SERVICE]}",
     "capabilities"),
    ("kubernetes: hardened", "runAsNonRoot: true", "", "65532"),
    ("kubernetes: hardened", "ghcr.io/example/app:1", "ghcr.io/example/app:latest", "fixed tag"),
    ("kubernetes: periods", "terminationGracePeriodSeconds: 90",
     "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds"),
    ("kubernetes: periods", "delay: 10s", "delay: 1s", "change of endpoints"),
    ("kubernetes: periods", "/drained?timeout=70", "/drained?timeout=50", "/drained"),
    ("kubernetes: periods", "/drained?timeout=70", "/readyz", "/drained"),
    ("kubernetes: hooks", "[/wsgate, drain, --wait]", "[/wsgate, drain]", "drain --wait"),
    ("kubernetes: hooks", '"/drained?timeout=70", port: 9180', '"/drained?timeout=70", port: 9181',
     "status.listen"),
    ("kubernetes: hooks", 'listen: "127.0.0.1:9181"', "listen: null", "nobody to ask"),
    ("wsgate.yaml: wsgate check", "trusted_proxies: []", "trusted_proxies: [everyone]", "ConfigMap"),
)

SYSTEMD = faults_in(
    "deploy/systemd/wsgate.service",
    ("systemd: verify", "Type=exec", "Type=exce", "exce"),
    ("systemd: exposure", "ProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\n",
     "User=root\n", "exposure level"),
    ("systemd: periods", "TimeoutStopSec=80s", "TimeoutStopSec=30s", "TimeoutStopSec"),
)

FAULTS = [*DOCKERFILE, *COMPOSE, *KUBERNETES, *SYSTEMD]
