"""What an addon is: a CNI plugin, a load balancer, or a part that kubeadm or the node image brings along.

Each is one frozen description in a short module. It says aloud what the cluster has through it, where
its manifest comes from, what is changed in it, what the nodes must have first, and which workloads
tell that it is ready. Installing and waiting is done elsewhere, once for all (labctl.network.install,
labctl.cluster.readiness). Nothing here talks to a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from labctl.network.pool import Pool

if TYPE_CHECKING:
    from labctl.network.site import InstallSite
    from labctl.progress import Progress

Provision = Literal["network", "policy", "load balancer", "service proxy", "DNS"]
"""What a cluster can have through an addon. ``network``: pods reach each other. ``policy``: NetworkPolicies are
enforced. ``load balancer``: Services of that type get an address that answers. ``service proxy``: ClusterIPs and
NodePorts answer. ``DNS``: their names do."""

NETWORK: Provision = "network"
POLICY: Provision = "policy"
LOAD_BALANCER: Provision = "load balancer"
SERVICE_PROXY: Provision = "service proxy"
DNS: Provision = "DNS"


@dataclass(frozen=True)
class Workload:
    """Something that runs in the cluster and whose readiness can be read from its status."""

    kind: Literal["DaemonSet", "Deployment"]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Facts:
    """What a manifest may have to be fitted to.

    ``api_server`` is the name by which nodes reach the API server (port 6443) before anything serves its
    Service; ``programs`` are the CNI programs that every node has in /opt/cni/bin; ``pool`` is what a load
    balancer may hand out, None where the cluster has none.
    """

    pod_subnet: str
    api_server: str = ""
    programs: frozenset[str] = frozenset()
    pool: Pool | None = None


@dataclass(frozen=True)
class Requirement:
    """What must be true of objects before the next phase: ``kubectl wait --for=condition=TYPE OBJECTS``."""

    type: str
    objects: tuple[str, ...]


def established(*definitions: str) -> Requirement:
    """The CustomResourceDefinitions of these names can be used."""
    return Requirement("Established", tuple(f"crd/{name}" for name in definitions))


def _unchanged(upstream: str, _: Facts) -> str:
    return upstream


@dataclass(frozen=True)
class Phase:
    """Objects that are applied together, and what must be true of them before the next phase begins.

    ``objects`` makes them, as YAML, from upstream's manifest and the facts.
    """

    objects: Callable[[str, Facts], str] = _unchanged
    then: Requirement | None = None


Source = Callable[["InstallSite", "Progress"], str]
"""Gets a manifest as YAML: a locked file of the project's module (`labctl.network.install.upstream`), or what
an addon's own module makes of the site, such as a chart rendered in a node."""

Images = Callable[[Facts], tuple[str, ...]]


def _no_images(_: Facts) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Addon:
    """An addon. ``phases`` without ``source`` are made from the facts alone.

    Without phases there is nothing for labctl to apply: kubeadm, kind or the node image installs it from a
    file of its own. It is waited for and proven all the same: what it provides is said, not inferred.
    """

    name: str
    provides: frozenset[Provision]
    ready_when: tuple[Workload, ...] = ()
    """It is ready when these are."""
    source: Source | None = None
    phases: tuple[Phase, ...] = ()
    programs: tuple[str, ...] = ()
    """The programs that must be in /opt/cni/bin of every node first."""
    images: Images = _no_images
    """The images that the nodes need, by their names in the lock file."""
    node_ranges: bool = False
    """Whether pods get their addresses from their node's spec.podCIDRs; some CNI plugins keep ranges of their own."""
    kind_settings: Mapping[str, Any] = field(default_factory=dict)
    """What kind must be told for it, beyond labctl's own: by default kind installs no CNI plugin."""
