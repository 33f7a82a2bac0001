"""What a bring-up knows so far: what it was asked for, what its steps found, and what it has left behind.

The steps share it. It must not know them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from labctl.cluster import running
from labctl.cluster.mark import Mark
from labctl.cluster.proof import ProofResult
from labctl.cluster.running import RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up.plan import Plan
from labctl.host.finding import Source
from labctl.images.node import NodeImage
from labctl.kube import Kube, connect
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.tools.kind import Kind
from labctl.waiting import Deadline

DEADLINE_SECONDS = 600.0
"""For everything after the node image is here. Usual: one minute; on a machine under load, three."""


@dataclass(frozen=True)
class Options:
    """How to bring up, as opposed to what. ``image`` names a node image instead of the locked one."""

    replace: bool = False
    force: bool = False
    skip_checks: tuple[str, ...] = ()
    image: str = ""
    source: Source = "auto"
    keep_on_failure: bool = False
    prove: bool = True
    bundle_directory: Path | None = None
    deadline: float = DEADLINE_SECONDS


@dataclass
class Left:
    """What a run leaves behind should it end now, and what kind said.

    ``marked``: the mark or a part of it is in docker. ``in_kind``: kind is at work, and containers may
    still appear. ``containers`` are docker's ids of the nodes that it made.
    """

    marked: bool = False
    in_kind: bool = False
    containers: tuple[str, ...] = ()
    said: list[str] = field(default_factory=list)


@dataclass
class Context:
    """One run. ``stop`` ends whatever runs in other threads; ``settle`` is how long to look for late containers
    of the former cluster, in seconds."""

    spec: ClusterSpec
    options: Options
    plan: Plan
    docker: Docker
    progress: Progress
    mark: Mark
    settle: float
    kind_program: Kind | None = None
    image: NodeImage | None = None
    proof: ProofResult | None = None
    left: Left = field(default_factory=Left)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.deadline = Deadline(self.options.deadline)

    @property
    def kind(self) -> Kind:
        """The kind program, looked for when it is needed."""
        self.kind_program = self.kind_program or Kind()
        return self.kind_program

    @cached_property
    def cluster(self) -> RunningCluster:
        """The cluster as docker shows it once its nodes are made; asked once."""
        return running.find(self.spec.name, docker=self.docker)

    @cached_property
    def kube(self) -> Kube:
        """The connection to its API server."""
        return connect(self.cluster.kubeconfig)

    def close(self) -> None:
        """Let go of connections."""
        if "kube" in self.__dict__:
            self.kube.close()
