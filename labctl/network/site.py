"""The cluster to install on, as far as installing needs to know it."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.images.node import NodeImage
from labctl.network.addon import Facts
from labctl.tools.docker import Docker
from labctl.tools.kubectl import NodeKubectl


@dataclass(frozen=True)
class InstallSite:
    """Its node containers, kubectl in one of them, their image, and what manifests are fitted to."""

    docker: Docker
    nodes: tuple[str, ...]
    kubectl: NodeKubectl
    image: NodeImage
    facts: Facts
