"""Which clusters run here, as docker says.

The truth is asked each time: docker's containers with their labels, and nothing that labctl
wrote down. What is found can be read by everything above (labs, reports, commands); making and
deleting is labctl.cluster.up.bringup's and labctl.cluster.teardown's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from labctl import paths
from labctl.cluster import kubeconfig, mark
from labctl.cluster.mark import KIND_CLUSTER, KIND_ROLE, Mark
from labctl.cluster.spec import NAME
from labctl.errors import ClusterNotFound, LabctlError, NodeDown, StateUnusable, UsageError
from labctl.network import addons
from labctl.network import pool as pools
from labctl.network.addon import LOAD_BALANCER, Provision
from labctl.tools.docker import Docker

if TYPE_CHECKING:
    from labctl.kube import Kube

Role = Literal["control-plane", "worker"]

ROLES: dict[str, Role] = {"control-plane": "control-plane", "worker": "worker"}
LOAD_BALANCER_ROLE = "external-load-balancer"
"""kind's container in front of several control planes; it is no node."""

RUNNING = "running"


@dataclass(frozen=True)
class Node:
    """A node. ``container`` is None where the cluster was found by a kubeconfig only.

    ``address`` is its IPv4 address on the docker network; '' while it does not run.
    ``state`` is docker's word for the container: running, exited, paused, ...; ``started`` is when docker started
    it last, None where that is not known.
    """

    name: str
    role: Role
    container: str | None
    address: str
    state: str = RUNNING
    started: datetime | None = None

    @property
    def runs(self) -> bool:
        """Whether its container runs, as far as we know."""
        return self.state == RUNNING


