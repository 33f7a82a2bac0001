"""What runs, told from docker first and the API server second.

Nothing is changed and nothing is waited for. A cluster whose bring-up was interrupted, whose nodes
are stopped or whose API server is silent is described, not guessed at.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from labctl.cluster import explain, journal, lock, mark, running
from labctl.cluster.mark import KIND_CLUSTER
from labctl.cluster.running import Node, RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.errors import LabctlError
from labctl.tools.docker import Docker


@dataclass(frozen=True)
class NodeStatus:
    """A node: docker's word for its container, and why Kubernetes does not call it Ready ('' when it does)."""

    node: Node
    unready: str


@dataclass(frozen=True)
class Status:
    """``state``: running, interrupted, working (another labctl is at it) or broken; ``problems`` say why."""

    cluster: RunningCluster
    state: str
    kubernetes: str
    nodes: tuple[NodeStatus, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """A cluster in the list of all. ``ours`` is False for one that labctl did not make."""

    name: str
    ours: bool
    nodes: int
    running: int
    spec: ClusterSpec | None


def listing(docker: Docker) -> tuple[Listed, ...]:
    """Every kind cluster of this docker daemon, and those of labctl's whose nodes are gone."""
    marks = mark.marks(docker)
    containers = docker.containers({KIND_CLUSTER: None})
    by_name: dict[str, list[str]] = {name: [] for name in marks}
    for one in containers:
        by_name.setdefault(one.labels[KIND_CLUSTER], []).append(one.state)
    return tuple(
        Listed(
            name,
            name in marks,
            len(states),
            states.count(running.RUNNING),
            marks[name].spec if name in marks else None,
        )
        for name, states in sorted(by_name.items())
    )


def look(name: str | None, docker: Docker) -> Status:
    """The state of one cluster. Raises as `labctl.cluster.running.find` does."""
    cluster = running.find(name, docker=docker)
    problems: list[str] = []
    kubernetes, unready = "", {node.name: f"container {node.state}" for node in cluster.down}
    try:
        running.require_nodes(cluster, docker=docker)
    except LabctlError as down:
        problems.append(f"{down}; {down.next_step}")
    try:
        kubernetes, seen = _ask(cluster)
        unready = {**seen, **unready}
        problems += [f"node {node}: {why}" for node, why in seen.items() if why and node not in unready]
    except LabctlError as silent:
        problems.append(str(silent))
        unready = {**{node.name: "not known" for node in cluster.nodes}, **unready}
    nodes = tuple(NodeStatus(node, unready.get(node.name, "")) for node in cluster.nodes)
    problems += [f"node {one.node.name}: {one.unready}" for one in nodes if one.unready and one.node.runs]
    state, said = _bringup(cluster.name)
    return Status(
        cluster,
        state or ("broken" if problems else "running"),
        kubernetes,
        nodes,
        tuple(dict.fromkeys([*said, *problems])),
    )


def _ask(cluster: RunningCluster) -> tuple[str, dict[str, str]]:
    from labctl.kube import connect

    kube = connect(cluster.kubeconfig)
    with contextlib.closing(kube):
        version = kube.version()
        with kube.translated("list the nodes"):
            listed = kube.core.list_node().items
    return version, {str(one.metadata.name): explain.node(one) for one in listed}


def _bringup(name: str) -> tuple[str, list[str]]:
    """The state that the journal and the lock tell of, if they tell of one."""
    if lock.held(name):
        return "working", [f"another labctl works on it: {lock.holder(name)}"]
    written = journal.read(name)
    if written and not written.ready:
        return "interrupted", [
            f"its bring-up was interrupted in phase {written.phase} (process {written.pid}); "
            f"`labctl down {name}` deletes it, `labctl up --replace` starts anew"
        ]
    return "", []
