"""What a cluster file may say in kind's own words, under ``kindConfig``.

The table is kind's whole v1alpha4 type. labctl owns some of its settings (the default CNI, the address of the
API server, the node image), and some let a file reach into the machine (mounts, patches): those are for
files that the user vouches for with ``--allow-raw-kind``. What stands here is refused by kind, docker,
kubeadm or the kubelet, some of them only minutes later, or it would be dropped without a word. This module
judges; merging is labctl.cluster.up.kindconfig's.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any

from labctl.cluster import shared
from labctl.cluster.file import kindpatches, nodelabels
from labctl.cluster.file.kindports import check_ports, local
from labctl.cluster.file.shape import (
    Add,
    Flag,
    Judge,
    Listed,
    Mapped,
    Number,
    Struct,
    Text,
    child,
    items,
    shown,
    text,
)
from labctl.cluster.file.yamlfile import Entries, Items, Position, Tree
from labctl.cluster.spec import NODE_PREFIX, POD_SUBNET, PROXY_MODES, SERVICE_SUBNET, ClusterSpec

PORT_MOST = 65535
PORT_WHY = "; 0 lets kind choose a free one (-1, docker's own choice, is another after each restart)"

PATCH = Text(lines=True, allowed="a text: YAML in a block (|)")
PATCHES = Listed(PATCH, "a patch")
TARGETED = Listed(
    Struct(
        {
            "group": Text(),
            "version": Text(),
            "kind": Text(choices=tuple(kindpatches.VERSIONS)),
            "patch": PATCH,
        },
        "a JSON patch",
        required=("kind", "patch"),
    ),
    "a JSON patch",
)

PORT = Struct(
    {
        "containerPort": Number(1, PORT_MOST),
        "hostPort": Number(0, PORT_MOST, PORT_WHY),
        "listenAddress": Text(),
        "protocol": Text(choices=("TCP", "UDP", "SCTP"), any_case=True),
    },
    "a port mapping",
    required=("containerPort",),
)
MOUNT = Struct(
    {
        "containerPath": Text(),
        "hostPath": Text(),
        "readOnly": Flag(),
        "selinuxRelabel": Flag(),
        "propagation": Text(choices=("None", "HostToContainer", "Bidirectional")),
    },
    "a mount",
    required=("containerPath", "hostPath"),
)
ROLES = ("control-plane", "worker")
NODE = Struct(
    {
        "role": Text(choices=ROLES),
        "labels": Mapped(Text()),
        "extraPortMappings": Listed(PORT, "a port mapping"),
        "extraMounts": Listed(MOUNT, "a mount"),
        "kubeadmConfigPatches": PATCHES,
        "kubeadmConfigPatchesJSON6902": TARGETED,
    },
    "a node",
    raw=frozenset(("extraMounts", "kubeadmConfigPatches", "kubeadmConfigPatchesJSON6902")),
    owned={"image": "all nodes have one image: labctl's own, or that of the option --image"},
)
DOMAIN = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
NETWORKING = Struct(
    {
        "ipFamily": Text(
            holds=lambda value: value == "ipv4",
            allowed="ipv4: the addresses of labctl's CNI and load balancer, and its proof, are of this family",
        ),
        "apiServerPort": Number(0, PORT_MOST, PORT_WHY),
        "podSubnet": Text(),
        "serviceSubnet": Text(),
        "kubeProxyMode": Text(choices=PROXY_MODES),
        "dnsSearch": Listed(
            Text(holds=lambda value: DOMAIN.fullmatch(value) is not None, allowed="a domain: example.com"),
            "a domain to search",
        ),
    },
    "networking",
    owned={"disableDefaultCNI": "cni decides", "apiServerAddress": "it is always 127.0.0.1"},
)
GATE = Text(
    holds=lambda value: re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", value) is not None,
    allowed="a feature gate of Kubernetes: letters and digits",
)
API = Text(
    holds=lambda value: re.fullmatch(r"[a-z0-9.-]+(?:/[a-z0-9.-]+){0,2}", value) is not None,
    allowed="api/all, or an API group, version and resource: apps/v1, resource.k8s.io/v1beta1",
)
BLOCK = Struct(
    {
        "networking": NETWORKING,
        "featureGates": Mapped(Flag(), GATE),
        "runtimeConfig": Mapped(Text(choices=("true", "false"), quoted=True), API),
        "nodes": Listed(NODE, "a node"),
        "kubeadmConfigPatches": PATCHES,
        "kubeadmConfigPatchesJSON6902": TARGETED,
        "containerdConfigPatches": PATCHES,
        "containerdConfigPatchesJSON6902": PATCHES,
    },
    "kindConfig",
    raw=frozenset(
        f"{what}ConfigPatches{form}" for what in ("kubeadm", "containerd") for form in ("", "JSON6902")
    ),
    owned={
        "apiVersion": "labctl writes it",
        "kind": "labctl writes it",
        "name": "the name of the cluster file decides",
    },
)
"""kind's type, as far as labctl leaves it open."""

