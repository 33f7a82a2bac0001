"""No CNI plugin, no load balancer: for those who want to install their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.network.base import LoadBalancer, NetworkPlugin, NodeFacts, Workload
from labctl.network.pool import Pool


class NoPlugin(NetworkPlugin):
    """Nodes without a pod network; they stay NotReady until somebody installs one."""

    name = "none"
    upstream = ""
    programs: tuple[str, ...] = ()
    enforces: frozenset[str] = frozenset()
    kind_settings: Mapping[str, Any] = {"networking": {"disableDefaultCNI": True}}
    ready_when: tuple[Workload, ...] = ()

    def images(self, facts: NodeFacts) -> tuple[str, ...]:  # noqa: ARG002  # the interface's
        """None."""
        return ()

    def manifest(self, upstream: str, facts: NodeFacts) -> str:  # noqa: ARG002  # the interface's
        """Nothing to apply."""
        return ""


class NoLoadBalancer(LoadBalancer):
    """Services of type LoadBalancer wait for an address for ever."""

    name = "none"
    upstream = ""
    ready_when: tuple[Workload, ...] = ()
    definitions: tuple[str, ...] = ()

    def images(self) -> tuple[str, ...]:
        """None."""
        return ()

    def manifest(self, upstream: str, facts: NodeFacts) -> str:  # noqa: ARG002  # the interface's
        """Nothing to apply."""
        return ""

    def pool(self, pool: Pool) -> str:  # noqa: ARG002  # the interface's
        """Nothing to apply."""
        return ""
