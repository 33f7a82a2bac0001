"""Changes to upstream's manifests, document by document, for the addons' modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from labctl.network.addon import Facts

API_PORT = 6443
"""Where kubeadm's API servers listen, and kind's load balancer in front of several."""

Document = dict[str, Any]


def edit(upstream: str, change: Callable[[Document], Document | None]) -> str:
    """Every document of a manifest through ``change``, which returns it changed, or None to leave it out."""
    changed = (change(document) for document in yaml.safe_load_all(upstream) if document)
    return str(yaml.safe_dump_all([one for one in changed if one is not None], sort_keys=False))


def pod_spec(document: Document) -> Document:
    """The pod specification of a DaemonSet or Deployment document."""
    spec: Document = document["spec"]["template"]["spec"]
    return spec


def container(spec: Document, name: str) -> Document:
    """The container of that name in a pod specification; raises KeyError."""
    for one in spec["containers"]:
        if one["name"] == name:
            found: Document = one
            return found
    raise KeyError(name)


def reach_api_directly(container: Document, facts: Facts) -> None:
    """Let a container of the host network call the API server by its node's name, not through its Service.

    Until kube-proxy has run on a node the Service's address leads nowhere; what starts before it would
    fail and be held back by the kubelet for 10 s and more.
    """
    if facts.api_server:
        container.setdefault("env", []).extend(
            [
                {"name": "KUBERNETES_SERVICE_HOST", "value": facts.api_server},
                {"name": "KUBERNETES_SERVICE_PORT", "value": str(API_PORT)},
            ]
        )
