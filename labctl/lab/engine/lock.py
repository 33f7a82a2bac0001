"""One lab command at a time on one cluster, from whatever shell and kubeconfig it is called."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from typing import Any

from labctl import paths
from labctl.cluster.lock import open_file
from labctl.errors import Conflict, WriteFailed, shell_line
from labctl.kube import Kube


@contextlib.contextmanager
def only_one(kube: Kube) -> Iterator[None]:
    """Hold the lock of the cluster; raises `Conflict` that names who holds it. It ends with the process.

    The cluster is known by the UID of its namespace kube-system, which no two clusters share.
    """
    with kube.translated("ask which cluster this is"):
        system: Any = kube.core.read_namespace(name="kube-system")
    file = paths.state_root() / ".locks" / f"lab-{system.metadata.uid}"
    try:
        handle = open_file(file)
    except OSError as refused:
        raise WriteFailed(
            f"the lock {file} cannot be made",
            why=refused.strerror or str(refused),
            next_step="set XDG_STATE_HOME to a directory that can be written",
        ) from refused
    with os.fdopen(handle, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as held:
            raise Conflict(
                "another labctl works with labs on this cluster",
                why=lock.read().strip() or "it does not say which",
                next_step="wait until it has ended, or end it",
            ) from held
        lock.truncate()
        lock.write(f"process {os.getpid()}: {shell_line(sys.argv)}\n")
        lock.flush()
        yield
        lock.seek(0)
        lock.truncate()
