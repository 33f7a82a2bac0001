"""Files that are there whole or not at all.

Everything that labctl keeps, installs or reports is written here: to a temporary file in the same
directory, flushed to the disk, then renamed. Whatever fails on the way leaves the old file as it
was.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
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
    with _refusal_of(path, next_step):
        if mode == PRIVATE:
            private_directory(path.parent)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content, mode)


def install(path: Path, content: str | bytes, *, mode: int, next_step: str) -> None:
    """As `write`, for what every user of the machine shall read: exactly ``mode``, whatever the umask.

    Missing directories are made with 0755.
    """
    with _refusal_of(path, next_step):
        for missing in reversed([one for one in path.parents if not one.exists()]):
            missing.mkdir(exist_ok=True)
            missing.chmod(0o755)
        _replace(path, content, mode, exactly=True)


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


@contextlib.contextmanager
def _refusal_of(path: Path, next_step: str) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise failed(path, cause, next_step) from cause


def _replace(path: Path, content: str | bytes, mode: int, *, exactly: bool = False) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write_through(temporary, content.encode() if isinstance(content, str) else content, mode, exactly)
        os.replace(temporary, path)
        _flush_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes, mode: int, exactly: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        if exactly:
            os.fchmod(descriptor, mode)
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
