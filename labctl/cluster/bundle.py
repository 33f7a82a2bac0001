"""What is kept of a cluster that failed, taken before it is deleted.

A directory that explains itself to somebody who was not there: the reason, kind's exported logs, what
kubectl shows, docker's view, labctl's journal. Secrets have no place in it: no Secret is
read, and nothing has the bundle's name before every file was searched (labctl.cluster.cleaning). Until then it
lies beside it under a name that begins with a dot.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labctl import files, kubewords, paths
from labctl.cluster import cleaning, journal, redaction
from labctl.cluster.mark import KIND_CLUSTER, KIND_ROLE
from labctl.errors import CommandFailed, InfrastructureError, LabctlError
from labctl.tools.docker import Container, Docker
from labctl.tools.kind import Kind
from labctl.tools.kubectl import NodeKubectl

SECONDS_MOST = 60.0
"""A bundle that takes longer is handed over as it is."""
ABANDONED_SECONDS = 3600.0
UNFINISHED = ".collecting"
BUNDLES_MOST = 100
"""Of one cluster in one second."""
PODS_MOST = 100
"""Pods that are not ready and are described."""
NAME_MOST = 200
"""Characters of a file's name here; a namespace and a pod's name may have 317, and the system allows 255."""
LAST_LINES = 12

KUBECTL = {
    "nodes.txt": ["get", "nodes", "--output=wide"],
    "pods.txt": ["get", "pods", "--all-namespaces", "--output=wide"],
    "workloads.txt": ["get", "daemonsets,deployments,services", "--all-namespaces", "--output=wide"],
    "events.txt": ["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
    "describe-nodes.txt": ["describe", "nodes"],
}


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
        _forget_abandoned(into.parent)
        work = files.private_directory(_unfinished(into))
    except OSError as cause:
        raise files.failed(into, cause) from cause
    try:
        try:
            _write(work / "reason.txt", reason)
            _write(work / "trace.txt", "\n".join(trace))
            _write(work / "missing.txt", "\n".join(_taken(name, work, docker, kind)))
        except BaseException:  # an interrupt above all: what is there by then may explain it
            with contextlib.suppress(OSError):
                _handed_over(work, into)
            raise
        return _handed_over(work, into)
    except OSError as cause:
        raise files.failed(into, cause) from cause
    finally:
        shutil.rmtree(work, ignore_errors=True)  # nothing of it, once handed over


def _taken(name: str, work: Path, docker: Docker, kind: Kind) -> list[str]:
    """Collect every part; returns what could not be had, and why."""
    missing: list[str] = []
    started = time.monotonic()
    for title, take in _parts(name, work, docker, kind, started + SECONDS_MOST):
        if time.monotonic() > started + SECONDS_MOST:
            missing.append(f"{title}: no time left")
            continue
        try:
            take()
        except (LabctlError, OSError, ValueError, LookupError, TypeError, AttributeError) as failed:
            # The last four: an answer that is not what its program usually says.
            missing.append(f"{title}: {failed}")
    return missing


def _handed_over(work: Path, into: Path) -> Path:
    """Clean a collected bundle and give it its name, or the next free one."""
    if deleted := cleaning.clean(work):
        _write(work / "deleted.txt", redaction.scrubbed("\n".join(deleted)))
        (work / "deleted.txt").chmod(files.PRIVATE)
    taken = 0
    while True:
        place = into.with_name(f"{into.name}-{taken + 1}") if taken else into
        try:
            os.rename(work, place)  # replaces no directory with anything in it
        except OSError as refused:
            taken += 1
            if refused.errno not in (errno.ENOTEMPTY, errno.EEXIST) or taken > BUNDLES_MOST:
                raise
            continue
        return place


def _unfinished(into: Path) -> Path:
    return into.with_name(f".{into.name}.{secrets.token_hex(4)}{UNFINISHED}")


def _forget_abandoned(directory: Path) -> None:
    """Delete what runs that were killed while they collected have left, uncleaned."""
    for one in directory.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - one.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(one, ignore_errors=True)


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
                    parts.append(f"{title} on {one.name}, last lines:\n{redaction.scrubbed(said)}")
    return "\n".join(parts)


def _parts(
    name: str, place: Path, docker: Docker, kind: Kind, deadline: float
) -> list[tuple[str, Callable[[], None]]]:
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
        parts.append(("not-ready pods", lambda: _not_ready(kubectl, place, deadline)))
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


def _not_ready(kubectl: NodeKubectl, place: Path, deadline: float) -> None:
    """Description and logs of every pod that is not ready, as long as there is time."""
    done = kubectl.run(
        ["get", "pods", "--all-namespaces", "--output=json", "--request-timeout=10s"], timeout=20
    )
    pods = [one for one in json.loads(done.stdout)["items"] if _unwell(one)]
    for number, pod in enumerate(pods):
        if number >= PODS_MOST or time.monotonic() > deadline:
            raise InfrastructureError(f"{len(pods) - number} of {len(pods)} were left out")
        space, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for end, argv in {
            ".txt": ["describe", "pod", name],
            ".log": ["logs", name, "--all-containers", "--tail=200", "--ignore-errors"],
        }.items():
            with contextlib.suppress(CommandFailed):
                file = place / "not-ready" / (_file_name(f"{space}.{name}") + end)
                _ask(kubectl, [*argv, f"--namespace={space}"], file)()


def _unwell(pod: Mapping[str, Any]) -> bool:
    return not kubewords.is_ready(pod) and pod.get("status", {}).get("phase") != "Succeeded"


def _file_name(name: str) -> str:
    """``name`` where it can be a file's, else its beginning with a hash of the whole."""
    flat = name.replace("/", "_").replace("\0", "_")
    if len(flat.encode("utf-8", "replace")) <= NAME_MOST:
        return flat
    return f"{flat[: NAME_MOST // 4]}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:12]}"


def _kind_logs(kind: Kind, name: str, place: Path) -> None:
    done = kind.export_logs(name, place / "kind")
    if not done.ok:
        raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)


def _write(path: Path, text: str) -> None:
    if text.strip():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(text.rstrip("\n") + "\n", "utf-8", "replace")
