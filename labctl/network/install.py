"""Putting a CNI plugin and a load balancer onto a cluster.

Everything goes through a node's container, so that it can start as soon as the API server
answers there, while other nodes are still joining. Waiting for the result is not done here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labctl.images import manifests, workloads
from labctl.images.nodeimage import NodeImage
from labctl.network import programs
from labctl.network.base import LoadBalancer, NetworkPlugin, NodeFacts
from labctl.network.pool import Pool
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.tools.kubectl import NodeKubectl

ESTABLISHED_SECONDS = 30


def plugin(
    plugin: NetworkPlugin,
    docker: Docker,
    nodes: Sequence[str],
    kubectl: NodeKubectl,
    image: NodeImage,
    pod_subnet: str,
    progress: Progress,
) -> None:
    """Bring a CNI plugin's programs and images onto ``nodes`` (containers), then apply its manifest."""
    if not plugin.upstream:
        return
    upstream = manifests.text(plugin.upstream, docker, image, progress)
    here = programs.ensure(plugin.programs, docker, nodes, progress)
    facts = NodeFacts(pod_subnet, here)
    _images(docker, nodes, image, plugin.images(facts), progress)
    kubectl.apply(plugin.manifest(upstream, facts))


def load_balancer(
    balancer: LoadBalancer,
    docker: Docker,
    nodes: Sequence[str],
    kubectl: NodeKubectl,
    image: NodeImage,
    pool: Callable[[], Pool],
    progress: Progress,
) -> None:
    """The same for a load balancer, and give it its pool."""
    if not balancer.upstream:
        return
    upstream = manifests.text(balancer.upstream, docker, image, progress)
    _images(docker, nodes, image, balancer.images(), progress)
    kubectl.apply(balancer.manifest(upstream))
    for name in balancer.definitions:
        wait = ["wait", "--for=condition=Established", f"--timeout={ESTABLISHED_SECONDS}s", f"crd/{name}"]
        kubectl.run(wait, timeout=ESTABLISHED_SECONDS + 10)
    kubectl.apply(balancer.pool(pool()))


def _images(
    docker: Docker, nodes: Sequence[str], image: NodeImage, names: Sequence[str], progress: Progress
) -> None:
    if image.origin != "built":  # one that labctl built carries them all
        workloads.ensure(docker, nodes, [workloads.reference(name) for name in names], progress)
