"""flannel: VXLAN between the nodes, the simplest plugin that makes a pod network.

Upstream's DaemonSet writes the CNI configuration in an init container, before flanneld has
written the node's subnet. The node turns Ready too early, its first pods fail, and the kubelet
backs off 13 s. Here the agent itself writes it, once the subnet is known. kind's own node image
lacks the `bridge` program that flannel delegates to.
"""

from __future__ import annotations

import json

from labctl.network.addon import NETWORK, Addon, Facts, Phase, Workload
from labctl.network.documents import Document, container, edit, pod_spec, reach_api_directly
from labctl.network.install import upstream

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


PROGRAM = "flannel"
"""flannel's own CNI program; a node image that labctl built carries it."""


def images(facts: Facts) -> tuple[str, ...]:
    """flanneld, and the image that brings flannel's CNI program where the nodes lack it."""
    return ("flannel",) if PROGRAM in facts.programs else ("flannel", "flannel-cni-plugin")


def objects(published: str, facts: Facts) -> str:
    """Ordered, with the pods' subnet, and without the installer where the program is there."""

    def change(document: Document) -> Document:
        if document["kind"] == "ConfigMap":
            network = json.loads(document["data"]["net-conf.json"])
            network["Network"] = facts.pod_subnet
            document["data"]["net-conf.json"] = json.dumps(network)
        if document["kind"] == "DaemonSet":
            spec = pod_spec(document)
            _order(spec, keep_installer=PROGRAM not in facts.programs)
            reach_api_directly(container(spec, "kube-flannel"), facts)
        return document

    return edit(published, change)


def _order(spec: Document, *, keep_installer: bool) -> None:
    dropped = {"install-cni"} if keep_installer else {"install-cni", "install-cni-plugin"}
    spec["initContainers"] = [one for one in spec["initContainers"] if one["name"] not in dropped]
    agent = container(spec, "kube-flannel")
    agent["volumeMounts"].append({"name": "cni", "mountPath": "/etc/cni/net.d"})
    agent["lifecycle"] = {"postStart": {"exec": {"command": ["sh", "-c", WRITE_CONFIGURATION]}}}


FLANNEL = Addon(
    name="flannel",
    provides=frozenset({NETWORK}),  # and no policy: every pod reaches every pod
    ready_when=(Workload("DaemonSet", "kube-flannel", "kube-flannel-ds"),),
    source=upstream("flannel"),
    phases=(Phase(objects),),
    programs=("bridge", "host-local", "portmap", "loopback"),
    images=images,
    node_ranges=True,
)
