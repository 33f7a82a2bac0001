"""What the checks of one examination share, so that each thing is asked once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from labctl.errors import LabctlError
from labctl.host import startprobe
from labctl.host.finding import Needs
from labctl.host.machine import Machine
from labctl.tools.docker import Container, Docker, Network
from labctl.tools.kind import CLUSTER_LABEL


class Checkup:
    """One look at the machine. Everything that asks docker may raise `HostError` and its children."""

    def __init__(self, needs: Needs, docker: Docker, machine: Machine) -> None:
        self.needs = needs
        self.docker = docker
        self.machine = machine

    @cached_property
    def docker_error(self) -> LabctlError | None:
        """Why docker cannot be used; None when it answers."""
        try:
            self.server_version = self.docker.version()
            _ = self.info  # podman gives a version as docker does, and is told apart by this
        except LabctlError as error:
            return error
        return None

    @property
    def docker_answers(self) -> bool:
        """Whether the checks that ask docker can look at all."""
        return self.docker_error is None

    @cached_property
    def info(self) -> dict[str, Any]:
        """``docker info``."""
        return self.docker.info()

    @cached_property
    def containers(self) -> list[Container]:
        """All containers in all states."""
        return self.docker.containers()

    @cached_property
    def networks(self) -> list[Network]:
        """All docker networks."""
        return self.docker.networks()

    @property
    def node_runs(self) -> bool:
        """Whether a node of some kind cluster runs: then no more proof is needed that one can."""
        return any(CLUSTER_LABEL in one.labels and one.state == "running" for one in self.containers)

    @cached_property
    def start_error(self) -> LabctlError | None:
        """Why a privileged container does not start; None when it does, or nothing here can try."""
        if self.node_runs:
            return None
        architecture = str(self.info.get("Architecture", ""))
        if not startprobe.supported(architecture):
            return None
        return startprobe.start(self.docker, architecture)

    @cached_property
    def present_image(self) -> str | None:
        """The first of the needed node images that is here."""
        return next((name for name in self.needs.images if self.docker.image(name)), None)
