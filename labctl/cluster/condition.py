"""In which state a cluster is: one classification for every command.

`labctl up` decides by it what is to do, `labctl status` and `ls` show it, others ask whether they can work.
It is told from docker, the journal and the lock; the API server is not asked, nothing is changed, no lock is
taken, not even for a moment. docker is the truth: a journal that does not fit the containers that are there
is that of a former cluster, and is not believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from labctl import paths
from labctl.cluster import journal, lock, mark, running, teardown
from labctl.cluster.journal import Journal
from labctl.cluster.mark import KIND_CLUSTER, KIND_ROLE, Mark
from labctl.cluster.running import RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.errors import ClusterNotFound, Conflict, LabctlError, StateUnusable
from labctl.tools.docker import Container, Docker

State = Literal[
    "absent", "working", "interrupted", "failed", "broken", "unusable", "running", "foreign", "not ready", "ready"
]  # fmt: skip
"""absent: nothing of it is here. working: another labctl changes it. interrupted: a bring-up ended early.
failed: a bring-up failed, and was kept to be looked at. broken: nodes are stopped or gone. unusable: its journal
cannot be used. running: its nodes run. foreign: labctl did not make it. `labctl status` asks the API server
beyond that, and says ready or not ready for running."""


@dataclass(frozen=True)
class Condition:
    """What `look` saw. ``said`` is why, for people; ``trouble`` is the error for one who needs the cluster well.

    ``nodes`` maps the names of nodes that should be or are there to docker's word, or "gone". ``proven``: its
    bring-up came to its end, proof and all. ``mark`` and ``journal`` are those that count for what is there.
    """

    name: str
    state: State
    said: str = ""
    trouble: LabctlError | None = None
    containers: tuple[Container, ...] = ()
    nodes: tuple[tuple[str, str], ...] = ()
    mark: Mark | None = None
    journal: Journal | None = None
    proven: bool = False

    @property
    def spec(self) -> ClusterSpec | None:
        """What it was asked to be, as far as it is known."""
        return self.mark.spec if self.mark else None

    @property
    def down(self) -> dict[str, str]:
        """The nodes that do not run, with docker's word."""
        return {name: state for name, state in self.nodes if state != running.RUNNING}


@dataclass(frozen=True)
class Survey:
    """What docker says of all clusters, asked once: the containers by cluster, and the marks."""

    containers: dict[str, list[Container]]
    marks: dict[str, Mark]

    @classmethod
    def of(cls, docker: Docker, name: str | None = None) -> Survey:
        """Ask docker, for one cluster or for all."""
        found: dict[str, list[Container]] = {}
        for one in docker.containers({KIND_CLUSTER: name} if name else [KIND_CLUSTER]):
            found.setdefault(one.labels[KIND_CLUSTER], []).append(one)
        return cls(found, mark.marks(docker))

    def names(self) -> list[str]:
        """Every cluster that is here or was begun here, sorted; those of plain kind too."""
        return sorted({*self.containers, *self.marks, *begun()})


def begun() -> set[str]:
    """The clusters that have a journal of this user's."""
    names = (place.parent.name for place in paths.state_root().glob("*/journal.json"))
    return {name for name in names if paths.CLUSTER_NAME.fullmatch(name)}


