"""What runs, told from docker first and the API server second.

Nothing is changed and nothing is waited for. A cluster whose bring-up was interrupted, whose nodes
are stopped or whose API server is silent is described, not guessed at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labctl import paths
from labctl.cluster import journal, lock, mark, readiness, running
from labctl.cluster.mark import KIND_CLUSTER, KIND_ROLE
from labctl.cluster.running import Node, RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.errors import InfrastructureError, LabctlError, NodeDown, StateUnusable
from labctl.tools.docker import Docker
from labctl.waiting import Hopeless, NotYet


@dataclass(frozen=True)
class RungSeen:
    """One rung of the readiness ladder, looked at once."""

    title: str
    holds: bool
    seen: str


@dataclass(frozen=True)
class Status:
    """``state``: ready, not ready, interrupted, working (another labctl is at it) or broken; ``said`` says why.

    ``phase`` is that of an interrupted bring-up; ``seconds`` maps the bring-up's phases to their time.
    """

    name: str
    state: str
    said: str = ""
    next_step: str = ""
    phase: str = ""
    spec: ClusterSpec | None = None
    nodes: tuple[Node, ...] = ()
    pool: str = ""
    kubeconfig: str = ""
    rungs: tuple[RungSeen, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    exit_code: int = 0


@dataclass(frozen=True)
class Listed:
    """A cluster in the list of all; ``state`` says too when labctl did not make it."""

    name: str
    state: str
    nodes: int
    running: int
    cni: str = ""
    load_balancer: str = ""


def names(docker: Docker | None = None) -> tuple[str, ...]:
    """The clusters that labctl made, or began to make, sorted."""
    begun = {place.parent.name for place in paths.state_root().glob("*/journal.json")}
    return tuple(sorted(begun | set(mark.marks(docker or Docker()))))


def every(docker: Docker | None = None) -> tuple[Listed, ...]:
    """Every kind cluster of this docker daemon, and those of labctl's whose nodes are gone."""
    docker = docker or Docker()
    marks = mark.marks(docker)
    states: dict[str, list[str]] = {name: [] for name in names(docker)}
    for one in docker.containers([KIND_CLUSTER]):
        at = states.setdefault(one.labels[KIND_CLUSTER], [])
        if one.labels.get(KIND_ROLE) in running.ROLES:
            at.append(one.state)
    return tuple(_listed(name, found, marks.get(name)) for name, found in sorted(states.items()))


def status(name: str | None, docker: Docker | None = None) -> Status:
    """The state of one cluster; None: the only one. Raises as `labctl.cluster.running.find` does, except
    that a cluster whose bring-up was interrupted is a state, not an error."""
    docker = docker or Docker()
    name = name or _only(docker)
    written = journal.read(name)
    if lock.held(name):
        return Status(
            name,
            "working",
            said=f"another labctl is at it: {lock.holder(name)}",
            next_step="wait for it, or end that process",
            phase=written.phase if written else "",
        )
    if written and not written.ready:
        return Status(
            name,
            "broken" if written.failed else "interrupted",
            said=f"its bring-up failed in phase {written.phase}: {written.failed}"
            if written.failed
            else f"in phase {written.phase}, by the end of process {written.pid}",
            next_step=f"delete it: `labctl down {name}`; or start anew: `{written.command}` with --replace",
            phase=written.phase,
            spec=written.spec,
            nodes=_nodes(name, docker),
            exit_code=StateUnusable.exit_code,
        )
    cluster = running.find(name, docker=docker)
    known = mark.marks(docker).get(name)
    spec = known.spec if known else None
    state, said, step, code, rungs = _looked_at(cluster, spec, docker)
    return Status(
        name,
        state,
        said,
        step,
        "",
        spec,
        cluster.nodes,
        cluster.pool,
        str(cluster.kubeconfig),
        rungs,
        written.seconds if written else {},
        code,
    )


def _looked_at(
    cluster: RunningCluster, spec: ClusterSpec | None, docker: Docker
) -> tuple[str, str, str, int, tuple[RungSeen, ...]]:
    """State, why, next step, exit code and rungs of a cluster that is there."""
    try:
        running.require_nodes(cluster, docker=docker)
        _require_all(cluster, spec)
    except LabctlError as down:
        return "broken", down.why, down.next_step, StateUnusable.exit_code, ()
    try:
        rungs = tuple(_rungs(cluster, spec or ClusterSpec(cluster.name, cni="none", load_balancer="none")))
    except LabctlError as silent:
        return "broken", str(silent), silent.next_step, silent.exit_code, ()
    missing = [rung for rung in rungs if not rung.holds]
    if missing:
        said = ", ".join(rung.title for rung in missing)
        return "not ready", said, f"`labctl kubectl --name={cluster.name} -- get pods -A`", _NOT_READY, rungs
    return "ready", "", "", 0, rungs


_NOT_READY = InfrastructureError.exit_code


def _require_all(cluster: RunningCluster, spec: ClusterSpec | None) -> None:
    """Raise `NodeDown` when a node that the spec asks for has no container at all."""
    there = {node.name for node in cluster.nodes}
    gone = {name: "gone" for name in (spec.node_names() if spec else ()) if name not in there}
    if gone:
        raise running.node_down(cluster.name, gone)


def _rungs(cluster: RunningCluster, spec: ClusterSpec) -> Iterator[RungSeen]:
    from labctl.kube import connect

    kube = connect(cluster.kubeconfig)
    with contextlib.closing(kube):
        for rung in readiness.ladder(spec, kube):
            try:
                yield RungSeen(rung.title, True, rung.look())
            except (NotYet, Hopeless, LabctlError) as why:
                yield RungSeen(rung.title, False, str(why))


def _listed(name: str, states: list[str], known: mark.Mark | None) -> Listed:
    spec = known.spec if known else None
    up = states.count(running.RUNNING)
    wanted = spec.nodes if spec else len(states)
    if lock.held(name):
        state = "working"
    elif unfinished := _unfinished(name):
        state = unfinished
    elif up < wanted or not states:
        state = "broken"
    else:
        state = "running"
    if known is None and state == "running":
        state = "running (not labctl's)"
    return Listed(name, state, wanted, up, spec.cni if spec else "", spec.load_balancer if spec else "")


def _unfinished(name: str) -> str:
    """The state of a cluster whose journal does not say that its bring-up came to its end, else nothing."""
    try:
        written = journal.read(name)
    except StateUnusable:
        return "unusable (journal of a newer labctl)"
    return "interrupted" if written and not written.ready else ""


def _only(docker: Docker) -> str:
    found = names(docker)
    return found[0] if len(found) == 1 else running.only(docker)


def _nodes(name: str, docker: Docker) -> tuple[Node, ...]:
    try:
        return running.find(name, docker=docker).nodes
    except (StateUnusable, NodeDown):
        return ()
