"""Is the cluster itself well? Asked before a lab is blamed for what a dead node did.

Docker is asked first, because it knows within milliseconds what the API server notices after
most of a minute; then the API server about its nodes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from labctl.cluster.running import RunningCluster, require_nodes
from labctl.errors import NodeDown
from labctl.kube import Kube
from labctl.tools.docker import Docker

EVERY_SECONDS = 3.0
"""Between two questions to docker while a check is polled; each takes some 50 ms."""


class Guard:
    """Raises `NodeDown` when a node of ``cluster`` does not run.

    While ``excused`` a lab has taken something away itself, and nothing is asked.
    """

    def __init__(self, kube: Kube, cluster: RunningCluster, docker: Docker | None) -> None:
        self._kube = kube
        self._cluster = cluster
        self._docker = docker
        self._asked = float("-inf")
        self.excused = False

    @contextlib.contextmanager
    def excuse(self) -> Iterator[None]:
        """A block in which nothing is asked."""
        self.excused = True
        try:
            yield
        finally:
            self.excused = False

    def glance(self) -> None:
        """Ask docker, but not more often than every `EVERY_SECONDS`."""
        if time.monotonic() - self._asked >= EVERY_SECONDS:
            self.ask_docker()

    def ask_docker(self) -> None:
        """Ask docker now, where there is access to the nodes."""
        if self.excused or self._docker is None:
            return
        require_nodes(self._cluster, docker=self._docker)
        self._asked = time.monotonic()

    def ask(self) -> None:
        """Ask docker, then the API server whether every node is Ready."""
        self.ask_docker()
        if self.excused:
            return
        with self._kube.translated("list the nodes"):
            nodes: list[Any] = self._kube.core.list_node().items
        unready = [str(one.metadata.name) for one in nodes if not _is_ready(one)]
        if unready:
            raise NodeDown(
                f"{len(unready)} node(s) of cluster {self._cluster.name} are not Ready",
                why=", ".join(unready),
                next_step=f"`labctl status {self._cluster.name}` says why",
            )


def _is_ready(node: object) -> bool:
    conditions = getattr(getattr(node, "status", None), "conditions", None) or ()
    return any(one.type == "Ready" and one.status == "True" for one in conditions)
