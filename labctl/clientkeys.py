"""Where the Kubernetes client writes its keys: a private directory of each process, gone when that ends.

The client insists on files. What a killed process has left is removed by the next one; whose a directory is,
and whether it lives, is known by a lock: a pid says nothing to another pid namespace.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from labctl import files, paths

_KEYS: dict[Path, Path] = {}
"""Our directory of keys in each root."""


def directory() -> Path:
    """A private directory for the key files that the client insists on writing; gone when we leave.

    One per process, because the client remembers their paths for its whole life. Those of
    processes that were killed are removed here.
    """
    root = paths.state_root() / ".client-keys"

    def make() -> Path:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in root.iterdir():
            _remove_if_left(left)
        if root not in _KEYS or not _KEYS[root].is_dir():
            _KEYS[root] = _new_keys(root)
            atexit.register(_remove, _KEYS[root])
        return _KEYS[root]

    return files.despite_removal(make)


def _new_keys(root: Path) -> Path:
    """A directory that stays locked until its process has ended: a pid says nothing to another pid namespace."""
    token = secrets.token_hex(8)
    new = root / f".{token}"
    new.mkdir(mode=0o700)
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # where no locks are known, none is taken for left either
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Locked before it has a name by which others look for it.
    return new.rename(root / f"{os.getpid()}-{token}")


def _remove_if_left(keys: Path) -> None:
    """Remove another process's keys, unless it still holds them."""
    if keys.name.startswith(".") or keys in _KEYS.values():
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(keys, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(keys, ignore_errors=True)
        finally:
            os.close(descriptor)


def _remove(ours: Path) -> None:
    shutil.rmtree(ours, ignore_errors=True)
    with contextlib.suppress(OSError):
        ours.parent.rmdir()  # the last one out; another process's keys keep it
