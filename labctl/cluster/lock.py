"""Locks between labctl processes: one per cluster name, and a short global one.

The kernel's flock is what locks: it ends with its process, however that ends. Who holds it is
written beside it for people, and may be missing. A lock file is removed by its last holder,
so the state directory can be empty afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from labctl import files, paths
from labctl.errors import Conflict, DeadlineExceeded, WriteFailed, shell_line
from labctl.waiting import NotYet, until

SAY_SECONDS = 1.0
GLOBAL_SECONDS = 120.0
"""How long to wait for the global lock: another bring-up holds it until the docker network exists."""


@contextlib.contextmanager
def cluster(name: str, *, optional: bool = False) -> Iterator[None]:
    """Hold the lock of a cluster name, or raise `Conflict` at once that names its holder.

    With ``optional`` a lock file that cannot be written (a full disk) is no reason to fail.
    """
    try:
        descriptor = _try(_path(name))
    except WriteFailed:
        if not optional:
            raise
        yield
        return
    if descriptor is None:
        raise Conflict(
            f"another labctl works on cluster {name}",
            why=holder(name),
            next_step="wait until it has ended, or interrupt it",
        )
    with _held(descriptor, _path(name)):
        yield


@contextlib.contextmanager
def everything() -> Iterator[None]:
    """Hold the global lock, waiting for it. Raises `DeadlineExceeded` with its holder as last observation."""
    name = ".global"

    def probe() -> int:
        descriptor = _try(_path(name))
        if descriptor is None:
            raise NotYet(f"held by {holder(name)}")
        return descriptor

    descriptor = until(probe, what="labctl's global lock", within=GLOBAL_SECONDS, every=0.1)
    with _held(descriptor, _path(name)):
        yield


def held(name: str) -> bool:
    """Whether some process works on the cluster now."""
    path = _path(name)
    if not path.exists():
        return False
    try:
        descriptor = _try(path)
    except WriteFailed:
        return False
    if descriptor is None:
        return True
    with _held(descriptor, path):
        return False


def holder(name: str) -> str:
    """Who holds a lock, for people: "process 12: labctl up c1".

    A process says so a moment after it has the lock, so an empty file is looked at again.
    """

    def look() -> str:
        try:
            said = json.loads(_path(name).read_text("utf-8"))
            return f"process {int(said['pid'])}: {said['command']}"
        except (OSError, ValueError, KeyError, TypeError) as unreadable:
            raise NotYet(str(unreadable)) from unreadable

    with contextlib.suppress(DeadlineExceeded):
        return until(look, what="the holder of the lock says who it is", within=SAY_SECONDS, every=0.02)
    return "its process is unknown"


def command_line() -> str:
    """This process's command, as a user would type it."""
    name = Path(sys.argv[0]).name
    return shell_line(["labctl" if name == "__main__.py" else name, *sys.argv[1:]])


def open_file(path: Path) -> int:
    """A descriptor of the lock file at ``path``, made with its directory where missing. Raises OSError."""

    def make() -> int:
        files.private_directory(path.parent)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    return files.despite_removal(make)


def _path(name: str) -> Path:
    return paths.state_root() / ".locks" / f"{name}.lock"


def _try(path: Path) -> int | None:
    """A locked descriptor of the file that is at ``path`` now, or None when another process has it."""
    while True:
        try:
            descriptor = open_file(path)
        except OSError as cause:
            raise files.failed(path, cause) from cause
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its former holder removed the file between our open and our lock


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


@contextlib.contextmanager
def _held(descriptor: int, path: Path) -> Iterator[None]:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "command": command_line()}).encode(), 0)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
