"""What kubeadm installs on every cluster by itself, and what a cluster without an addon has: nothing."""

from __future__ import annotations

from labctl.network.addon import DNS, SERVICE_PROXY, Addon, Workload

KUBE_PROXY = Addon(
    name="kube-proxy",
    provides=frozenset({SERVICE_PROXY}),
    ready_when=(Workload("DaemonSet", "kube-system", "kube-proxy"),),
)
"""Serves Services, unless an addon does it itself or the cluster's kind settings leave it out."""

COREDNS = Addon(
    name="CoreDNS",
    provides=frozenset({DNS}),
    ready_when=(Workload("Deployment", "kube-system", "coredns"),),
)

NONE = Addon(name="none", provides=frozenset())
"""For those who want to install their own. It is known that nothing is there; another's cluster is unknown."""
