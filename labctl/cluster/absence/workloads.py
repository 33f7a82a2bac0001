"""What is taken through the API server: a DaemonSet off nodes, a Deployment to nothing, kube-proxy with its rules."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from labctl.cluster.absence.kinds import Absence, Before
from labctl.cluster.absence.site import Look, Site, patiently
from labctl.errors import InfrastructureError
from labctl.waiting import NotYet

HOSTNAME = "kubernetes.io/hostname"

_PROXY_CHAINS = re.compile(r"^:(KUBE-(?:SERVICES|NODEPORTS|(?:SVC|SVL|SEP|EXT|FW)-\S+)) ", re.MULTILINE)
"""kube-proxy's own chains that rewrite addresses; the kubelet's and the masquerading ones are left alone."""


@dataclass(frozen=True)
class DaemonSetOff(Absence):
    """A DaemonSet taken off some nodes (none named: off all) by a rule of node affinity.

    Its pods on other nodes are left as they are: meanwhile its template differs, but the update strategy is
    OnDelete, and with the old template comes the old revision. kube-proxy on one node: 1.7 s to be gone, 1.7 to work.
    """

    kind: ClassVar[str] = "daemonset"
    by_api: ClassVar[bool] = True

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets/{self.thing}"

    def before(self, site: Site) -> Before:
        """Its affinity, its update strategy, and how many pods it has."""
        found = site.get(self.path)
        desired = int(found.get("status", {}).get("desiredNumberScheduled") or 0)
        if not desired:
            raise _not_there(self, site, "no node is to run a pod of it")
        return {
            "affinity": found["spec"]["template"]["spec"].get("affinity"),
            "updateStrategy": found["spec"].get("updateStrategy"),
            "desired": desired,
        }

    def take(self, site: Site, before: Before) -> None:
        """Forbid it the nodes."""
        nodes = self.nodes or tuple(node.name for node in site.cluster.nodes)
        self._patch(site, without(before["affinity"], nodes), {"type": "OnDelete"})

    def gone(self, site: Site, before: Before) -> None:  # noqa: ARG002  # the signature of all kinds
        """No pod of it is left on the nodes; a kubelet that ended one has said so."""
        left = [
            pod
            for pod in _pods(site, self.path)
            if not self.nodes or pod["spec"].get("nodeName") in self.nodes
        ]
        if left:
            raise NotYet(f"pod {left[0]['metadata']['name']} is still there")

    def give(self, site: Site, before: Before) -> Look:
        """Give it its affinity and strategy back; it works when as many pods as before are ready."""
        self._patch(site, before["affinity"], before["updateStrategy"])
        return lambda: patiently(lambda: self._ready(site, int(before["desired"])))

    def _patch(self, site: Site, affinity: object, strategy: object) -> None:
        body = [
            {"op": "add", "path": "/spec/template/spec/affinity", "value": affinity},
            {"op": "add", "path": "/spec/updateStrategy", "value": strategy},
        ]
        with site.kube.translated(f"change DaemonSet {self.namespace}/{self.thing}"):
            site.kube.apps.patch_namespaced_daemon_set(name=self.thing, namespace=self.namespace, body=body)

    def _ready(self, site: Site, wanted: int) -> None:
        found = site.get(self.path)
        status = found.get("status", {})
        seen = [
            int(status.get(key) or 0)
            for key in ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady")
        ]
        observed = int(status.get("observedGeneration") or 0) >= int(found["metadata"].get("generation") or 0)
        if not observed or any(one != wanted for one in seen):
            raise NotYet(f"DaemonSet {self.thing}: {seen[2]}/{wanted} ready")


@dataclass(frozen=True)
class WithoutRules(DaemonSetOff):
    """kube-proxy taken off nodes, and with it the rules that it has left there. 2.9 s to be gone, 2.8 to work."""

    kind: ClassVar[str] = "kube-proxy with its rules"

    @property
    def title(self) -> str:
        """With the rules named: without them gone, nothing would be missing for a long time."""
        return f"{super().title}, with its rules"

    def before(self, site: Site) -> Before:
        """Also which of the kernel's tables hold the rules on each node."""
        modes = {node: _mode(site, node) for node in self.nodes}
        if unknown := [node for node, mode in modes.items() if not mode]:
            raise _not_there(
                self, site, f"node {unknown[0]} has no rules of kube-proxy in iptables or nftables"
            )
        return {**super().before(site), "modes": modes}

    def gone(self, site: Site, before: Before) -> None:
        """kube-proxy is gone first, or it would write them anew; then the rules are."""
        super().gone(site, before)
        for node, mode in before["modes"].items():
            flush(site, node, mode)
            if _mode(site, node):
                raise NotYet(f"node {node} still has rules of kube-proxy")

    def give(self, site: Site, before: Before) -> Look:
        """kube-proxy writes all of its rules when it starts."""
        works = super().give(site, before)

        def look() -> None:
            works()
            if bare := [node for node in before["modes"] if not _mode(site, node)]:
                raise NotYet(f"node {bare[0]} has no rules of kube-proxy yet")

        return lambda: patiently(look)


