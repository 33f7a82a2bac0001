"""Files that are there whole or not at all.

Everything that labctl keeps about a cluster is written here: to a temporary file in the same
directory, flushed to the disk, then renamed. Whatever fails on the way leaves the old file as it
was. Directories are private (0700), files too (0600).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from labctl.errors import WriteFailed


def write(path: Path, text: str) -> None:
    """Replace a file by ``text``. Raises `WriteFailed` that names the path; the old file is intact."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        private_directory(path.parent)
        try:
            _write_through(temporary, text.encode())
            os.replace(temporary, path)
            _flush_directory(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as cause:
        raise failed(path, cause) from cause


def private_directory(path: Path) -> Path:
    """Make ``path`` (0700) where it is missing and return it. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def failed(path: Path, cause: OSError) -> WriteFailed:
    """The error for a write to ``path`` that the system refused."""
    return WriteFailed(
        f"{path} could not be written",
        why=cause.strerror or str(cause),
        next_step="free space or correct the permissions; `labctl down` works without this file",
    )


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
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
