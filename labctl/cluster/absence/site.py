"""Where something is taken away: one cluster, entered through docker and through its API server.

The few questions that every kind of absence asks stand here. Nothing here knows of markers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl import kubewords
from labctl.cluster.running import RUNNING, RunningCluster
from labctl.errors import ApiRefused, ApiUnreachable, CommandFailed, CommandTimedOut, NodeDown
from labctl.kube import Kube
from labctl.process import Completed
from labctl.tools.docker import Docker
from labctl.waiting import NotYet

Look = Callable[[], None]
"""Returns when it is so, raises `NotYet` with what is seen instead."""

UNREACHABLE_TAINTS = frozenset({"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"})
"""What the controller manager puts on a node that is away; it takes them off a moment after the node is Ready."""


@dataclass(frozen=True)
class Site:
    """A cluster whose nodes can be entered."""

    cluster: RunningCluster
    docker: Docker
    kube: Kube

    @property
    def planes(self) -> tuple[str, ...]:
        """The control-plane nodes."""
        return tuple(node.name for node in self.cluster.control_planes)

    def container(self, node: str) -> str:
        """The container of a node. Raises `NodeDown` where there is none."""
        return self.cluster.node(node).container or node

    def run(
        self,
        node: str,
        *argv: str,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a program on a node. Raises `NodeDown`, and with ``check`` `CommandFailed`."""
        given = [f"{name}={value}" for name, value in (env or {}).items()]
        command = ["env", *given, *argv] if given else argv
        return self.docker.exec(self.container(node), command, check=check, stdin=stdin, timeout=timeout)

    def state(self, node: str) -> str:
        """Docker's word for the node's container; it says "paused" of a frozen one."""
        return str(self.docker.inspect(self.container(node))[0]["State"]["Status"])

    def get(self, path: str) -> dict[str, Any]:
        """An object of the API as plain data, exactly as the server has it."""
        found: dict[str, Any] = json.loads(self.kube.raw_get(path))
        return found

    def api_ready(self) -> None:
        """Raises `NotYet` while the API server is not ready to serve."""
        patiently(lambda: self.kube.raw_get("/readyz", timeout=5.0))

    def renewed(self, namespace: str, lease: str) -> str:
        """Who holds a Lease and when it was last renewed, "HOLDER TIME"; '' where nobody can be asked.

        One who leaves in good order gives it up, which renews it without a holder: " TIME".
        """
        try:
            found = self.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease}")
        except (ApiRefused, ApiUnreachable):
            return ""
        return f"{found['spec'].get('holderIdentity') or ''} {found['spec'].get('renewTime') or ''}"


def patiently(look: Callable[[], object]) -> None:
    """Look, and take silence, refusals and failed programs as "not yet": what comes back is not there at once."""
    try:
        look()
    except (ApiRefused, ApiUnreachable, CommandFailed, CommandTimedOut, NodeDown) as away:
        raise NotYet(_shortly(away.why or away.what)) from away


def moves(site: Site, namespace: str, lease: str, before: str) -> Look:
    """The look that waits for a Lease to be renewed again, ``before`` being its last time while its holder was away."""
    known = [before]

    def look() -> None:
        now = site.renewed(namespace, lease)
        if not known[0]:
            known[0] = now  # nobody could be asked before: the first answer is what must change
        if now.startswith(" ") or now in {"", known[0]}:
            raise NotYet(f"lease {lease} is not renewed yet: {now.strip() or 'nobody answers for it'}")

    return look


def node_works(site: Site, nodes: Sequence[str]) -> Look:
    """The look that waits for nodes to be Ready, to say so anew and to be no longer shunned."""
    beats = {
        node: moves(site, "kube-node-lease", node, site.renewed("kube-node-lease", node)) for node in nodes
    }

    def look() -> None:
        for node in nodes:
            if site.state(node) != RUNNING:
                raise NotYet(f"container {node} is {site.state(node)}")
            beats[node]()
            if seen := complaint(site.get(f"/api/v1/nodes/{node}")):
                raise NotYet(f"node {node}: {seen}")

    return lambda: patiently(look)


def complaint(node: Mapping[str, Any]) -> str:
    """Why a node (plain data) is not fit for work, '' when it is."""
    if seen := kubewords.node(node):
        return f"Ready is {kubewords.condition(node, 'Ready') or 'not reported'}: {seen}"
    if node.get("spec", {}).get("unschedulable"):
        return "cordoned"
    shunned = [
        one["key"] for one in node.get("spec", {}).get("taints") or () if one["key"] in UNREACHABLE_TAINTS
    ]
    return f"tainted {', '.join(shunned)}" if shunned else ""


def _shortly(said: str) -> str:
    """One line of what was said; of /readyz, which lists every part of the server, those that are not ready."""
    lines = said.splitlines() or [""]
    return "; ".join(line for line in lines if line.startswith("[-]")) or lines[0]
