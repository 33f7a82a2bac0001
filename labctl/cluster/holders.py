"""Who holds a lock, written down for people beside the lock.

Each holder keeps a small record and locks it: a record without a lock is one of a process that has ended,
however it ended. So nothing has to be known of process ids, which are used again, and which another
container cannot see. The lock itself does not need the records: one that cannot be written is missed only
by those who would like to know.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from labctl.cluster import lockfiles
from labctl.errors import LabctlError, shell_line

RECORD_MOST = 4096
"""Bytes of a record that are read."""
COMMAND_MOST = 300


@dataclass(frozen=True)
class Holder:
    """``how`` it holds the lock, in words that fit "labctl up c, ... it"; ``since`` is UTC in ISO 8601."""

    how: str
    pid: int
    user: str
    command: str
    since: str
    what: str = ""

    def __str__(self) -> str:
        doing = f" ({self.what})" if self.what else ""
        return f"process {self.pid} of {self.user}: {self.command}{doing}, {self.how} it since {self.since}"


class HolderRecord:
    """What this process has written about one lock of its own."""

    def __init__(self, holder: Holder, name: str, descriptor: int) -> None:
        self.holder = holder
        self._name = name
        self._descriptor = descriptor

    def remove(self) -> None:
        """Take it away."""
        with contextlib.suppress(OSError, LabctlError), lockfiles.directory(make=False) as within:
            if within is not None:
                os.unlink(self._name, dir_fd=within)
        os.close(self._descriptor)


def write(key: str, how: str, what: str) -> HolderRecord | None:
    """Say who holds a lock of ``key``; None where it cannot be said. What ended processes left is removed."""
    me = Holder(
        how, os.getpid(), user(), command_line()[:COMMAND_MOST],
        datetime.now(UTC).isoformat(timespec="seconds"), what,
    )  # fmt: skip
    token = secrets.token_hex(8)
    try:
        with lockfiles.directory(make=True) as within:
            assert within is not None
            _sweep(within, key)
            descriptor = lockfiles.create(within, f".{token}")
            try:
                lockfiles.take(descriptor, lockfiles.ALONE, 0)
                os.pwrite(descriptor, json.dumps(asdict(me)).encode(), 0)
                os.rename(f".{token}", f"{key}.{token}", src_dir_fd=within, dst_dir_fd=within)
            except OSError:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    os.unlink(f".{token}", dir_fd=within)
                return None
            return HolderRecord(me, f"{key}.{token}", descriptor)
    except (OSError, LabctlError):
        return None


def read(key: str) -> tuple[Holder, ...]:
    """Everybody who holds a lock of ``key`` now and says so, the first first. Takes and changes nothing."""
    found: list[Holder] = []
    with contextlib.suppress(OSError, LabctlError), lockfiles.directory(make=False) as within:
        for name in _names(within, key):
            descriptor = lockfiles.for_reading(within or 0, name)
            if descriptor is None:
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                if lockfiles.would_meet(descriptor, lockfiles.ALONE, 0):
                    found.append(_parsed(os.pread(descriptor, RECORD_MOST, 0)))
            os.close(descriptor)
    return tuple(sorted(found, key=lambda one: one.since))


def command_line() -> str:
    """This process's command, as a user would type it."""
    name = Path(sys.argv[0]).name
    return shell_line(["labctl" if name == "__main__.py" else name, *sys.argv[1:]])


def user() -> str:
    """Who this process belongs to, by name where it has one."""
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):
        return f"user {os.geteuid()}"


def _parsed(text: bytes) -> Holder:
    said = json.loads(text)
    texts = {key: str(said[key])[: COMMAND_MOST + 1] for key in ("how", "user", "command", "since", "what")}
    return Holder(pid=int(said["pid"]), **texts)


def _names(within: int | None, key: str) -> list[str]:
    return [] if within is None else [one for one in os.listdir(within) if one.startswith(f"{key}.")]


def _sweep(within: int, key: str) -> None:
    for name in _names(within, key):
        descriptor = lockfiles.for_reading(within, name)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                if not lockfiles.would_meet(descriptor, lockfiles.ALONE, 0):
                    os.unlink(name, dir_fd=within)
            os.close(descriptor)