SERVICE_PREFIX = (12, 26)
"""kubeadm takes /12 and longer; beyond /26 few Services have room beside the two built in."""
POD_PREFIX_LEAST = 8
"""The controller manager divides a network by at most 2^16."""

TAKEN_PATHS = ("/", "/dev", "/lib/modules", "/proc", "/run", "/sys", "/tmp", "/var", shared.PATH)  # noqa: S108  # a node's
"""What docker, kind and labctl mount in every node: a second mount of that name is refused, or breaks it."""


def schema() -> dict[str, Any]:
    """The JSON Schema of the block."""
    return BLOCK.schema()


def check(block: Entries, spec: ClusterSpec, add: Add, *, allow_raw: bool, folder: Path | None) -> None:
    """Report every fault of the block of a cluster to ``add``.

    Relative mounts are looked for in ``folder``, the file's own; without one there are none.
    """
    BLOCK.check("kindConfig", block, Judge(add, allow_raw))
    _subnets(child(block, "networking"), spec, block.place, add)
    mode = text(child(child(block, "networking"), "kubeProxyMode"))
    more = kindpatches.added(block)
    _cluster_patches(block, mode, add, more)
    listed = child(block, "nodes")
    if isinstance(listed, Items) and len(listed.items) > spec.nodes:
        add(listed.place, "more nodes than the cluster has", str(len(listed.items)), f"at most {spec.nodes}")
    for at, node in enumerate(items(listed)[: spec.nodes]):
        _role(node, at, spec, add)
        _labels(child(node, "labels"), add)
        _mounts(node, folder, add)
        _node_patches(node, at, mode, add, more)
    check_ports(block, Judge(add, allow_raw))


