"""What a CNI plugin and a load balancer must say about themselves.

Each is one short module that declares: which upstream manifest it is, what is changed in it,
which programs and images the nodes must have before it is applied, what it can enforce, and
which workloads tell that it is ready. Applying and waiting is done elsewhere, once for all
(labctl.network.install, labctl.cluster.readiness). Nothing here talks to a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import yaml

from labctl.network.pool import Pool

NETWORK_POLICY = "NetworkPolicy"
"""The one thing besides reachability that the labs ask a CNI plugin to enforce."""


API_PORT = 6443
"""Where kubeadm's API servers listen, and kind's load balancer in front of several."""


@dataclass(frozen=True)
class Workload:
    """Something that runs in the cluster and whose readiness can be read from its status."""

    kind: Literal["DaemonSet", "Deployment"]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class NodeFacts:
    """What a manifest may have to be fitted to.

    ``api_server`` is the name by which nodes reach the API server (port 6443) before kube-proxy has made
    its Service work; ``programs`` are the CNI programs that every node has in /opt/cni/bin.
    """

    pod_subnet: str
    api_server: str = ""
    programs: frozenset[str] = field(default_factory=frozenset)


class NetworkPlugin(Protocol):
    """A CNI plugin."""

    name: str
    upstream: str
    """Its manifest's name for labctl.images.manifests; '' for a plugin that installs nothing."""
    programs: tuple[str, ...]
    """The programs that must be in /opt/cni/bin of every node first."""
    enforces: frozenset[str]
    """What it enforces besides reachability: `NETWORK_POLICY` or nothing."""
    kind_settings: Mapping[str, Any]
    """What kind must be told for it (``networking.disableDefaultCNI``, ``networking.kubeProxyMode``)."""
    ready_when: tuple[Workload, ...]
    """The cluster's network is ready when these are, and every node says so."""

    def images(self, facts: NodeFacts) -> tuple[str, ...]:
        """The images that the nodes need, by their names in the lock file."""

    def manifest(self, upstream: str, facts: NodeFacts) -> str:
        """The upstream manifest with our changes, as YAML to apply."""


class LoadBalancer(Protocol):
    """What gives Services of type LoadBalancer an address, and answers on it."""

    name: str
    upstream: str
    ready_when: tuple[Workload, ...]
    definitions: tuple[str, ...]
    """The CustomResourceDefinitions that must be established before `pool` can be applied."""

    def images(self) -> tuple[str, ...]:
        """The images that the nodes need, by their names in the lock file."""

    def manifest(self, upstream: str, facts: NodeFacts) -> str:
        """The upstream manifest with our changes, as YAML to apply."""

    def pool(self, pool: Pool) -> str:
        """The objects that make it use these addresses, as YAML to apply."""


Document = dict[str, Any]


def edit(upstream: str, change: Callable[[Document], Document | None]) -> str:
    """Every document of a manifest through ``change``, which returns it changed, or None to leave it out."""
    changed = (change(document) for document in yaml.safe_load_all(upstream) if document)
    return str(yaml.safe_dump_all([one for one in changed if one is not None], sort_keys=False))


def pod_spec(document: Document) -> Document:
    """The pod specification of a DaemonSet or Deployment document."""
    spec: Document = document["spec"]["template"]["spec"]
    return spec


def container(spec: Document, name: str) -> Document:
    """The container of that name in a pod specification; raises KeyError."""
    for one in spec["containers"]:
        if one["name"] == name:
            found: Document = one
            return found
    raise KeyError(name)


def reach_api_directly(container: Document, facts: NodeFacts) -> None:
    """Let a container of the host network call the API server by its node's name, not through its Service.

    Until kube-proxy has run on a node the Service's address leads nowhere; what starts before it would
    fail and be held back by the kubelet for 10 s and more.
    """
    if facts.api_server:
        container.setdefault("env", []).extend(
            [
                {"name": "KUBERNETES_SERVICE_HOST", "value": facts.api_server},
                {"name": "KUBERNETES_SERVICE_PORT", "value": str(API_PORT)},
            ]
        )
