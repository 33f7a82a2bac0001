"""Advice that several labs give: what usually is wrong when a Service or a name does not work.

Each looks at the cluster's state and returns a sentence, or None when it finds nothing; those that need a
name are made with it: ``lab.hint(advice.endpoints("web"))``. Advice explains a failed check; it decides none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labctl import kubewords
from labctl.probe.outside import outside_server

if TYPE_CHECKING:
    from labctl.lab.handle import Cluster

SYSTEM = "kube-system"

Advice = Callable[["Cluster"], "str | None"]


def kube_proxy(k8s: Cluster) -> str | None:
    """kube-proxy runs on every node, or nobody turns Services into packet rules.

    Where there is no kube-proxy at all, somebody else serves Services and this advice has nothing to say.
    """
    there = k8s.apps.list_namespaced_daemon_set(namespace=SYSTEM, field_selector="metadata.name=kube-proxy")
    if not there.items:
        return None
    pods: list[Any] = k8s.core.list_namespaced_pod(
        namespace=SYSTEM, label_selector="k8s-app=kube-proxy"
    ).items
    covered = {pod.spec.node_name for pod in pods if kubewords.is_ready(pod)}
    missing = [node for node in k8s.nodes if node not in covered]
    if not missing:
        return None
    return f"kube-proxy does not run on {', '.join(missing)}: new Services get no packet rules there"


def dns(k8s: Cluster) -> str | None:
    """CoreDNS has a ready pod, or names do not resolve."""
    pods = k8s.core.list_namespaced_pod(namespace=SYSTEM, label_selector="k8s-app=kube-dns").items
    if any(kubewords.is_ready(pod) for pod in pods):
        return None
    return f"CoreDNS has {len(pods)} pod(s) and none is ready: names do not resolve, addresses still work"


def endpoints(service: str, *, namespace: str = "") -> Advice:
    """A Service's selector finds ready pods, or there is nobody to answer for it. ``namespace`` may be the
    lab's own name for one."""

    def advise(k8s: Cluster) -> str | None:
        where = k8s.where(namespace)
        found: list[Any] = k8s.core.list_namespaced_service(
            namespace=where, field_selector=f"metadata.name={service}"
        ).items
        if not found:
            return f"namespace {where} has no Service {service}; run the lab again"
        if k8s.endpoints_of(service, namespace=where) or not found[0].spec.selector:
            return None
        selector = ",".join(f"{key}={value}" for key, value in found[0].spec.selector.items())
        labels = sorted(
            {f"app={(pod.metadata.labels or {}).get('app', '')}" for pod in k8s.pods(namespace=where)}
        )
        return (
            f"Service {service} has 0 ready endpoints: its selector is {selector}, "
            f"the pods carry {', '.join(labels) or 'nothing, there are none'}"
        )

    return advise


def pods_exist(*names: str) -> Advice:
    """Each of these pods exists, or the lab has to run again."""

    def advise(k8s: Cluster) -> str | None:
        missing = sorted(set(names) - {str(pod.metadata.name) for pod in k8s.pods()})
        return f"missing: {', '.join(missing)}; run the lab again" if missing else None

    return advise


def claim_is_bound(name: str) -> Advice:
    """A claim for storage without a volume: nobody made one."""

    def advise(k8s: Cluster) -> str | None:
        found: Any = k8s.core.read_namespaced_persistent_volume_claim(name=name, namespace=k8s.namespace)
        if found.status.phase == "Bound":
            return None
        classes: list[Any] = k8s.storage.list_storage_class().items
        wanted = found.spec.storage_class_name or "the default one, and there is none"
        return (
            f"claim {name} is {found.status.phase}: it wants storage class {wanted}; "
            f"there are: {', '.join(one.metadata.name for one in classes) or 'none'}"
        )

    return advise


def announced(service: str) -> Advice:
    """An address in a Service's status is a promise; the answer to "who has it?" is the fact."""

    def advise(k8s: Cluster) -> str | None:
        address = k8s.outside_address_of(service)
        if k8s.outside.neighbour(address):
            return None
        return f"nobody on the nodes' network says that {address} is its own: the status is only a claim"

    return advise


def pods_reach_this_machine(client: str) -> Advice:
    """The pods' packets arrive with a node's address; a firewall of this machine may not like them."""

    def advise(k8s: Cluster) -> str | None:
        with outside_server(k8s.this_machine, body="x") as server:
            if k8s.probe(client).dial(server.address, server.port, request="x").open:
                return None
        return f"this machine does not accept calls from the nodes to {server.address}: look at its firewall"

    return advise
