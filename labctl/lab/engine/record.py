"""Which labs are proved, on record: for `labctl lab prove --changed`, and never for CI.

A record is a fingerprint of everything that a proof depends on: the lab's file and the modules beside it, the
engine, and the kind of cluster it was proved on. It is a help that may be deleted at any time; without it
a lab is proved again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import labctl
from labctl import files, paths
from labctl.cluster.running import RunningCluster
from labctl.errors import WriteFailed
from labctl.lab.engine.loader import LabFile, is_lab

ENGINE = ("lab", "probe", "cluster/absence", "waiting.py", "parallel.py", "kube.py")
"""The parts of labctl on which a verdict about a lab depends."""


def fingerprint(file: LabFile, cluster: RunningCluster, kubernetes: str) -> str:
    """A hash over all that the proof of this lab depends on."""
    found = hashlib.sha256()
    for part in (kubernetes, str(cluster.cni), str(cluster.load_balancer), str(len(cluster.nodes))):
        found.update(part.encode() + b"\0")
    for source in _sources(file):
        found.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return found.hexdigest()


def write(file: LabFile, mark: str) -> None:
    """Note that the lab is proved now; a record that cannot be written is none."""
    data = {"fingerprint": mark, "proved": datetime.now(UTC).isoformat(timespec="seconds")}
    with contextlib.suppress(WriteFailed, OSError):
        files.write(_path(file), json.dumps(data) + "\n")


def proved(file: LabFile, mark: str) -> str:
    """When the lab was proved as it is now (UTC, ISO 8601), or an empty text."""
    try:
        data = json.loads(_path(file).read_text("utf-8"))
        return str(data["proved"]) if data["fingerprint"] == mark else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _path(file: LabFile) -> Path:
    """One for each place: two folders may hold a lab of the same name."""
    place = hashlib.sha256(str(file.path.resolve()).encode()).hexdigest()[:12]
    return paths.state_root() / ".proofs" / f"{file.name}-{place}.json"


def _sources(file: LabFile) -> Iterator[Path]:
    yield file.path
    yield from sorted(one for one in file.path.parent.glob("*.py") if not is_lab(one))
    root = Path(labctl.__file__).parent
    for name in ENGINE:
        place = root / name
        yield from sorted(place.rglob("*.py")) if place.is_dir() else ([place] if place.exists() else [])
