"""Locks between labctl processes of every user of one docker daemon.

A cluster has one lock that is held in two ways: `using` it (labs, `labctl ci`: many at once) or `changing` it
(`labctl up` that makes something, `down`: alone). Two finer ones are for labs: `labs`, where one that takes a
component away runs alone, and `instance`, because what two runs would both call by one name only one can have.
Looking (`changed_by`, `held_by`) takes nothing. Which files these are, and whom they trust, is
labctl.cluster.lockfiles' business.

The key of a cluster on this machine is its name; that of one known by its kubeconfig only is the UID of its
namespace kube-system, which no two clusters share.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType

from labctl import files
from labctl.cluster import holders, lockfiles
from labctl.cluster.holders import Holder, HolderRecord
from labctl.cluster.lockfiles import ALONE, SHARED
from labctl.errors import Conflict, DeadlineExceeded, LabctlError, UsageError, WriteFailed
from labctl.waiting import Deadline, NotYet, until

SAY_SECONDS = 1.0
"""A holder says who it is a moment after it has the lock; so long one who is refused looks for its name."""
LOOK_SECONDS = 0.05
GLOBAL_SECONDS = 120.0
"""How long to wait for the global lock: another bring-up holds it until the docker network exists."""

EVERYTHING = "_all"
_KEY = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,62})|_all")

_CLUSTER, _LABS, _GATE, _INSTANCES = 0, 1, 2, 1 << 20
"""The bytes of a cluster's file that stand for its locks; instances follow, by their names' digests."""

NO_LOCK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOLCK, errno.ENOSYS})
"""What a file system says that cannot lock, or cannot make the file: no reason not to delete a cluster."""

OnWait = Callable[[str], None]


@dataclass(frozen=True)
class _Lock:
    """A lock of ``key``: the byte, how it is taken, and the words for both."""

    key: str
    at: int
    kind: int
    how: str
    what: str = ""
    refused: str = ""

    def meets(self, other: Holder) -> bool:
        """Whether a holder's word is of this lock."""
        words = {_CLUSTER: ("using", "changing"), _LABS: (LABS, ALONE_LABS), _GATE: (LABS, ALONE_LABS)}
        return other.how in words.get(self.at, (self.how,))


LABS, ALONE_LABS = "running a lab on", "running a lab alone on"


