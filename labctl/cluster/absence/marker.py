"""The marker of one absence: all that is needed to pay it back, and who took it.

It holds plain data only, so that it reads the same from a file on this machine and from a file on a
node. Where it is kept is labctl.cluster.absence.store's business, how it is paid back labctl.cluster.absence.taking's.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = 1

_AFTER_NAME = 19
"""Index of the start time among the fields of /proc/PID/stat that follow the program's name (proc(5): field 22)."""


@dataclass(frozen=True)
class Process:
    """One process of one machine. A pid alone is given to another process sooner or later.

    ``started`` is the kernel's start time in clock ticks since boot, ``space`` its pid namespace; both
    are '' where the system has no /proc.
    """

    pid: int
    started: str
    boot: str
    space: str
    host: str

    @classmethod
    def own(cls) -> Process:
        """This process."""
        return cls(os.getpid(), _started(os.getpid()), _boot(), _space(), socket.gethostname())

    def runs(self) -> bool | None:
        """Whether it still runs; None where that cannot be told from here (another machine or pid namespace)."""
        if self.host != socket.gethostname():
            return None
        if self.boot != _boot():
            return False
        if self.space != _space():
            return None
        return _started(self.pid) == self.started if self.started else _is_there(self.pid)


@dataclass(frozen=True)
class Marker:
    """``kind``, ``thing``, ``nodes`` and ``namespace`` say what was taken away, ``before`` how it was.

    ``plane`` is docker's id of the control plane's container: a marker of a former cluster of the same name
    has another one. ``by`` is the lab's instance, ``since`` is UTC in ISO 8601.
    """

    id: str
    cluster: str
    plane: str
    kind: str
    thing: str
    nodes: tuple[str, ...]
    namespace: str
    before: Mapping[str, Any]
    process: Process
    by: str = ""
    since: str = ""
    title: str = field(default="", compare=False)

    def as_json(self) -> str:
        """One line."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True)

    @property
    def stale(self) -> bool:
        """Whether the process that took it is surely gone."""
        return self.process.runs() is False

    def __str__(self) -> str:
        state = {True: "runs", False: "is gone", None: "is not of this machine"}[self.process.runs()]
        lab = f" for {self.by}" if self.by else ""
        return (
            f"taken away: {self.title}, by process {self.process.pid} that {state}{lab}, since {self.since}"
        )

    @property
    def next_step(self) -> str:
        """What puts it back."""
        return f"`labctl heal {self.cluster}` puts it back"


def new_id() -> str:
    """A random id, fit for a file name."""
    return secrets.token_hex(4)


def now() -> str:
    """The time as a marker carries it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parse(text: str) -> Marker | None:
    """The marker in a line of JSON, or None for anything else: a marker is whole before anything is taken."""
    try:
        data = json.loads(text)
        if data.pop("schema") != SCHEMA:
            return None
        process = Process(**data.pop("process"))
        return Marker(**{**data, "nodes": tuple(data["nodes"]), "process": process})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _started(pid: int) -> str:
    """The start time of a process, '' when there is no such process or no /proc."""
    with contextlib.suppress(OSError, IndexError):
        # The program's name stands in parentheses and may hold spaces and parentheses itself.
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[_AFTER_NAME]
    return ""


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""


def _space() -> str:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
