"""What is kept of a cluster that failed, taken before it is deleted.

A directory that explains itself to somebody who was not there: the reason, kind's exported logs, what
kubectl shows, docker's view, labctl's journal. Secrets have no place in it: no Secret is
read, and every file is searched for keys, tokens and kubeconfigs before the bundle is handed over.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from labctl import files, kubewords, paths
from labctl.cluster import journal
from labctl.cluster.mark import KIND_CLUSTER, KIND_ROLE
from labctl.errors import CommandFailed, LabctlError
from labctl.tools.docker import Container, Docker
from labctl.tools.kind import Kind
from labctl.tools.kubectl import NodeKubectl

SECONDS_MOST = 60.0
"""A bundle that takes longer is handed over as it is."""
TEXT_MOST = 16 * 1024 * 1024
LAST_LINES = 12

KUBECTL = {
    "nodes.txt": ["get", "nodes", "--output=wide"],
    "pods.txt": ["get", "pods", "--all-namespaces", "--output=wide"],
    "workloads.txt": ["get", "daemonsets,deployments,services", "--all-namespaces", "--output=wide"],
    "events.txt": ["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
    "describe-nodes.txt": ["describe", "nodes"],
}

_SECRET = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b"),
    re.compile(r"((?:client-key-data|client-certificate-data|certificate-authority-data)\W{1,4})[A-Za-z0-9+/=]{16,}"),
    re.compile(r"(?i)((?:certificate-key|password|passwd|secret[-_]?key|api[-_]?key|bearer|token)[\"']?\s*[:= ]\s*"
               r"[\"']?)(?=[A-Za-z0-9+/_.=-]*[0-9])[A-Za-z0-9+/_.=-]{16,}"),
)  # fmt: skip
_GONE = "[removed by labctl]"


def collect(
    name: str,
    reason: str,
    directory: Path | None = None,
    *,
    docker: Docker | None = None,
    kind: Kind | None = None,
    trace: Sequence[str] = (),
) -> Path:
    """Collect a bundle about the cluster ``name`` and return its directory.

    ``directory`` is made (default: `place`); ``trace`` are lines of labctl's own. What cannot be
    collected is named in ``missing.txt``; only a directory that cannot be written raises, `WriteFailed`.
    """
    docker, kind = docker or Docker(), kind or Kind()
    into = directory or place(name)
    try:
        files.private_directory(into)
    except OSError as cause:
        raise files.failed(into, cause) from cause
    _write(into / "reason.txt", reason)
    _write(into / "trace.txt", "\n".join(trace))
    missing: list[str] = []
    started = time.monotonic()
    try:
        for title, take in _parts(name, into, docker, kind):
            if time.monotonic() - started > SECONDS_MOST:
                missing.append(f"{title}: no time left")
                continue
            try:
                take()
            except (LabctlError, OSError) as failed:
                missing.append(f"{title}: {failed}")
        _write(into / "missing.txt", "\n".join(missing))
    finally:
        scrub(into)  # also after an interrupt: what is there may be handed on
    return into


def place(name: str, under: Path | None = None) -> Path:
    """Where a bundle about the cluster ``name`` goes that is taken now, ``under`` or among labctl's state.

    Not in the cluster's own directory: `labctl down` deletes that, and evidence outlives its cluster. The
    default's name begins with a dot, so that it can be no cluster's.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return (under or paths.state_root() / ".bundles") / f"{paths.cluster_name(name)}-{stamp}"


def last_words(name: str, docker: Docker) -> str:
    """The last lines of the control plane's kubelet and API server; '' when nothing can be had."""
    parts = []
    for one in _planes(docker.containers({KIND_CLUSTER: name}))[:1]:
        shell = (
            "id=$(crictl ps --all --quiet --name kube-apiserver | head -n 1);"
            f' [ -n "$id" ] && crictl logs --tail={LAST_LINES} "$id" 2>&1'
        )
        asked = {
            "kubelet": [
                "journalctl",
                "--unit=kubelet",
                "--no-pager",
                f"--lines={LAST_LINES}",
                "--output=cat",
            ],
            "kube-apiserver": ["sh", "-c", shell],
        }
        for title, argv in asked.items():
            with contextlib.suppress(LabctlError):
                said = docker.exec(one.name, argv, timeout=10, check=False).stdout.strip()
                if said:
                    parts.append(f"{title} on {one.name}, last lines:\n{scrubbed(said)}")
    return "\n".join(parts)