def look(name: str, docker: Docker, *, seen: Survey | None = None, locked: bool = False) -> Condition:
    """The condition of one cluster. ``locked``: this process has its lock, so nobody else is at it.

    A name that no cluster of labctl's can have is foreign or absent, and is looked up nowhere but in docker.
    Raises what docker raises.
    """
    seen = seen or Survey.of(docker, name)
    containers = tuple(seen.containers.get(name, ()))
    if not paths.CLUSTER_NAME.fullmatch(name):
        return _strange(name, containers) if containers else _absent(name)
    whose = _mark(containers) or (None if _nodes(containers) else seen.marks.get(name))
    nodes = tuple(sorted((dict.fromkeys(_wanted(whose), "gone") | _nodes(containers)).items()))
    try:
        written, unusable = _believed(journal.read(name), whose, containers), None
    except StateUnusable as refused:
        written, unusable = None, refused
    at_it = None if locked else lock.changed_by(name)

    def seen_as(state: State, said: str = "", trouble: LabctlError | None = None) -> Condition:
        proven = state == "running" and written is not None
        return Condition(name, state, said, trouble, containers, nodes, whose, written, proven)

    if at_it:
        return seen_as("working", f"another labctl is at it: {at_it}", _at_work(name, at_it))
    if teardown.strange(containers):
        return _strange(name, containers)
    if unusable:
        return seen_as("unusable", unusable.what, unusable)
    if written and not written.ready:
        return seen_as("failed" if written.failed else "interrupted", _ended(written), half_done(written))
    if not containers and whose is None:
        return _absent(name)
    down = {node: state for node, state in nodes if state != running.RUNNING}
    if down:
        trouble = running.node_down(name, down)
        return seen_as("broken", trouble.why, trouble)
    return seen_as("running")


def usable(name: str | None, docker: Docker | None = None) -> RunningCluster:
    """The cluster (None: the only one of labctl's), when its control planes run and its kubeconfig is there.

    Raises as `labctl.cluster.running.find` does, `NodeDown`, and `StateUnusable` before it has come up.
    """
    docker = docker or Docker()
    cluster = running.find(name, docker=docker)
    planes_down = {node.name: node.state for node in cluster.control_planes if not node.runs}
    if planes_down:
        raise running.node_down(cluster.name, planes_down)
    if not cluster.control_planes or not cluster.kubeconfig.is_file():
        seen = look(cluster.name, docker)
        raise StateUnusable(
            f"cluster {cluster.name} has no kubeconfig yet",
            why=seen.said or "its control plane has not come up",
            next_step=f"`labctl status {cluster.name}`",
        )
    return cluster


def half_done(written: Journal) -> Conflict:
    """The refusal to go on with what another process left half done."""
    ended = "failed, and was kept," if written.failed else "was interrupted"
    return Conflict(
        f"a bring-up of cluster {written.name} {ended} in phase {written.phase}",
        why=written.failed or f"process {written.pid} ({written.command}), started {written.started}",
        next_step=f"start anew: that command with --replace; or delete: `labctl down {written.name}`",
    )


# --- what fits together


def _believed(written: Journal | None, whose: Mark | None, there: Sequence[Container]) -> Journal | None:
    """The journal, unless what docker shows was made by another bring-up."""
    if written is None or (whose is None and not there):
        return None if written and written.ready else written
    if whose is None or whose.owner != written.owner:
        return None
    strangers = {one.id for one in there} - set(written.containers)
    return None if written.ready and written.containers and strangers else written


def _mark(containers: Iterable[Container]) -> Mark | None:
    return next(filter(None, (mark.of(one.labels) for one in containers)), None)


def _nodes(containers: Iterable[Container]) -> dict[str, str]:
    return {one.name: one.state for one in containers if one.labels.get(KIND_ROLE) in running.ROLES}


def _wanted(whose: Mark | None) -> tuple[str, ...]:
    return whose.spec.node_names() if whose and whose.spec else ()


def _ended(written: Journal) -> str:
    if written.failed:
        return f"its bring-up failed in phase {written.phase}: {written.failed}"
    return f"in phase {written.phase}, by the end of process {written.pid}"


# --- the conditions without a journal


def _absent(name: str) -> Condition:
    return Condition(
        name, "absent", "nothing of it is here",
        ClusterNotFound(f"there is no cluster {name}", next_step="`labctl ls` lists all"),
    )  # fmt: skip


def _strange(name: str, containers: Sequence[Container]) -> Condition:
    nodes = tuple(sorted(_nodes(containers).items()))
    bad = [f"{node} is {state}" for node, state in nodes if state != running.RUNNING]
    return Condition(
        name, "foreign", ", ".join(["labctl did not make it", *bad]),
        teardown.foreign(name, containers), tuple(containers), nodes,
    )  # fmt: skip


def _at_work(name: str, who: str) -> Conflict:
    return Conflict(
        f"another labctl works on cluster {name}", why=who, next_step="wait for it, or end that process"
    )
