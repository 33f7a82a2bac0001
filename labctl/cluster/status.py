"""What runs, told from docker first and the API server second.

Nothing is changed and nothing is waited for. A cluster whose bring-up was interrupted, whose nodes
are stopped or whose API server is silent is described, not guessed at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from labctl.cluster import condition, mark, readiness, running
from labctl.cluster.absence import taking
from labctl.cluster.absence.marker import Marker
from labctl.cluster.condition import Condition, State, Survey, look
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
class ClusterStatus:
    """``state`` is one of `labctl.cluster.condition.State`, with ready or not ready for running; ``said`` says why.

    ``phase`` is that of an interrupted bring-up; ``seconds`` maps the bring-up's phases to their time.
    """

    name: str
    state: State
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
    """A cluster in the list of all; ``state`` is one of `labctl.cluster.condition.State`."""

    name: str
    state: State
    nodes: int
    running: int
    cni: str | None = None
    load_balancer: str | None = None


def names(docker: Docker | None = None) -> tuple[str, ...]:
    """The clusters that labctl made for this user, or began to make, sorted."""
    marks = mark.marks(docker or Docker())
    return tuple(sorted(condition.begun() | {name for name, whose in marks.items() if whose.is_mine}))


def every(docker: Docker | None = None) -> tuple[Listed, ...]:
    """Every kind cluster of this docker daemon, and those of labctl's whose nodes are gone."""
    docker = docker or Docker()
    seen = Survey.of(docker)
    return tuple(_listed(look(name, docker, seen=seen)) for name in seen.names())


def status(name: str | None, docker: Docker | None = None) -> ClusterStatus:
    """The state of one cluster; None: the only one. Raises as `labctl.cluster.running.find` does, except
    that a cluster whose bring-up was interrupted is a state, not an error."""
    docker = docker or Docker()
    name = name or _only(docker)
    seen = look(name, docker)
    if seen.state in {"working", "interrupted", "failed", "unusable"}:
        return _unfinished(seen, docker)
    cluster = running.find(name, docker=docker)
    away = taking.outstanding(cluster, docker)
    state, said, step, code, rungs = _without(away, *_looked_at(cluster, seen))
    return ClusterStatus(
        name,
        state,
        said,
        step,
        "",
        seen.spec,
        cluster.nodes,
        cluster.pool,
        str(cluster.kubeconfig),
        rungs,
        seen.journal.seconds if seen.journal else {},
        code,
    )


def _unfinished(seen: Condition, docker: Docker) -> ClusterStatus:
    """What can be said of a cluster that is being made, or whose making did not come to its end."""
    written, at_work = seen.journal, seen.state == "working"
    ended = written is not None and not at_work
    return ClusterStatus(
        seen.name,
        seen.state,
        said=seen.said,
        next_step=f"delete it: `labctl down {seen.name}`; or start anew: `{written.command}` with --replace"
        if written and ended
        else (seen.trouble.next_step if seen.trouble else ""),
        phase=written.phase if written else "",
        spec=written.spec if written and ended else None,
        nodes=() if at_work else _nodes(seen.name, docker),
        exit_code=0 if at_work else StateUnusable.exit_code,
    )


def _looked_at(cluster: RunningCluster, seen: Condition) -> tuple[State, str, str, int, tuple[RungSeen, ...]]:
    """State, why, next step, exit code and rungs of a cluster that is there."""
    if seen.down:
        down = running.node_down(cluster.name, seen.down)
        return "broken", down.why, down.next_step, StateUnusable.exit_code, ()
    try:
        rungs = tuple(_rungs(cluster, seen.spec))
    except LabctlError as silent:
        return "broken", str(silent), silent.next_step, silent.exit_code, ()
    missing = [rung for rung in rungs if not rung.holds]
    if missing:
        said = ", ".join(rung.title for rung in missing)
        return "not ready", said, f"`labctl kubectl --name={cluster.name} -- get pods -A`", _NOT_READY, rungs
    return "ready", "", "", 0, rungs


_NOT_READY = InfrastructureError.exit_code


def _without(
    away: Sequence[Marker], state: State, said: str, step: str, code: int, rungs: tuple[RungSeen, ...]
) -> tuple[State, str, str, int, tuple[RungSeen, ...]]:
    """The same with what was taken away named first. What nobody is left to give back makes a cluster not ready."""
    said = "; ".join([*map(str, away), *([said] if said else [])])
    left = [one for one in away if one.process.runs() is not True]
    if left and state == "ready":
        state, code = "not ready", _NOT_READY
    return state, said, left[0].next_step if left else step, code, rungs


def _rungs(cluster: RunningCluster, spec: ClusterSpec | None) -> Iterator[RungSeen]:
    from labctl.kube import connect

    kube = connect(cluster.kubeconfig)
    with contextlib.closing(kube):
        known = readiness.ladder(spec, kube, cluster.started) if spec else readiness.unknown(cluster, kube)
        for rung in known:
            try:
                yield RungSeen(rung.title, True, rung.look())
            except (NotYet, Hopeless, LabctlError) as why:
                yield RungSeen(rung.title, False, str(why))


def _listed(seen: Condition) -> Listed:
    up = sum(state == running.RUNNING for _, state in seen.nodes)
    spec = seen.spec
    return Listed(
        seen.name, seen.state, len(seen.nodes), up,
        spec.cni if spec else None, spec.load_balancer if spec else None,
    )  # fmt: skip


def _only(docker: Docker) -> str:
    found = names(docker)
    return found[0] if len(found) == 1 else running.only(docker)


def _nodes(name: str, docker: Docker) -> tuple[Node, ...]:
    try:
        return running.find(name, docker=docker).nodes
    except (StateUnusable, NodeDown):
        return ()