def settle(kind: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """A checked block with its mounts' paths made absolute, so that it means the same wherever it is used."""
    for node in kind.get("nodes", ()):
        for mount in node.get("extraMounts", ()):
            mount["hostPath"] = _absolute(mount["hostPath"], folder)
    return kind


def _role(node: Tree, at: int, spec: ClusterSpec, add: Add) -> None:
    role, due = child(node, "role"), spec.roles[at]
    if role is not None and text(role) in ROLES and text(role) != due:
        counted = f"nodes: {{controlPlanes: {spec.control_planes}, workers: {spec.workers}}}"
        add(role.place, f"node {at + 1} is a {due}: they stand in order, control planes first", shown(role),
            f"{due}; the cluster file itself says how many there are: {counted}")  # fmt: skip


def _labels(labels: Tree | None, add: Add) -> None:
    for key, (place, value) in labels.entries.items() if isinstance(labels, Entries) else ():
        if wrong := nodelabels.key_fault(key):
            add(place, wrong, key, "a name of your own: tier, or example.com/tier")
        if not nodelabels.is_word(text(value) or ""):
            add(value.place, "this cannot be a label's value", shown(value), nodelabels.WORD_RULE)


def _mounts(node: Tree, folder: Path | None, add: Add) -> None:
    seen: dict[str, Position] = {}
    for mount in items(child(node, "extraMounts")):
        inside, outside = child(mount, "containerPath"), child(mount, "hostPath")
        if outside is not None and (path := text(outside)) is not None:
            _host_path(path, outside.place, folder, add)
        if inside is None or (path := text(inside)) is None:
            continue
        clean = os.path.normpath(path).replace("//", "/")
        if not path.startswith("/") or ":" in path:
            add(inside.place, "this is no path in a node", path, "an absolute path without a colon")
        elif clean in TAKEN_PATHS:
            add(inside.place, "every node has this mounted already", clean, "another path, or one below it")
        elif clean in seen:
            add(
                inside.place,
                f"mounted a second time, first in line {seen[clean].line}",
                clean,
                "each path once",
            )
        seen.setdefault(clean, inside.place)


def _host_path(path: str, place: Position, folder: Path | None, add: Add) -> None:
    """Report a path that docker would make, as an empty directory, or read as something else."""
    if not path or ":" in path:
        add(place, "this is no path of this machine that docker takes", path, "a path without a colon")
    elif not os.path.isabs(path) and folder is None:
        add(place, "a relative path needs a file to be relative to", path, "an absolute path")
    elif "\0" not in path and not os.path.exists(_absolute(path, folder)):
        expanded = "; nothing is expanded in it" if path.startswith("~") or "$" in path else ""
        add(place, "there is no such path on this machine", path,
            f"a path that exists, absolute or relative to the folder of this file{expanded}")  # fmt: skip


def _absolute(path: str, folder: Path | None) -> str:
    return os.path.abspath(os.path.join(folder or "/", path))


def _cluster_patches(block: Entries, mode: str | None, add: Add, more: frozenset[str]) -> None:
    kindpatches.kubeadm(block, _made(tuple(kindpatches.VERSIONS), mode), "this cluster", add, more)
    kindpatches.containerd(block, add, more)


def _node_patches(node: Tree, at: int, mode: str | None, add: Add, more: frozenset[str]) -> None:
    if at == 0:
        kindpatches.kubeadm(node, _made(kindpatches.INITS, mode), "the first control plane", add, more)
    else:
        kindpatches.kubeadm(node, kindpatches.JOINS, "a node that joins", add, more)


def _made(kinds: tuple[str, ...], mode: str | None) -> tuple[str, ...]:
    """Without kube-proxy, kind makes no configuration of it."""
    return tuple(kind for kind in kinds if mode != "none" or kind != "KubeProxyConfiguration")


_CIDR = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}/(?:[0-9]|[12][0-9]|3[0-2])")


def _subnets(networking: Tree | None, spec: ClusterSpec, whole: Position, add: Add) -> None:
    pods = _subnet(networking, "podSubnet", POD_SUBNET, whole, add)
    services = _subnet(networking, "serviceSubnet", SERVICE_SUBNET, whole, add)
    if pods:
        nodes = f", a /{NODE_PREFIX} for each of {spec.nodes} nodes"
        _size(*pods, "podSubnet", (POD_PREFIX_LEAST, spec.pod_prefix_most), nodes, add)
    if services:
        _size(*services, "serviceSubnet", SERVICE_PREFIX, "", add)
    if pods and services and pods[1].overlaps(services[1]):
        worse = max(pods[0], services[0], key=lambda one: (one.line, one.column))
        both = f"{pods[1]} and {services[1]}"
        add(worse, "podSubnet and serviceSubnet overlap", both, "two networks apart")


def _subnet(
    networking: Tree | None, key: str, default: str, whole: Position, add: Add
) -> tuple[Position, ipaddress.IPv4Network] | None:
    """The chosen network and its place; None for one that cannot be, which is reported."""
    value = child(networking, key)
    if value is None:
        return whole, ipaddress.IPv4Network(default)
    written = text(value)
    if written is None:
        return None
    try:
        network = ipaddress.IPv4Network(written)
        bad = "" if _CIDR.fullmatch(written) else "an address and a prefix length"
    except ValueError as wrong:
        bad = str(wrong)
    if bad:
        add(value.place, f"{key} is no IPv4 network", written, f"such as {default} ({bad})")
        return None
    if local(network.network_address) or network.prefixlen == 0:
        add(value.place, f"{key} is not for pods or Services", written, f"such as {default}")
        return None
    return value.place, network


def _size(
    place: Position, network: ipaddress.IPv4Network, key: str, limits: tuple[int, int], why: str, add: Add
) -> None:
    least, most = limits
    if not least <= network.prefixlen <= most:
        word = "large" if network.prefixlen < least else "small"
        add(place, f"{key} is too {word}", str(network), f"a prefix from /{least} to /{most}{why}")
