"""Whether a cluster has what a lab needs; where it has not, the lab is SKIP with the reason.

It answers from what is known of the cluster and from one connection attempt; it starts nothing on it.
"""

from __future__ import annotations

import contextlib
import socket

from labctl.cluster.running import RunningCluster
from labctl.lab.api import workers_needed
from labctl.network.addon import LOAD_BALANCER, POLICY

KUBELET_PORT = 10250
REACH_SECONDS = 3.0
"""On a docker bridge an answer takes less than a millisecond."""


def unmet(needs: tuple[str, ...], cluster: RunningCluster) -> str:
    """Why the cluster does not have what ``needs`` names, or an empty text."""
    return "; ".join(filter(None, (_unmet(need, cluster) for need in needs)))


def _unmet(need: str, cluster: RunningCluster) -> str:
    if wanted := workers_needed(need):
        found = len(cluster.workers)
        return f"needs {wanted} workers, the cluster has {found}" if found < wanted else ""
    if need == "node access":
        complete = len(cluster.containers) == len(cluster.nodes)
        return "" if complete else "needs access to the nodes, a kubeconfig alone gives none"
    if need == "load balancer":
        return _lacking(cluster.provides(LOAD_BALANCER), "needs a load balancer", "the cluster has none")
    if need == "NetworkPolicy":
        return _lacking(
            cluster.provides(POLICY), "needs NetworkPolicy", f"CNI {cluster.cni} does not enforce it"
        )
    return _unreachable(cluster)


def _lacking(has: bool | None, need: str, why: str) -> str:
    if has is None:
        why = "whether the cluster has it is not known"
    return "" if has else f"{need}, {why}"


def _unreachable(cluster: RunningCluster) -> str:
    """Docker Desktop, for one, hides the nodes' network from the machine."""
    for node in cluster.nodes:
        try:
            with contextlib.closing(socket.create_connection((node.address, KUBELET_PORT), REACH_SECONDS)):
                pass
        except OSError as failed:
            return f"needs nodes that this machine can reach; {node.name} ({node.address}): {failed}"
    return ""
