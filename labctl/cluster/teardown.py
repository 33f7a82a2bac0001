"""Deleting a cluster, and making sure that nothing of it comes back.

What is ours is decided by the owner's mark on each container, never by a name alone. Containers can
appear after the program that ordered them was ended, so the list is looked at until it stays
empty. Deleting needs none of labctl's files: they are removed last, and may be gone already.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labctl import paths
from labctl.cluster import journal, lock, mark, shared
from labctl.cluster.lock import Hold
from labctl.cluster.mark import KIND_CLUSTER, KIND_ROLE, Mark
from labctl.cluster.running import LOAD_BALANCER_ROLE
from labctl.errors import (
    CleanupIncomplete,
    Conflict,
    Interrupted,
    LabctlError,
    StateUnusable,
    signal_number,
)
from labctl.progress import Progress
from labctl.tools.docker import Container, Docker
from labctl.waiting import Deadline, pause

LATE_SECONDS = 10.0
"""How long the list must stay empty after kind was ended in the middle of its work."""
LOOK_SECONDS = 0.5
REMOVE_SECONDS = 30.0
"""How long containers may stay although docker was told to remove them."""


@dataclass(frozen=True)
class Deleted:
    """What `down` removed: containers by name, and whether there was anything at all."""

    name: str
    containers: tuple[str, ...]
    found: bool


def down(
    name: str,
    progress: Progress,
    *,
    force: bool = False,
    docker: Docker | None = None,
    held: Hold | None = None,
) -> Deleted:
    """Delete the cluster ``name`` and everything that belongs to it; an absent one is no error.

    ``held`` is a lock on it that the caller has: it is made one to change the cluster, without a gap, and stays
    the caller's. Raises `Conflict` for a cluster that labctl did not make or that is another user's (unless
    ``force``), or that another labctl uses or works on; `CleanupIncomplete` that lists what is left.
    """
    directory = paths.cluster_state(name)
    docker = docker or Docker()
    with contextlib.ExitStack() as ends:
        if held is None:
            ends.enter_context(lock.changing(name, optional=True))
        else:
            held.alone()
        containers = docker.containers({KIND_CLUSTER: name})
        known = mark.marks(docker).get(name)
        refuse_others(name, containers, known, force=force)
        if not containers and not known and not directory.exists():
            return Deleted(name, (), found=False)
        with _interruptible(name), progress.step(f"Delete cluster {name}") as step:
            removed = sweep(docker, name, owner=None, foreign=force, settle=settle_time(name))
            mark.take_away(docker, name)
            shared.take_away(docker, name)
            _forget(name)
            step.result(f"{len(removed)} container(s)")
    return Deleted(name, tuple(sorted(removed)), found=True)


def sweep(
    docker: Docker, name: str, *, owner: str | None, foreign: bool = False, settle: float = 0.0
) -> set[str]:
    """Remove the containers of ``name`` until none is there for ``settle`` seconds; returns their names.

    Only those of ``owner`` (None: of any labctl bring-up; with ``foreign`` simply all of that name).
    Raises `CleanupIncomplete` when containers stay although they were removed.
    """
    removed: set[str] = set()
    patience: Deadline | None = None
    since = time.monotonic()
    while True:
        left = ours(docker.containers({KIND_CLUSTER: name}), owner=owner, foreign=foreign)
        if left:
            if {one.name for one in left} <= removed:  # docker may still be at it
                patience = patience or Deadline(REMOVE_SECONDS)
                if patience.over():
                    raise _incomplete(name, [one.name for one in left])
                pause(LOOK_SECONDS)
            else:
                patience = None
            _remove(docker, name, left)
            removed |= {one.name for one in left}
            since = time.monotonic()
        elif time.monotonic() - since >= settle:
            return removed
        else:
            pause(LOOK_SECONDS)


def ours(
    containers: Sequence[Container], *, owner: str | None = None, foreign: bool = False
) -> list[Container]:
    """Those of a cluster's containers that may be removed. See `sweep`.

    kind's own load balancer for several control planes carries no mark: it goes with the nodes beside it.
    """
    if foreign:
        return list(containers)
    nodes = [one for one in containers if one.labels.get(KIND_ROLE) != LOAD_BALANCER_ROLE]
    mine = [one for one in nodes if (found := mark.of(one.labels)) and owner in {None, found.owner}]
    fronts = [one for one in containers if one not in nodes]
    return mine + (fronts if len(mine) == len(nodes) else [])


def strange(containers: Sequence[Container]) -> list[Container]:
    """Those of a cluster's containers that no labctl made."""
    mine = ours(containers)
    return [one for one in containers if one not in mine]


