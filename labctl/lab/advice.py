"""Advice that several labs give: what usually is wrong when a Service or a name does not work.

Each function looks at the cluster's state and returns a sentence, or None when it finds nothing.
Advice explains a failed check; it never decides one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl import kubewords

if TYPE_CHECKING:
    from labctl.lab.handle import Cluster

SYSTEM = "kube-system"


def kube_proxy(k8s: Cluster) -> str | None:
    """kube-proxy runs on every node, or nobody turns Services into packet rules."""
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


def endpoints(k8s: Cluster, service: str, *, namespace: str = "") -> str | None:
    """A Service's selector finds ready pods, or there is nobody to answer for it."""
    where = k8s.where(namespace)
    found: list[Any] = k8s.core.list_namespaced_service(
        namespace=where, field_selector=f"metadata.name={service}"
    ).items
    if not found:
        return f"Service {service} does not exist; run the lab again"
    if count_ready(k8s, service, namespace=where) or not found[0].spec.selector:
        return None
    selector = ",".join(f"{key}={value}" for key, value in found[0].spec.selector.items())
    labels = sorted(
        {f"app={(pod.metadata.labels or {}).get('app', '')}" for pod in k8s.pods(namespace=where)}
    )
    return (
        f"Service {service} has 0 ready endpoints: its selector is {selector}, "
        f"the pods carry {', '.join(labels) or 'nothing, there are none'}"
    )


def count_ready(k8s: Cluster, service: str, *, namespace: str = "") -> int:
    """How many ready endpoints the EndpointSlices of a Service list."""
    return len(ready_addresses(k8s, service, namespace=namespace))


def ready_addresses(k8s: Cluster, service: str, *, namespace: str = "") -> set[str]:
    """The addresses of the ready endpoints that the EndpointSlices of a Service list."""
    slices = k8s.discovery.list_namespaced_endpoint_slice(
        namespace=k8s.where(namespace), label_selector=f"kubernetes.io/service-name={service}"
    ).items
    endpoints = [
        one for piece in slices for one in piece.endpoints or () if one.conditions and one.conditions.ready
    ]
    return {address for one in endpoints for address in one.addresses}
