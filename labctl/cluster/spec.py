"""What a cluster is asked to be.

One frozen object for all that `labctl up` is told, whether by a file or by flags. It knows
neither YAML nor docker: reading a file is labctl.cluster.file.specfile's work, and what of this runs
already is labctl.cluster.running's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl import paths
from labctl.network import addons
from labctl.network.addon import NETWORK, SERVICE_PROXY, Addon, Provision
from labctl.network.kubeadm import KUBE_PROXY, NONE

NAME = paths.CLUSTER_NAME

NAME_RULE = "a lower-case letter, then letters, digits and inner dashes, at most 32 characters"

CNIS = tuple(addons.CNIS)
LOAD_BALANCERS = tuple(addons.LOAD_BALANCERS)
PROXY_MODES = ("iptables", "nftables", "ipvs", "none")
"""kind's ``kubeProxyMode``: how kube-proxy serves Services, or that it is left out."""

CONTROL_PLANES = (1, 3)
"""One, or three for etcd's majority; more teach nothing and two are worse than one."""
WORKERS_MOST = 20
"""Tried: 20 workers on two cores."""

POD_SUBNET = "10.244.0.0/16"
SERVICE_SUBNET = "10.96.0.0/16"
NODE_PREFIX = 24
"""The controller manager cuts a network of this size for each node out of the pods' addresses."""


@dataclass(frozen=True)
class ClusterSpec:
    """A cluster as it is wanted. ``kind`` is kind's own v1alpha4 configuration, merged in last."""

    name: str = "labctl"
    control_planes: int = 1
    workers: int = 2
    cni: str = "flannel"
    load_balancer: str = "metallb"
    kind: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """How many nodes that is."""
        return self.control_planes + self.workers

    @property
    def roles(self) -> tuple[str, ...]:
        """Each node's role in kind's words; kind's own settings for nodes go by this order."""
        return ("control-plane",) * self.control_planes + ("worker",) * self.workers

    @property
    def pod_prefix_most(self) -> int:
        """The longest prefix of the pods' addresses in which each node finds its own /24."""
        return NODE_PREFIX - (self.nodes - 1).bit_length()

    @property
    def pod_subnet(self) -> str:
        """The pods' addresses, in CIDR notation."""
        return str(self._networking().get("podSubnet") or POD_SUBNET)

    @property
    def service_subnet(self) -> str:
        """The Services' addresses, in CIDR notation."""
        return str(self._networking().get("serviceSubnet") or SERVICE_SUBNET)

    @property
    def proxy_mode(self) -> str:
        """How kube-proxy serves Services, one of `PROXY_MODES`."""
        return str(self._networking().get("kubeProxyMode") or PROXY_MODES[0])

    def _networking(self) -> Mapping[str, Any]:
        networking = self.kind.get("networking")
        return networking if isinstance(networking, Mapping) else {}

    @property
    def api_server(self) -> str:
        """The host name by which nodes reach the API server: the control plane, or kind's balancer before three."""
        return f"{self.name}-{'control-plane' if self.control_planes == 1 else 'external-load-balancer'}"

    @property
    def addons(self) -> tuple[Addon, ...]:
        """What labctl sees to, in the order of installation: its CNI plugin and its load balancer."""
        return addons.cni(self.cni), addons.load_balancer(self.load_balancer)

    @property
    def service_proxy(self) -> Addon | None:
        """What serves Services; None where nobody does."""
        own = next((one for one in self.addons if SERVICE_PROXY in one.provides), None)
        return own or (None if self.proxy_mode == "none" else KUBE_PROXY)

    def provides(self, what: Provision) -> bool:
        """Whether one of its addons provides that."""
        return any(what in one.provides for one in self.addons)

    def node_names(self) -> tuple[str, ...]:
        """The names that kind gives to the nodes and their containers, control planes first."""
        return (
            *_numbered(f"{self.name}-control-plane", self.control_planes),
            *_numbered(f"{self.name}-worker", self.workers),
        )

    def difference(self, other: ClusterSpec) -> tuple[str, ...]:
        """What sets this spec apart from ``other``, one readable line per property; empty when they agree.

        The name is not compared. A line reads "workers: 2 here, 3 there".
        """
        mine, theirs = self.as_json(), other.as_json()
        return tuple(
            f"{key}: {_shown(mine[key])} asked for, {_shown(theirs[key])} there"
            for key in mine
            if key != "name" and mine[key] != theirs[key]
        )

    def as_json(self) -> dict[str, Any]:
        """The spec as JSON-able data, with the keys of a cluster file's own words."""
        return {
            "name": self.name,
            "controlPlanes": self.control_planes,
            "workers": self.workers,
            "cni": self.cni,
            "loadBalancer": self.load_balancer,
            "kindConfig": json.loads(json.dumps(dict(self.kind))),
        }