def foreign(name: str, containers: Sequence[Container]) -> Conflict:
    """The refusal to touch a cluster that labctl did not make."""
    also = f" (`labctl down --force {name}` deletes it too)" if paths.CLUSTER_NAME.fullmatch(name) else ""
    return Conflict(
        f"the cluster {name} was not made by labctl",
        why=f"without labctl's mark: {', '.join(one.name for one in strange(containers))}",
        next_step="choose another name, or delete it with what made it: "
        f"`kind delete cluster --name {name}`{also}",
    )


def refuse_others(name: str, containers: Sequence[Container], known: Mark | None, *, force: bool) -> None:
    """Raise `Conflict` for a cluster that labctl did not make, or that it made for another user of the daemon.

    ``known`` is the mark on the marking image; it says whose a cluster is that has no containers.
    """
    if force:
        return
    if strange(containers):
        raise foreign(name, containers)
    whose = next((mark.of(one.labels) for one in containers if mark.of(one.labels)), None) or known
    if whose and not whose.is_mine:
        raise Conflict(
            f"the cluster {name} is another user's",
            why=f"it was made by user {whose.user}, this is user {mark.me()}",
            next_step=f"choose another name; with --force it is deleted all the same: `labctl down --force {name}`",
        )


def abort(docker: Docker, mine: Mark, *, settle: float) -> None:
    """Remove what one bring-up made and nothing else; raises as `sweep` does."""
    sweep(docker, mine.cluster, owner=mine.owner, settle=settle)
    there = mark.marks(docker).get(mine.cluster)
    if there is None or there.owner == mine.owner:
        mark.take_away(docker, mine.cluster)
        shared.take_away(docker, mine.cluster)


def settle_time(name: str) -> float:
    """How long to watch for late containers, in seconds.

    A labctl that was killed while kind made nodes has left kind alive, and kind goes on for a while.
    """
    with contextlib.suppress(StateUnusable):
        written = journal.read(name)
        if written and written.phase == "nodes":
            return LATE_SECONDS
    return 0.0


def _remove(docker: Docker, name: str, containers: Sequence[Container]) -> None:
    names = [one.name for one in containers]
    try:
        docker.remove(*names)
    except LabctlError as failed:
        left = ours(docker.containers({KIND_CLUSTER: name}), foreign=True)
        still = [one.name for one in left if one.name in names]
        if still:
            raise _incomplete(name, still, why=failed.why or failed.what) from failed


def _incomplete(name: str, left: Sequence[str], why: str = "") -> CleanupIncomplete:
    return CleanupIncomplete(
        f"cluster {name} could not be deleted whole",
        leftovers=[f"container {one}" for one in left],
        why=why or f"{len(left)} container(s) are still there",
        next_step=f"`docker rm -f -v {' '.join(left)}`, then `labctl down {name}` again",
    )


def _forget(name: str) -> None:
    try:
        journal.delete_directory(name)
    except OSError as cause:
        raise CleanupIncomplete(
            f"the containers of {name} are deleted; its files are not",
            leftovers=[str(paths.cluster_state(name))],
            why=cause.strerror or str(cause),
            next_step="delete that directory",
        ) from cause


@contextlib.contextmanager
def _interruptible(name: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"interrupted while deleting cluster {name}",
            signal_number=signal_number(stop),
            next_step=f"go on with `labctl down {name}`",
        ) from stop
