"""The words in which a lab's story is told: short ways to say what several labs need to say.

A part of the handle, in a module of its own because it knows only what the handle offers: API objects,
probes, memory. Nothing here decides whether a lab holds; a word that looks raises `CheckFailed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import InfrastructureError
from labctl.probe.bystander import Bystander

if TYPE_CHECKING:
    from labctl.cluster.running import RunningCluster
    from labctl.tools.docker import Docker


class Words:
    """What `labctl.lab.handle.Cluster` can say beyond the official client."""

    if TYPE_CHECKING:
        running: RunningCluster
        docker: Docker | None

    @property
    def bystander(self) -> Bystander:
        """A caller on the nodes' network that is no node; the lab says ``needs=["node access"]``."""
        containers = self.running.containers
        if self.docker is None or not containers:
            raise InfrastructureError(
                "nobody can stand beside the nodes",
                why="this cluster was reached through a kubeconfig only",
                next_step='say needs=["node access"] in the lab',
            )
        return Bystander(self.docker, containers[0])