def from_json(data: Mapping[str, Any]) -> ClusterSpec:
    """The inverse of `ClusterSpec.as_json`; raises KeyError, TypeError or ValueError on anything else."""
    kind = data["kindConfig"]
    if not isinstance(kind, Mapping) or not isinstance(data["name"], str) or not NAME.fullmatch(data["name"]):
        raise ValueError("not a cluster spec")
    return ClusterSpec(
        name=data["name"],
        control_planes=int(data["controlPlanes"]),
        workers=int(data["workers"]),
        cni=str(data["cni"]),
        load_balancer=str(data["loadBalancer"]),
        kind=dict(kind),
    )


def _numbered(stem: str, count: int) -> tuple[str, ...]:
    """kind's way to number: the first node has no number, the second is 2."""
    return tuple(stem if number == 1 else f"{stem}{number}" for number in range(1, count + 1))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def complaints(spec: ClusterSpec) -> tuple[str, ...]:
    """What no cluster can be, in words; empty for a spec that can be made."""
    checks = (
        (NAME.fullmatch(spec.name), f"name {spec.name!r}: {NAME_RULE}"),
        (spec.control_planes in CONTROL_PLANES, f"{spec.control_planes} control planes: 1 or 3"),
        (0 <= spec.workers <= WORKERS_MOST, f"{spec.workers} workers: 0 to {WORKERS_MOST}"),
        (spec.cni in addons.CNIS, f"CNI {spec.cni!r}: {' or '.join(CNIS)}"),
        (
            spec.load_balancer in addons.LOAD_BALANCERS,
            f"load balancer {spec.load_balancer!r}: {' or '.join(LOAD_BALANCERS)}",
        ),
        (
            spec.provides(NETWORK) or spec.load_balancer == NONE.name,
            "a load balancer without a CNI plugin: its controller could not start",
        ),
        (
            spec.service_proxy or not spec.provides(NETWORK),
            f"kubeProxyMode none: nothing would serve Services, for {spec.cni} does not",
        ),
        *_of_nodes(spec),
    )
    return tuple(text for holds, text in checks if not holds)


def _of_nodes(spec: ClusterSpec) -> Iterator[tuple[bool, str]]:
    """What kind's own settings say of nodes: an option may have changed how many there are since the file was read."""
    listed = spec.kind.get("nodes") or ()
    yield len(listed) <= spec.nodes, f"kindConfig tells of {len(listed)} nodes, the cluster has {spec.nodes}"
    for at, (node, role) in enumerate(zip(listed, spec.roles, strict=False), start=1):
        told = node.get("role") or role
        yield told == role, f"kindConfig calls node {at} a {told}, and it is a {role}"
    prefix = int(spec.pod_subnet.rpartition("/")[2])
    yield (
        prefix <= spec.pod_prefix_most,
        f"podSubnet {spec.pod_subnet}: no /{NODE_PREFIX} for each of {spec.nodes} nodes",
    )
