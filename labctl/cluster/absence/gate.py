"""Is the cluster as a lab may expect to find it, and as it must leave it?

Asked before and after each lab that takes something away. It looks and says; it changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from labctl import kubewords
from labctl.cluster.absence import taking
from labctl.cluster.absence.onnodes import MANIFESTS, PORTS
from labctl.cluster.absence.site import Site, complaint
from labctl.cluster.running import RUNNING
from labctl.errors import DeadlineExceeded, LabctlError
from labctl.waiting import NotYet, until

FRESH_SECONDS = 40.0
"""A kubelet renews its node's Lease every 10 s; after 40 s without, the controller manager gives the node up."""

SYSTEM = "kube-system"

ADDONS = ("kube-flannel", "metallb-system", "local-path-storage", "calico-system", "cilium-secrets")
"""Namespaces of what labctl or kind installs; those of users are none of our business."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it must be: which, and what is seen of it."""

    what: str
    seen: str

    def __str__(self) -> str:
        return f"{self.what}: {self.seen}"


def gate(
    site: Site, *, within: float = 0.0, note: Callable[[str], None] = lambda _: None
) -> tuple[Difference, ...]:
    """What differs from a well cluster: () when nothing does.

    Every node's container runs; nothing is taken away; the API server is ready; every node is Ready, fresh and
    takes pods; every static pod of a control plane has its manifest and runs; every workload of the system has
    its replicas. Looks again for ``within`` seconds: what has just come back is noticed a moment later.
    """
    last: list[tuple[Difference, ...]] = [()]

    def look() -> None:
        last[0] = tuple(_differences(site))
        if last[0]:
            raise NotYet("; ".join(map(str, last[0][:3])))

    with contextlib.suppress(DeadlineExceeded):
        until(look, what="the cluster is as it was found", within=within, every=1.0, on_wait=note)
    return last[0]


def _differences(site: Site) -> Iterator[Difference]:
    asleep = list(_asleep(site))
    yield from asleep
    for marker in taking.outstanding(site.cluster, site.docker):
        yield Difference(marker.title, str(marker))
    if asleep:
        return  # the rest would only say the same in other words
    try:
        yield from _manifests(site)
        site.kube.raw_get("/readyz", timeout=5.0)
        yield from _nodes(site)
        yield from _static_pods(site)
        for kind in ("deployments", "daemonsets"):
            yield from _workloads(site, kind)
    except LabctlError as silent:
        yield Difference("API server", str(silent))


def _asleep(site: Site) -> Iterator[Difference]:
    for node in site.cluster.nodes:
        try:
            state = site.state(node.name)
        except LabctlError as gone:
            state = str(gone)
        if state != RUNNING:
            yield Difference(f"node {node.name}", f"its container is {state}")


def _manifests(site: Site) -> Iterator[Difference]:
    for node in site.planes:
        there = site.run(node, "ls", MANIFESTS).stdout.split()
        for name in PORTS:
            if f"{name}.yaml" not in there:
                yield Difference(f"{name} on {node}", f"its manifest is not in {MANIFESTS}")


def _nodes(site: Site) -> Iterator[Difference]:
    leases = {
        one["metadata"]["name"]: one["spec"].get("renewTime") or ""
        for one in site.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")["items"]
    }
    there = {one["metadata"]["name"]: one for one in site.get("/api/v1/nodes")["items"]}
    for node in (one.name for one in site.cluster.nodes):
        if node not in there:
            yield Difference(f"node {node}", "it is not registered")
        elif seen := complaint(there[node]) or _stale(leases.get(node, "")):
            yield Difference(f"node {node}", seen)


def _stale(renewed: str) -> str:
    """The kubelet's clock is this machine's: a kind node is a container."""
    if not renewed:
        return "its Lease was never renewed"
    age = (datetime.now(UTC) - datetime.fromisoformat(renewed.replace("Z", "+00:00"))).total_seconds()
    return f"its Lease was last renewed {age:.0f} s ago" if age > FRESH_SECONDS else ""


def _static_pods(site: Site) -> Iterator[Difference]:
    pods = {one["metadata"]["name"]: one for one in site.get(f"/api/v1/namespaces/{SYSTEM}/pods")["items"]}
    for node in site.planes:
        for name in PORTS:
            pod = pods.get(f"{name}-{node}")
            if pod is None:
                yield Difference(f"{name} on {node}", "its mirror pod is not there")
            elif not kubewords.is_ready(pod):
                yield Difference(f"{name} on {node}", "its pod is not ready")


def _workloads(site: Site, kind: str) -> Iterator[Difference]:
    for one in site.get(f"/apis/apps/v1/{kind}")["items"]:
        place = one["metadata"]["namespace"]
        if place not in (SYSTEM, *ADDONS):
            continue
        status, spec = one.get("status", {}), one["spec"]
        wanted = status.get("desiredNumberScheduled") if kind == "daemonsets" else spec.get("replicas")
        ready = status.get("numberReady") if kind == "daemonsets" else status.get("readyReplicas")
        observed = (status.get("observedGeneration") or 0) >= (one["metadata"].get("generation") or 0)
        if not observed or not wanted or (ready or 0) < wanted:
            yield Difference(
                f"{kind[:-1]} {place}/{one['metadata']['name']}", f"{ready or 0}/{wanted or 0} ready"
            )