def scrub(directory: Path) -> None:
    """Take keys, tokens and kubeconfigs out of every file; a file that cannot be searched is deleted."""
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or path.name in {"kubeconfig", "admin.conf"} or path.suffix in {".key", ".pem"}:
            path.unlink(missing_ok=True)
        elif path.is_file():
            try:
                if path.stat().st_size > TEXT_MOST:
                    _keep_end(path)
                text = path.read_bytes().decode("utf-8", "replace")
                clean = scrubbed(text)
                if clean != text:
                    path.write_text(clean, "utf-8")
            except OSError:
                path.unlink(missing_ok=True)


def scrubbed(text: str) -> str:
    """``text`` without what looks like a key, a token or a password."""
    for pattern in _SECRET:
        text = pattern.sub(lambda found: (found.group(1) if found.re.groups else "") + _GONE, text)
    return text


def _parts(name: str, place: Path, docker: Docker, kind: Kind) -> list[tuple[str, Callable[[], None]]]:
    containers: list[Container] = []
    with contextlib.suppress(LabctlError):
        containers = docker.containers({KIND_CLUSTER: name})
    planes = [one for one in _planes(containers) if one.state == "running"]
    parts: list[tuple[str, Callable[[], None]]] = [
        ("journal", lambda: _journal(name, place)),
        ("docker", lambda: _docker(containers, place, docker)),
    ]
    if planes:
        kubectl = NodeKubectl(docker, planes[0].name)
        parts += [(file, _ask(kubectl, argv, place / file)) for file, argv in KUBECTL.items()]
        parts.append(("not-ready pods", lambda: _not_ready(kubectl, place)))
    if containers:
        parts.append(("kind's logs", lambda: _kind_logs(kind, name, place)))
    return parts


def _planes(containers: Sequence[Container]) -> list[Container]:
    return [one for one in containers if one.labels.get(KIND_ROLE) == "control-plane"]


def _journal(name: str, place: Path) -> None:
    if journal.path(name).is_file():
        _write(place / "journal.json", journal.path(name).read_text("utf-8", "replace"))


def _docker(containers: Sequence[Container], place: Path, docker: Docker) -> None:
    lines = [f"{one.name}\t{one.state}\t{one.image}\t{one.id[:12]}" for one in containers]
    _write(place / "containers.txt", "\n".join(lines))
    if containers:
        described = docker.inspect(*(one.id for one in containers))
        _write(place / "containers.json", json.dumps(described, indent=1))


def _ask(kubectl: NodeKubectl, argv: Sequence[str], file: Path) -> Callable[[], None]:
    def take() -> None:
        done = kubectl.run([*argv, "--request-timeout=10s"], timeout=20, check=False)
        _write(file, done.stdout + done.stderr)

    return take


def _not_ready(kubectl: NodeKubectl, place: Path) -> None:
    """Description and logs of every pod that is not ready."""
    done = kubectl.run(
        ["get", "pods", "--all-namespaces", "--output=json", "--request-timeout=10s"], timeout=20
    )
    for pod in json.loads(done.stdout)["items"]:
        if kubewords.is_ready(pod) or pod.get("status", {}).get("phase") == "Succeeded":
            continue
        space, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for file, argv in {
            f"{space}.{name}.txt": ["describe", "pod", name],
            f"{space}.{name}.log": ["logs", name, "--all-containers", "--tail=200", "--ignore-errors"],
        }.items():
            with contextlib.suppress(CommandFailed):
                _ask(kubectl, [*argv, f"--namespace={space}"], place / "not-ready" / file)()


def _kind_logs(kind: Kind, name: str, place: Path) -> None:
    done = kind.export_logs(name, place / "kind")
    if not done.ok:
        raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)


def _write(path: Path, text: str) -> None:
    if text.strip():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(scrubbed(text.rstrip("\n") + "\n"), "utf-8")


def _keep_end(path: Path) -> None:
    with path.open("rb") as source:
        source.seek(-TEXT_MOST, 2)
        end = source.read()
    path.write_bytes(b"[beginning left out]\n" + end)