@dataclass(frozen=True)
class RunningCluster:
    """A cluster that exists. ``pool`` is the load balancer's "first-last" or ''.

    ``cni`` and ``load_balancer`` are names in labctl.network.addons, "none" where it has none, and None where
    that is not known: on a cluster that labctl did not make there may be any.
    ``kubeconfig`` is private to labctl and may be missing on disk while the control plane is down.
    ``owner`` is '' for a cluster that labctl did not make.
    """

    name: str
    kubeconfig: Path
    nodes: tuple[Node, ...]
    cni: str | None = None
    load_balancer: str | None = None
    pool: str = ""
    owner: str = ""
    context: str | None = None

    @property
    def control_planes(self) -> tuple[Node, ...]:
        """The control-plane nodes."""
        return tuple(node for node in self.nodes if node.role == "control-plane")

    @property
    def workers(self) -> tuple[Node, ...]:
        """The worker nodes."""
        return tuple(node for node in self.nodes if node.role == "worker")

    @property
    def down(self) -> tuple[Node, ...]:
        """The nodes whose containers do not run."""
        return tuple(node for node in self.nodes if not node.runs)

    @property
    def started(self) -> dict[str, datetime]:
        """When the nodes were started last, by name, as far as docker says it."""
        return {node.name: node.started for node in self.nodes if node.started}

    @property
    def containers(self) -> tuple[str, ...]:
        """The nodes' containers; empty where there is no access to the nodes."""
        return tuple(node.container for node in self.nodes if node.container)

    def provides(self, what: Provision) -> bool | None:
        """Whether the cluster has that through an addon of labctl's; None where nobody knows."""
        there = addons.LOAD_BALANCERS if what == LOAD_BALANCER else addons.CNIS
        found = there.get(self.load_balancer or "" if what == LOAD_BALANCER else self.cni or "")
        return None if found is None else what in found.provides

    def node(self, name: str) -> Node:
        """The node of that name. Raises `NodeDown` when the cluster has none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise NodeDown(f"cluster {self.name} has no node {name}", why=f"it has {', '.join(self._names())}")

    def _names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes)


def find(name: str | None = None, *, docker: Docker | None = None) -> RunningCluster:
    """The cluster ``name``, or with None the only one that labctl made; its kubeconfig is made or renewed.

    A cluster of plain kind is found too when it is named. Raises `ClusterNotFound`, `UsageError` when None
    could mean several, `StateUnusable` when none of the cluster's nodes is left.
    """
    docker = docker or Docker()
    name = name or only(docker)
    if not NAME.fullmatch(name):
        raise ClusterNotFound(f"there is no cluster {name!r}", next_step="`labctl ls` lists the clusters")
    containers = docker.containers({KIND_CLUSTER: name})
    marked = mark.marks(docker).get(name)
    if not containers:
        raise absent(name, marked)
    described = docker.inspect(*(one.id for one in containers))
    return describe(name, described, marked, docker=docker)


def only(docker: Docker) -> str:
    """The name of the only cluster that labctl made. Raises `ClusterNotFound`, `UsageError`."""
    names = sorted(mark.marks(docker))
    if not names:
        raise ClusterNotFound(
            "no cluster of labctl's runs here",
            next_step="create one: `labctl up`; `labctl ls` lists what there is",
        )
    if len(names) > 1:
        raise UsageError("several clusters run here", why=", ".join(names), next_step="name the one you mean")
    return names[0]


def absent(name: str, marked: Mark | None) -> LabctlError:
    """The error for a cluster without containers: never there, or all its nodes are gone."""
    if marked is None:
        return ClusterNotFound(
            f"there is no cluster {name}",
            next_step=f"create it: `labctl up --name {name}`; `labctl ls` lists all",
        )
    names = marked.spec.node_names() if marked.spec else ()
    return StateUnusable(
        f"cluster {name} has no nodes any more",
        why="these containers are gone: " + (", ".join(names) or "all of them"),
        next_step=f"delete what is left: `labctl down {name}`",
    )


def describe(
    name: str, described: list[dict[str, Any]], marked: Mark | None, *, docker: Docker
) -> RunningCluster:
    """The cluster that these containers (docker's own descriptions) are; renews the kubeconfig."""
    nodes = tuple(
        sorted(filter(None, map(_node, described)), key=lambda node: (node.role, _number(node.name)))
    )
    own = next(filter(None, (mark.of(one["Config"].get("Labels") or {}) for one in described)), None)
    known = own or (marked if not nodes else None)
    spec = known.spec if known else None
    return RunningCluster(
        name=name,
        kubeconfig=_fresh_kubeconfig(name, described, docker),
        nodes=nodes,
        cni=spec.cni if spec else None,
        load_balancer=spec.load_balancer if spec else None,
        pool=_pool(described, known) if known and spec and spec.provides(LOAD_BALANCER) else "",
        owner=known.owner if known else "",
    )


def from_kubeconfig(path: Path, context: str | None = None) -> RunningCluster:
    """A cluster that somebody else made and that only its API is known of; one request lists its nodes.

    Raises `StateUnusable`, `ApiUnreachable`, `ApiRefused`.
    """
    from labctl.kube import connect

    kube = connect(path, context)
    with contextlib.closing(kube), kube.translated("list the nodes"):
        listed: list[Any] = kube.core.list_node().items
    nodes = tuple(
        Node(
            name=str(one.metadata.name),
            role="control-plane"
            if "node-role.kubernetes.io/control-plane" in (one.metadata.labels or {})
            else "worker",
            container=None,
            address=next(
                (str(each.address) for each in one.status.addresses or () if each.type == "InternalIP"), ""
            ),
        )
        for one in listed
    )
    return RunningCluster(context or path.stem, path, nodes, context=context)


def lock_key(cluster: RunningCluster, kube: Kube) -> str:
    """By what labctl.cluster.lock knows a cluster: its name, or, where only its API is known, an id that no two
    clusters share: the UID of its namespace kube-system. Raises `ApiUnreachable`, `ApiRefused`."""
    if cluster.containers:
        return cluster.name
    with kube.translated("ask which cluster this is"):
        system: Any = kube.core.read_namespace(name="kube-system")
    return str(system.metadata.uid)


def require_nodes(
    cluster: RunningCluster, *, docker: Docker | None = None, but: Collection[str] = ()
) -> None:
    """Ask docker whether every node's container runs now, ``but`` those. Raises `NodeDown` that names the others."""
    if not cluster.containers:
        return
    docker = docker or Docker()
    states = {one.name: one.state for one in docker.containers({KIND_CLUSTER: cluster.name})}
    bad = {name: states.get(name, "gone") for name in cluster.containers if states.get(name) != RUNNING}
    bad = {name: state for name, state in bad.items() if name not in but}
    if bad:
        raise node_down(cluster.name, bad)


def node_down(name: str, bad: Mapping[str, str]) -> NodeDown:
    """The error that names the containers that do not run; ``bad`` maps them to docker's word."""
    stopped = [one for one, state in bad.items() if state not in {"gone", "paused"}]
    paused = [one for one, state in bad.items() if state == "paused"]
    if "gone" in bad.values():
        step = f"delete what is left: `labctl down {name}`, then make it anew with the same `labctl up`"
    elif paused and not stopped:
        step = f"let it go on: `docker unpause {' '.join(paused)}`"
    else:
        step = f"start what is stopped: `docker start {' '.join(stopped)}`, then `labctl status {name}`"
    seen = ", ".join(f"container {one} {_said(state)}" for one, state in bad.items())
    return NodeDown(f"{len(bad)} node(s) of cluster {name} do not run", why=seen, next_step=step)


def _said(state: str) -> str:
    return {"gone": "is gone", "exited": "exited", "dead": "is dead"}.get(state, f"is {state}")


def _node(described: Mapping[str, Any]) -> Node | None:
    role = ROLES.get((described["Config"].get("Labels") or {}).get(KIND_ROLE, ""))
    if role is None:
        return None
    name = str(described["Name"]).lstrip("/")
    state = described["State"]
    return Node(
        name,
        role,
        name,
        _address(described),
        str(state["Status"]),
        _moment(str(state.get("StartedAt") or "")),
    )


def _moment(text: str) -> datetime | None:
    """Docker's time, such as 2026-11-28T11:02:45.123456789Z; its year 1 stands for never."""
    try:
        moment = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if moment.year > 1 else None


def _number(name: str) -> tuple[int, str]:
    digits = name[len(name.rstrip("0123456789")) :]
    return (int(digits or 1), name)


def _networks(described: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    networks = (described.get("NetworkSettings") or {}).get("Networks") or {}
    return [networks[name] for name in sorted(networks, key=lambda one: one != "kind")]


def _address(described: Mapping[str, Any]) -> str:
    return next((str(one["IPAddress"]) for one in _networks(described) if one.get("IPAddress")), "")


def _pool(described: list[dict[str, Any]], known: Mark) -> str:
    for one in described:
        for network in _networks(one):
            if network.get("IPAddress"):
                subnet = f"{network['IPAddress']}/{network['IPPrefixLen']}"
                return str(pools.pool(subnet, known.slot))
    return ""


def _fresh_kubeconfig(name: str, described: list[dict[str, Any]], docker: Docker) -> Path:
    path = paths.cluster_state(name) / "kubeconfig"
    entry = kubeconfig.entry(described)
    if entry is not None:
        kubeconfig.refresh(path, entry, docker)
    return path
