"""What one bring-up has written down about itself, for the one who finds it interrupted.

The journal says which phase was reached, by which process, for which spec. It is a help, not the
truth: docker's labels are, and everything works without it. A journal that cannot be understood is
treated as absent, and kept beside as ``.corrupt`` by the one who writes the next; reading changes nothing.
One of a newer labctl is refused, not guessed at, and so is one that cannot be read for now.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from labctl import files, paths
from labctl.cluster.spec import ClusterSpec, from_json
from labctl.errors import StateUnusable

SCHEMA = 1
READY = "ready"
_OWNER = 64


@dataclass(frozen=True)
class Journal:
    """``phase`` is the step under way, or `READY`. ``seconds`` maps finished steps to their time.

    ``started`` is UTC in ISO 8601. ``containers`` are docker's ids of the nodes that this bring-up made.
    ``failed`` says why a bring-up failed whose cluster was kept to be looked at.
    """

    name: str
    owner: str
    phase: str
    spec: ClusterSpec
    pid: int
    command: str
    started: str
    containers: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def ready(self) -> bool:
        """Whether the bring-up came to its end."""
        return self.phase == READY

    def at(self, phase: str) -> Journal:
        """The same in another phase."""
        return replace(self, phase=phase)


def path(name: str) -> Path:
    """Where the journal of a cluster lies."""
    return paths.cluster_state(name) / "journal.json"


def write(journal: Journal) -> None:
    """Keep ``journal``; a former one that cannot be understood is set aside. Raises `WriteFailed`; the former
    one is intact then."""
    with contextlib.suppress(StateUnusable):
        if read(journal.name) is None:
            _set_aside(path(journal.name))
    data = {"schema": SCHEMA, **asdict(replace(journal, spec=ClusterSpec())), "spec": journal.spec.as_json()}
    files.write(path(journal.name), json.dumps(data, indent=2) + "\n")


def read(name: str) -> Journal | None:
    """The journal of a cluster, or None where there is none that can be used.

    Raises `StateUnusable` for one that a newer labctl wrote, or that cannot be read now.
    """
    place = path(name)
    try:
        text = place.read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, UnicodeDecodeError):
        return None
    except OSError as cause:  # too many open files, a disk's error: that says nothing about the journal
        raise _unreadable(place, cause) from cause
    try:
        data = json.loads(text)
        schema = data["schema"]
        if type(schema) is int and schema > SCHEMA:
            raise _newer(place, schema)
        if schema != SCHEMA:
            raise ValueError(f"schema {schema!r}")
        return _parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def delete_directory(name: str) -> None:
    """Delete the cluster's whole state directory: journal, kubeconfig and what else is kept about it.

    Raises OSError only where something stays.
    """
    directory = paths.cluster_state(name)
    if directory.is_symlink() or directory.is_file():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)


def _parse(data: Mapping[str, Any]) -> Journal:
    texts = {key: data[key] for key in ("name", "owner", "phase", "command", "started")}
    if not all(isinstance(one, str) for one in texts.values()) or len(texts["owner"]) > _OWNER:
        raise TypeError("not a text")
    containers = data["containers"]
    if not isinstance(containers, list) or not all(isinstance(one, str) for one in containers):
        raise TypeError("containers")
    if type(data["pid"]) is not int:
        raise TypeError("pid")
    seconds = {str(key): float(value) for key, value in data["seconds"].items()}
    return Journal(
        **texts,
        spec=from_json(data["spec"]),
        pid=data["pid"],
        containers=tuple(containers),
        seconds=seconds,
        failed=str(data.get("failed") or ""),
    )


def _set_aside(place: Path) -> None:
    kept = place.with_name(place.name + ".corrupt")
    with contextlib.suppress(OSError):
        if not place.exists():
            return
        if kept.is_dir() and not kept.is_symlink():
            shutil.rmtree(kept)
        os.replace(place, kept)


def _unreadable(place: Path, cause: OSError) -> StateUnusable:
    return StateUnusable(
        f"{place} cannot be read",
        why=cause.strerror or str(cause),
        next_step="correct that and run the command again; `labctl down` works without the file",
    )


def _newer(place: Path, schema: int) -> StateUnusable:
    return StateUnusable(
        f"{place} was written by a newer labctl",
        why=f"schema {schema}, this one knows {SCHEMA}",
        next_step="use that labctl; or delete the file: it is not needed to run `labctl down`",
    )
