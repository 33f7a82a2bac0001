"""The images that run on the nodes, and how a node gets one that it lacks.

A node image that labctl built holds them all; kind's own holds none of the network plugin,
the load balancer and the labs' probe. This module must not know what they are deployed for.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labctl.errors import ImageUnavailable
from labctl.images import lockfile
from labctl.progress import Progress
from labctl.tools.docker import Docker

PROBE = lockfile.load().image("probe").reference
"""agnhost: the program that every lab asks questions through."""

IMPORT_SECONDS = 300.0


def reference(name: str) -> str:
    """The reference of an image of the lock file (``flannel``, ``metallb-speaker``...); raises KeyError."""
    return lockfile.load().image(name).reference


def ensure(docker: Docker, nodes: Sequence[str], references: Sequence[str], progress: Progress) -> None:
    """Bring each image of ``references`` onto each of ``nodes`` (container names), and look that it is there.

    Does nothing on nodes that have them. Raises `ImageUnavailable` or a subclass when an image
    is neither on the node, nor on this machine, nor to be pulled.
    """
    lacking = {node: missing(docker, node, references) for node in nodes}
    wanted = [one for one in references if any(one in absent for absent in lacking.values())]
    if not wanted:
        return
    with progress.step("Load images onto the nodes") as step:
        for number, image in enumerate(wanted, 1):
            step.note(f"{number}/{len(wanted)}: {image}")
            if docker.image(image) is None:
                docker.pull(image)
            _import(docker, [node for node in nodes if image in lacking[node]], image)
        for node in nodes:
            if left := missing(docker, node, references):
                raise ImageUnavailable(
                    f"images did not arrive on node {node}",
                    why=", ".join(left),
                    next_step=f"look with `docker exec {node} crictl images`",
                )
        step.result(f"{len(wanted)} image(s), {len(nodes)} node(s)")


def missing(docker: Docker, node: str, references: Sequence[str]) -> tuple[str, ...]:
    """Those of ``references`` that the node's container runtime does not have."""
    answer = docker.exec(node, ["crictl", "images", "-o", "json"]).stdout
    known = {tag for image in json.loads(answer).get("images") or () for tag in image.get("repoTags") or ()}
    return tuple(one for one in references if one not in known)


def _import(docker: Docker, nodes: Sequence[str], image: str) -> None:
    """By archive through the node's own containerd: `kind load` fails with docker's newer image store."""
    with tempfile.TemporaryDirectory(prefix="labctl-") as directory:
        archive = Path(directory) / "image.tar"
        docker.save([image], archive)
        for node in nodes:
            docker.copy_in(node, archive, "/var/labctl-image.tar")
            try:
                docker.exec(
                    node,
                    ["ctr", "--namespace=k8s.io", "images", "import", "/var/labctl-image.tar"],
                    timeout=IMPORT_SECONDS,
                )
            finally:
                docker.exec(node, ["rm", "-f", "/var/labctl-image.tar"], check=False)