class Hold:
    """A lock that this process has, until `release` or the end of a ``with``; any thread may let go of it."""

    def __init__(self, lock: _Lock, descriptor: int | None) -> None:
        self._lock = lock
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._record: HolderRecord | None = None
        self._say()

    def release(self) -> None:
        """Let go; a second time is no error."""
        with self._guard:
            self._unsay()
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)  # with its last descriptor the lock ends

    def share(self) -> None:
        """From `changing` to `using`, with no moment between in which another could change the cluster."""
        self._turn(SHARED, "using")

    def alone(self) -> None:
        """From `using` to `changing`, without letting go. Raises `Conflict` when others use it: then it is
        `using` as before."""
        self._turn(ALONE, "changing")

    def _turn(self, kind: int, how: str) -> None:
        if self._descriptor is None or self._lock.kind == kind:
            return
        wanted = replace(self._lock, kind=kind, how=how)
        if not lockfiles.take(self._descriptor, kind, self._lock.at):
            mine = self._record.holder if self._record else None
            raise _refusal(wanted, [one for one in _held_by(wanted) if one != mine])
        with self._guard:
            former, self._lock = self._record, wanted
            self._say()  # before the former word is taken away: who looks meanwhile must read a name
            if former is not None:
                former.remove()

    def _say(self) -> None:
        if self._descriptor is not None and self._lock.at != _GATE:
            self._record = holders.write(self._lock.key, self._lock.how, self._lock.what)

    def _unsay(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            record.remove()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()


def using(key: str, *, what: str = "") -> Hold:
    """Hold a cluster so that it is not changed; others may use it too. ``what`` is said to who asks.

    Raises `Conflict` that names who changes it now; `WriteFailed`, `HostError` where no lock can be had.
    """
    return _hold(_Lock(key, _CLUSTER, SHARED, "using", what))


def changing(key: str, *, optional: bool = False, what: str = "") -> Hold:
    """Hold a cluster alone. Raises `Conflict` that names who has it; otherwise as `using`.

    With ``optional`` a full disk, or a file system that knows no locks, is no reason to fail: then nothing is held.
    """
    wanted = _Lock(key, _CLUSTER, ALONE, "changing", what)
    try:
        return _hold(wanted)
    except WriteFailed as failed:
        cause = failed.__cause__
        if optional and isinstance(cause, OSError) and cause.errno in NO_LOCK:
            return Hold(wanted, None)
        raise


def labs(
    key: str,
    alone: bool,
    wait: float,
    on_wait: OnWait | None = None,
    *,
    what: str = "",
) -> Hold:
    """Hold a cluster for one lab: beside others, or ``alone`` among all labs, those of other shells too.

    Waits up to ``wait`` seconds, telling ``on_wait`` for whom; then raises `Conflict`. An interrupt ends the wait,
    in a thread `labctl.waiting.cancellable`. One that waits to be alone lets no new lab in before it.
    """
    how = ALONE_LABS if alone else LABS
    kind = ALONE if alone else SHARED
    refused = "a lab that takes something away runs alone" if alone else "a lab runs that must be alone"
    wanted = _Lock(key, _LABS, kind, how, what, refused)
    patience = Deadline(wait)
    with _hold(replace(wanted, at=_GATE), wait, on_wait):
        return _hold(wanted, patience.left(), on_wait)


def instance(
    key: str,
    name: str,
    *,
    what: str = "",
    wait: float = 0.0,
    on_wait: OnWait | None = None,
) -> Hold:
    """Hold what only one run can have: the namespaces of ``lab12-x7``, the proof, a run of `labctl ci`.

    Raises `Conflict` that names who has it, after ``wait`` seconds.
    """
    at = _INSTANCES + int.from_bytes(hashlib.sha256(name.encode()).digest()[:6])
    refused = f"{what or name} is another labctl's now"
    return _hold(_Lock(key, at, ALONE, f"having {name} of", what, refused), wait, on_wait)


def everything() -> Hold:
    """Hold the daemon's one lock, waiting for it. Raises `Conflict` when it is not to be had in time."""
    refused = "another labctl makes the docker network"
    return _hold(_Lock(EVERYTHING, _CLUSTER, ALONE, "changing", refused=refused), GLOBAL_SECONDS)


def changed_by(key: str) -> str | None:
    """Who changes the cluster now, in words; None when nobody does. Takes nothing, changes no file."""
    wanted = _Lock(key, _CLUSTER, SHARED, "using")
    return _who(_held_by(wanted)) if _is_held(wanted) else None


def held_by(key: str) -> tuple[Holder, ...]:
    """Everybody who uses or changes the cluster now and says so. Takes nothing, changes no file."""
    return tuple(_held_by(_Lock(key, _CLUSTER, ALONE, "changing")))


def instance_is_held(key: str, name: str) -> bool:
    """Whether somebody has that instance now. Takes nothing, changes no file."""
    at = _INSTANCES + int.from_bytes(hashlib.sha256(name.encode()).digest()[:6])
    return _is_held(_Lock(key, at, ALONE, ""))


# --- mechanics


def _hold(lock: _Lock, wait: float = 0.0, on_wait: OnWait | None = None) -> Hold:
    if not _KEY.fullmatch(lock.key):
        raise UsageError(f"{lock.key!r} is no cluster's name", next_step="`labctl ls` lists the clusters")

    def probe() -> int:
        descriptor = _try(lock)
        if descriptor is not None:
            return descriptor
        who = _held_by(lock)
        if who and not wait:
            raise _refusal(lock, who)
        raise NotYet(_who(who))

    try:
        descriptor = until(
            probe, what="a lock", within=max(wait, SAY_SECONDS), every=LOOK_SECONDS, on_wait=on_wait
        )
    except DeadlineExceeded as over:
        raise _refusal(lock, _held_by(lock)) from over
    return Hold(lock, descriptor)


def _try(lock: _Lock) -> int | None:
    """A locked descriptor of the file that has the name now, or None when another has a lock in the way."""
    while True:
        try:
            descriptor = lockfiles.lock_file(lock.key)
            with contextlib.ExitStack() as undo:
                undo.callback(os.close, descriptor)
                if not lockfiles.take(descriptor, lock.kind, lock.at):
                    return None
                if lockfiles.is_there(descriptor, lock.key):
                    undo.pop_all()
                    return descriptor
        except OSError as cause:
            place = lockfiles.place().path / lock.key
            raise files.failed(place, cause, "free space or correct the permissions") from cause


def _is_held(lock: _Lock) -> bool:
    """Whether a lock of its kind would be refused."""
    if not _KEY.fullmatch(lock.key):
        return False
    with contextlib.suppress(OSError, LabctlError), lockfiles.directory(make=False) as within:
        descriptor = None if within is None else lockfiles.for_reading(within, lock.key)
        if descriptor is not None:
            try:
                return lockfiles.would_meet(descriptor, lock.kind, lock.at)
            finally:
                os.close(descriptor)
    return False


def _held_by(lock: _Lock) -> list[Holder]:
    return [one for one in holders.read(lock.key) if lock.meets(one)]


def _who(found: list[Holder]) -> str:
    return "; ".join(map(str, found)) or "its process does not say who it is"


def _refusal(lock: _Lock, found: list[Holder]) -> Conflict:
    others_use = lock.at == _CLUSTER and bool(found) and all(one.how == "using" for one in found)
    usual = f"cluster {lock.key} is in use" if others_use else f"another labctl works on cluster {lock.key}"
    return Conflict(
        lock.refused or usual,
        why=_who(found),
        next_step="wait until it has ended, or interrupt it",
    )
