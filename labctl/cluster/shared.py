"""The directory that all nodes of a cluster share.

Real clusters have storage that several nodes reach; without it nothing can show a volume that
moves with its pod. Here it is a docker volume, mounted into every node at `PATH`: docker makes
it and docker removes it, so that nobody needs the right to delete what pods wrote.
"""

from __future__ import annotations

from typing import Any

from labctl.cluster.mark import CLUSTER, OWNER, Mark
from labctl.tools.docker import Docker

PATH = "/srv/labctl-shared"
"""Where each node has it."""


def volume(cluster: str) -> str:
    """The name of the docker volume of a cluster."""
    return f"labctl-shared-{cluster}"


def make(docker: Docker, mark: Mark) -> str:
    """Make the volume; returns its directory on the daemon's machine. Raises `CommandFailed`."""
    return docker.create_volume(volume(mark.cluster), {CLUSTER: mark.cluster, OWNER: mark.owner})


def mounts(directory: str) -> list[dict[str, Any]]:
    """kind's ``extraMounts`` of a node; none without a directory."""
    return [{"hostPath": directory, "containerPath": PATH}] if directory else []


def take_away(docker: Docker, cluster: str) -> None:
    """Remove the volume with what is in it; an absent one is no error. The nodes must be gone."""
    docker.remove_volume(volume(cluster))
