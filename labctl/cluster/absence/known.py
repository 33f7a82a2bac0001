"""The parts of a cluster by the names that people use for them."""

from __future__ import annotations

from labctl.cluster.absence.kinds import Absence
from labctl.cluster.absence.marker import Marker
from labctl.cluster.absence.onnodes import PORTS, FrozenNode, StaticPod, StoppedNode, Unit
from labctl.cluster.absence.workloads import DaemonSetOff, ScaledToNothing, WithoutRules
from labctl.cluster.running import RunningCluster
from labctl.errors import UsageError

KINDS: dict[str, type[Absence]] = {
    one.kind: one
    for one in (StaticPod, Unit, FrozenNode, StoppedNode, DaemonSetOff, WithoutRules, ScaledToNothing)
}
"""Every kind by the word that stands in a marker."""

UNITS = ("containerd", "kubelet")

WORKLOADS: dict[str, tuple[type[Absence], str, str]] = {
    "kube-proxy": (DaemonSetOff, "kube-system", "kube-proxy"),
    "CoreDNS": (ScaledToNothing, "kube-system", "coredns"),
    "MetalLB's controller": (ScaledToNothing, "metallb-system", "controller"),
}
"""Workloads that have a name of their own; any other is written "deployment/NAMESPACE/NAME" or
"daemonset/NAMESPACE/NAME"."""


def named(thing: str, cluster: RunningCluster, node: str = "") -> Absence:
    """The absence of ``thing``: a static pod of every control plane, a unit of ``node`` (without one: of the first
    control plane), a Deployment, or a DaemonSet off ``node`` (without one: off all).

    Raises `UsageError` for a name that means nothing here, `NodeDown` for a node that the cluster does not have.
    """
    if node:
        cluster.node(node)
    planes = tuple(one.name for one in cluster.control_planes)
    if thing in PORTS:
        return StaticPod(thing, planes)
    if thing in UNITS:
        return Unit(thing, (node or planes[0],))
    kind, namespace, name = WORKLOADS.get(thing) or _spelled_out(thing)
    return kind(name, (node,) if node and kind is DaemonSetOff else (), namespace)


def of(marker: Marker) -> Absence:
    """The absence that a marker stands for. Raises `UsageError` for a kind of a newer labctl."""
    if marker.kind not in KINDS:
        raise UsageError(
            f"marker {marker.id} is of a kind that this labctl does not know: {marker.kind!r}",
            next_step="use the labctl that wrote it",
        )
    return KINDS[marker.kind](marker.thing, marker.nodes, marker.namespace)


def _spelled_out(thing: str) -> tuple[type[Absence], str, str]:
    kinds: dict[str, type[Absence]] = {"deployment": ScaledToNothing, "daemonset": DaemonSetOff}
    kind, _, rest = thing.partition("/")
    namespace, _, name = rest.partition("/")
    if kind not in kinds or not namespace or not name:
        raise UsageError(
            f"nothing is known that is called {thing!r}",
            why="known are " + ", ".join((*PORTS, *UNITS, *WORKLOADS)),
            next_step="or write deployment/NAMESPACE/NAME, daemonset/NAMESPACE/NAME",
        )
    return kinds[kind], namespace, name
