"""flannel: VXLAN between the nodes, the simplest plugin that makes a pod network.

Upstream's DaemonSet writes the CNI configuration in an init container, before flanneld has
written the node's subnet. The node turns Ready too early, its first pods fail, and the kubelet
backs off 13 s. Here the agent itself writes it, once the subnet is known. kind's own node image
lacks the `bridge` program that flannel delegates to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from labctl.network.base import (
    Document,
    NetworkPlugin,
    NodeFacts,
    Workload,
    container,
    edit,
    pod_spec,
    reach_api_directly,
)

SUBNET_FILE = "/run/flannel/subnet.env"
CONFIGURED = "/etc/cni/net.d/10-flannel.conflist"

WRITE_CONFIGURATION = f"""
for attempt in $(seq 600); do
  if [ -s {SUBNET_FILE} ]; then
    cp -f /etc/kube-flannel/cni-conf.json {CONFIGURED}.tmp && mv -f {CONFIGURED}.tmp {CONFIGURED} && exit 0
  fi
  sleep 0.2
done
echo "flanneld has not written {SUBNET_FILE}" >&2
exit 1
""".strip()
"""Runs in flannel's container as it starts; two minutes at most, then the kubelet starts it anew."""


class Flannel(NetworkPlugin):
    """The plugin. It enforces nothing: every pod reaches every pod."""

    name = "flannel"
    upstream = "flannel"
    programs = ("bridge", "host-local", "portmap", "loopback")
    enforces: frozenset[str] = frozenset()
    kind_settings: Mapping[str, Any] = {"networking": {"disableDefaultCNI": True}}
    ready_when = (Workload("DaemonSet", "kube-flannel", "kube-flannel-ds"),)

    def images(self, facts: NodeFacts) -> tuple[str, ...]:
        """flanneld, and the image that brings flannel's CNI program where the nodes lack it."""
        return ("flannel",) if "flannel" in facts.programs else ("flannel", "flannel-cni-plugin")

    def manifest(self, upstream: str, facts: NodeFacts) -> str:
        """Ordered, with the pods' subnet, and without the installer where the program is there."""

        def change(document: Document) -> Document:
            if document["kind"] == "ConfigMap":
                network = json.loads(document["data"]["net-conf.json"])
                network["Network"] = facts.pod_subnet
                document["data"]["net-conf.json"] = json.dumps(network)
            if document["kind"] == "DaemonSet":
                spec = pod_spec(document)
                _order(spec, keep_installer="flannel" not in facts.programs)
                reach_api_directly(container(spec, "kube-flannel"), facts)
            return document

        return edit(upstream, change)


def _order(spec: Document, *, keep_installer: bool) -> None:
    dropped = {"install-cni"} if keep_installer else {"install-cni", "install-cni-plugin"}
    spec["initContainers"] = [one for one in spec["initContainers"] if one["name"] not in dropped]
    agent = container(spec, "kube-flannel")
    agent["volumeMounts"].append({"name": "cni", "mountPath": "/etc/cni/net.d"})
    agent["lifecycle"] = {"postStart": {"exec": {"command": ["sh", "-c", WRITE_CONFIGURATION]}}}
