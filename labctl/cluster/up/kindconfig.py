"""A `ClusterSpec` as plain kind configuration.

What comes out can be given to kind itself: nobody is locked in. The machine's own needs
(cgroup v1, a missing capability) are an argument, so that rendering asks nobody anything.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.cluster import shared
from labctl.cluster.file import kindports, yamlfile
from labctl.cluster.spec import ClusterSpec

LOOPBACK = str(kindports.LOOPBACK)

OOM_PATCH = '[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n'
"""For kind's containerd configuration, whose format is version 2."""


@dataclass(frozen=True)
class MachineNeeds:
    """What this machine forces on the nodes: ``cgroup_v1``, and no ``oom_score_adj`` below our own."""

    cgroup_v1: bool = False
    restrict_oom_score_adj: bool = False


def config(
    spec: ClusterSpec,
    needs: MachineNeeds | None = None,
    *,
    image: str = "",
    shared_directory: str = "",
) -> dict[str, Any]:
    """kind's v1alpha4 configuration as data. ``shared_directory`` of this machine is mounted into every node."""
    needs = needs or MachineNeeds()
    base: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": spec.name,
        "networking": {
            "apiServerAddress": LOOPBACK,
            "disableDefaultCNI": True,  # kind installs one only for an addon that says so
            "podSubnet": spec.pod_subnet,
            "serviceSubnet": spec.service_subnet,
        },
        "nodes": [_node(role, image, shared_directory) for role in spec.roles],
    }
    if needs.cgroup_v1:
        # Without an apiVersion: kind drops a patch of another version without a word.
        base["kubeadmConfigPatches"] = [
            yamlfile.dump({"kind": "KubeletConfiguration", "failCgroupV1": False})
        ]
    if needs.restrict_oom_score_adj:
        base["containerdConfigPatches"] = [OOM_PATCH]
    for addon in spec.addons:
        base = merge(base, addon.kind_settings)
    merged = merge(base, spec.kind)
    _close_ports(merged)
    return merged


def render(spec: ClusterSpec, needs: MachineNeeds | None = None, **more: Any) -> str:
    """The same as YAML."""
    return yamlfile.dump(config(spec, needs, **more))


def merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``extra`` merged in last.

    Mappings merge by key and ``nodes`` by position, patches and mounts are added, anything else is replaced.
    """
    out = copy.deepcopy(dict(base))
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merge(out[key], value)
        elif key == "nodes":
            out[key] = [
                merge(mine, value[at]) if at < len(value) else mine
                for at, mine in enumerate(out.get(key, []))
            ]
        elif ("Patches" in key or key == "extraMounts") and isinstance(out.get(key), list):
            out[key] = [*out[key], *copy.deepcopy(value)]
        else:
            out[key] = copy.deepcopy(value)
    return out


def host_ports(spec: ClusterSpec) -> tuple[tuple[int, str, str], ...]:
    """The fixed ports of this machine that the cluster will listen on, as (port, address, protocol)."""
    rendered = config(spec)
    api = int(rendered["networking"].get("apiServerPort") or 0)
    found = [(api, LOOPBACK, "tcp")] if api else []
    for node in rendered["nodes"]:
        for port in node.get("extraPortMappings") or ():
            if port.get("hostPort"):
                protocol = str(port.get("protocol") or "TCP").lower()
                found.append((int(port["hostPort"]), str(port["listenAddress"]), protocol))
    return tuple(found)


def _node(role: str, image: str, shared_directory: str) -> dict[str, Any]:
    node: dict[str, Any] = {"role": role}
    if shared_directory:
        node["extraMounts"] = shared.mounts(shared_directory)
    if image:
        node["image"] = image
    return node


def _close_ports(rendered: dict[str, Any]) -> None:
    """kind's default is to listen on every address; ours is this machine only."""
    for node in rendered["nodes"]:
        for port in node.get("extraPortMappings") or ():
            port.setdefault("listenAddress", LOOPBACK)
