"""Putting a CNI plugin and a load balancer onto a cluster.

Everything goes through a node's container, so that it can start as soon as the API server
answers there, while other nodes are still joining. Waiting for the result is not done here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from labctl.errors import CommandFailed
from labctl.images import manifests, workloads
from labctl.images.node import NodeImage
from labctl.network import programs
from labctl.network.base import LoadBalancer, NetworkPlugin, NodeFacts
from labctl.network.pool import Pool
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.tools.kubectl import NodeKubectl
from labctl.waiting import NotYet, until

ESTABLISHED_SECONDS = 60
APPLY_SECONDS = 60.0

PASSING = re.compile(
    r"connection refused|handshake timeout|i/o timeout|etcdserver|unexpected EOF|connection reset"
    r"|currently unable to handle|failed calling webhook|ensure CRDs are installed|not yet ready",
    re.IGNORECASE,
)
"""What a young API server answers that will pass."""


@dataclass(frozen=True)
class Site:
    """The cluster to install on: its node containers, kubectl in one of them, and what manifests are fitted to."""

    docker: Docker
    nodes: tuple[str, ...]
    kubectl: NodeKubectl
    image: NodeImage
    facts: NodeFacts


def plugin(plugin: NetworkPlugin, site: Site, progress: Progress) -> None:
    """Bring a CNI plugin's programs and images onto the nodes, then apply its manifest."""
    if not plugin.upstream:
        return
    upstream = manifests.text(plugin.upstream, site.docker, site.image, progress)
    here = programs.ensure(plugin.programs, site.docker, site.nodes, progress)
    facts = replace(site.facts, programs=here)
    _images(site, plugin.images(facts), progress)
    _apply(site.kubectl, plugin.manifest(upstream, facts))


def load_balancer(balancer: LoadBalancer, site: Site, pool: Callable[[], Pool], progress: Progress) -> None:
    """The same for a load balancer, and give it its pool."""
    if not balancer.upstream:
        return
    upstream = manifests.text(balancer.upstream, site.docker, site.image, progress)
    _images(site, balancer.images(), progress)
    _apply(site.kubectl, balancer.manifest(upstream, site.facts))
    names = [f"crd/{name}" for name in balancer.definitions]
    wait = ["wait", "--for=condition=Established", f"--timeout={ESTABLISHED_SECONDS}s", *names]
    site.kubectl.run(wait, timeout=ESTABLISHED_SECONDS + 10)
    _apply(site.kubectl, balancer.pool(pool()))


def _apply(kubectl: NodeKubectl, text: str) -> None:
    """Apply, again and again while the API server says that it is not in order yet."""

    def attempt() -> None:
        try:
            kubectl.apply(text)
        except CommandFailed as failed:
            if PASSING.search(failed.stderr):
                raise NotYet(failed.why) from failed
            raise

    until(attempt, what="applying a manifest", within=APPLY_SECONDS, every=1.0)


def _images(site: Site, names: Sequence[str], progress: Progress) -> None:
    if site.image.origin != "built":  # one that labctl built carries them all
        workloads.ensure(site.docker, site.nodes, [workloads.reference(name) for name in names], progress)