@dataclass(frozen=True)
class ScaledToNothing(Absence):
    """A Deployment scaled to 0. CoreDNS: 8.0 s until both pods have ended, 3.1 until both are ready."""

    kind: ClassVar[str] = "deployment"
    by_api: ClassVar[bool] = True

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.thing}"

    def before(self, site: Site) -> Before:
        """How many replicas it has."""
        replicas = int(site.get(self.path)["spec"].get("replicas") or 0)
        if not replicas:
            raise _not_there(self, site, "it is scaled to 0 already")
        return {"replicas": replicas}

    def take(self, site: Site, before: Before) -> None:  # noqa: ARG002  # the signature of all kinds
        """Scale it to 0."""
        self._scale(site, 0)

    def gone(self, site: Site, before: Before) -> None:  # noqa: ARG002  # as above
        """Every pod has ended; until then it still answers."""
        if left := _pods(site, self.path):
            raise NotYet(f"pod {left[0]['metadata']['name']} is still there")

    def give(self, site: Site, before: Before) -> Look:
        """Scale it to exactly what it was."""
        wanted = int(before["replicas"])
        self._scale(site, wanted)

        def look() -> None:
            found = site.get(self.path)
            status = found.get("status", {})
            ready = int(status.get("readyReplicas") or 0)
            observed = int(status.get("observedGeneration") or 0) >= int(
                found["metadata"].get("generation") or 0
            )
            if not observed or ready != wanted or int(status.get("replicas") or 0) != wanted:
                raise NotYet(f"Deployment {self.thing}: {ready}/{wanted} ready")

        return lambda: patiently(look)

    def _scale(self, site: Site, replicas: int) -> None:
        body = [{"op": "replace", "path": "/spec/replicas", "value": replicas}]
        with site.kube.translated(f"scale Deployment {self.namespace}/{self.thing}"):
            site.kube.apps.patch_namespaced_deployment(name=self.thing, namespace=self.namespace, body=body)


def without(affinity: Any, nodes: Sequence[str]) -> dict[str, Any]:
    """A copy of an affinity (plain data or None) that admits none of ``nodes``.

    The terms of a node affinity are alternatives, so each of them must say it.
    """
    made: dict[str, Any] = copy.deepcopy(affinity) or {}
    required = made.setdefault("nodeAffinity", {}).setdefault(
        "requiredDuringSchedulingIgnoredDuringExecution", {}
    )
    rule = {"key": HOSTNAME, "operator": "NotIn", "values": list(nodes)}
    terms = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), rule]} for term in terms
    ]
    return made


def flush(site: Site, node: str, mode: str) -> None:
    """Empty kube-proxy's chains on a node, where there are any."""
    if mode == "nftables":
        site.run(node, "nft", "delete", "table", "ip", "kube-proxy", check=False)
        return
    chains = _PROXY_CHAINS.findall(site.run(node, "iptables-save", "-t", "nat").stdout)
    if chains:
        # With --noflush only the chains that are declared are emptied.
        lines = ["*nat", *(f":{chain} - [0:0]" for chain in chains), "COMMIT", ""]
        site.run(node, "iptables-restore", "--noflush", stdin="\n".join(lines))


def _mode(site: Site, node: str) -> str:
    """Which of the kernel's tables hold kube-proxy's rules on a node, '' for none."""
    if "-A KUBE-SERVICES " in site.run(node, "iptables-save", "-t", "nat", check=False).stdout:
        return "iptables"
    return "nftables" if site.run(node, "nft", "list", "table", "ip", "kube-proxy", check=False).ok else ""


def _pods(site: Site, path: str) -> list[dict[str, Any]]:
    owner = site.get(path)
    labels = owner["spec"]["selector"].get("matchLabels") or {}
    namespace = owner["metadata"]["namespace"]
    found: list[dict[str, Any]] = site.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    return [one for one in found if labels.items() <= (one["metadata"].get("labels") or {}).items()]


def _not_there(absence: Absence, site: Site, why: str) -> InfrastructureError:
    return InfrastructureError(
        f"{absence.title} is not there to be taken away",
        why=why,
        next_step=f"`labctl heal {site.cluster.name}` puts back what is away",
    )
