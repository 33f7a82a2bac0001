"""Files that are there whole or not at all.

Everything that labctl keeps, installs or reports is written here: to a temporary file in the same
directory, flushed to the disk, then renamed. Whatever fails on the way leaves the old file as it
was.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from labctl.errors import WriteFailed

T = TypeVar("T")

PRIVATE = 0o600

TRIES = 10
"""For a directory that others remove; each try is lost only to a process that leaves at that very moment."""

FREE_SPACE = "free space or correct the permissions; `labctl down` works without this file"
"""What to do about a file of a cluster's state."""


def write(path: Path, content: str | bytes, *, mode: int = PRIVATE, next_step: str = FREE_SPACE) -> None:
    """Replace a file by ``content``, with ``mode`` less the umask; a private file gets a private directory.

    Raises `WriteFailed` that names the path and says ``next_step``; the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if mode == PRIVATE:
            private_directory(path.parent)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_through(temporary, content.encode() if isinstance(content, str) else content, mode)
            os.replace(temporary, path)
            _flush_directory(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as cause:
        raise failed(path, cause, next_step) from cause


def private_directory(path: Path) -> Path:
    """Make ``path`` (0700) where it is missing and return it. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def despite_removal(make: Callable[[], T]) -> T:
    """What ``make`` returns, which makes a directory and uses it, though the last process to leave removes it.

    Raises what the last of `TRIES` raises.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            return make()
    return make()


def failed(path: Path, cause: OSError, next_step: str = FREE_SPACE) -> WriteFailed:
    """The error for a write to ``path`` that the system refused."""
    return WriteFailed(
        f"{path} could not be written",
        why=cause.strerror or str(cause),
        next_step=next_step,
    )


def _write_through(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _flush_directory(path: Path) -> None:
    """So that the rename outlives a power cut; not every file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
