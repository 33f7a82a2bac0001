"""Is the cluster itself well? Asked before a lab is blamed for what a dead node did.

Docker is asked first, because it knows within milliseconds what the API server notices after
most of a minute; then the API server about its nodes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from labctl import kubewords
from labctl.cluster.absence.kinds import Absence
from labctl.cluster.running import RunningCluster, require_nodes
from labctl.errors import NodeDown
from labctl.kube import Kube
from labctl.tools.docker import Docker

EVERY_SECONDS = 3.0
"""Between two questions to docker while a check is polled; each takes some 50 ms."""


class Guard:
    """Raises `NodeDown` when a node of ``cluster`` is away and nobody said that it would be.

    ``excused`` holds what the labs under way have taken away themselves, see `expecting`.
    """

    def __init__(self, kube: Kube, cluster: RunningCluster, docker: Docker | None) -> None:
        self._kube = kube
        self._cluster = cluster
        self._docker = docker
        self._asked = float("-inf")
        self._expected: list[Callable[[], Collection[Absence]]] = []

    @property
    def excused(self) -> frozenset[Absence]:
        """The absences that are expected at this moment."""
        return frozenset(one for ask in self._expected for one in ask())

    @contextlib.contextmanager
    def expecting(self, absences: Callable[[], Collection[Absence]]) -> Iterator[None]:
        """A block in which what ``absences`` names, asked each time, is no surprise."""
        self._expected.append(absences)
        try:
            yield
        finally:
            self._expected.remove(absences)

    def glance(self) -> None:
        """Ask docker, but not more often than every `EVERY_SECONDS`."""
        if time.monotonic() - self._asked >= EVERY_SECONDS:
            self.ask_docker()

    def ask_docker(self) -> None:
        """Ask docker now, where there is access to the nodes."""
        if self._docker is None:
            return
        down = {node for one in self.excused for node in one.down}
        require_nodes(self._cluster, docker=self._docker, but=down)
        self._asked = time.monotonic()

    def ask(self) -> None:
        """Ask docker, then the API server (unless it is away itself) whether every node is Ready."""
        self.ask_docker()
        excused = self.excused
        planes = tuple(node.name for node in self._cluster.control_planes)
        if any(one.silences_api(planes) for one in excused):
            return
        with self._kube.translated("list the nodes"):
            nodes: list[Any] = self._kube.core.list_node().items
        expected = {node for one in excused for node in one.unready}
        unready = [str(one.metadata.name) for one in nodes if not kubewords.is_ready(one)]
        if missed := [name for name in unready if name not in expected]:
            raise NodeDown(
                f"{len(missed)} node(s) of cluster {self._cluster.name} are not Ready",
                why=", ".join(missed),
                next_step=f"`labctl status {self._cluster.name}` says why",
            )
