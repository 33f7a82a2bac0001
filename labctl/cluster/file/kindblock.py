"""What a cluster file may say in kind's own words, under ``kindConfig``.

labctl owns some of kind's settings (the nodes' number, the default CNI, the address of the API
server), and some let a file reach into the machine (mounts, patches): those are for files that
the user vouches for with ``--allow-raw-kind``. This module judges; merging is
labctl.cluster.up.kindconfig's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import yaml

from labctl.cluster.file.yamlfile import Entries, Items, Position, Scalar, Tree, plain
from labctl.cluster.spec import POD_SUBNET, PROXY_MODES, SERVICE_SUBNET

Add = Callable[[Position, str, str, str], None]

FREE = {
    "networking": "object",
    "featureGates": "object",
    "runtimeConfig": "object",
    "nodes": "array",
}
RAW = {
    "kubeadmConfigPatches": "array",
    "kubeadmConfigPatchesJSON6902": "array",
    "containerdConfigPatches": "array",
    "containerdConfigPatchesJSON6902": "array",
}
NODE_FREE = {"role": "string", "labels": "object", "extraPortMappings": "array"}
NODE_RAW = {
    "image": "string",
    "extraMounts": "array",
    "kubeadmConfigPatches": "array",
    "kubeadmConfigPatchesJSON6902": "array",
}
NETWORKING = {
    "ipFamily": "string",
    "apiServerPort": "integer",
    "podSubnet": "string",
    "serviceSubnet": "string",
    "kubeProxyMode": "string",
    "dnsSearch": "array",
}
OWNED = {
    "apiVersion": "labctl writes it",
    "kind": "labctl writes it",
    "name": "the name of the cluster file decides",
    "disableDefaultCNI": "cni decides",
    "apiServerAddress": "it is always 127.0.0.1",
}
PORT_KEYS = {
    "containerPort": "integer",
    "hostPort": "integer",
    "listenAddress": "string",
    "protocol": "string",
}
LOOPBACK = ("127.0.0.1", "::1")
PREFIX = {"podSubnet": 23, "serviceSubnet": 26}
"""The longest useful prefix: a /24 of pod addresses per node; some Services beside the two built in."""

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
}


def schema() -> dict[str, Any]:
    """The JSON Schema of the block."""

    def of(table: dict[str, str]) -> dict[str, Any]:
        return {key: {"type": kind} for key, kind in table.items()}

    port = {"type": "object", "properties": of(PORT_KEYS), "additionalProperties": False}
    node = of(NODE_FREE | NODE_RAW)
    node["extraPortMappings"] = {"type": "array", "items": port}
    block = of(FREE | RAW)
    block["networking"] = {"type": "object", "properties": of(NETWORKING), "additionalProperties": False}
    block["nodes"] = {
        "type": "array",
        "items": {"type": "object", "properties": node, "additionalProperties": False},
    }
    return {"type": "object", "properties": block, "additionalProperties": False}


def check(block: Entries, nodes: int, add: Add, *, allow_raw: bool) -> None:
    """Report every fault of the block to ``add``; ``nodes`` is the cluster's number of nodes."""
    _keys(block, FREE, RAW, "kindConfig", add, allow_raw)
    networking = _value(block, "networking")
    if isinstance(networking, Entries):
        _keys(networking, NETWORKING, {}, "networking", add, allow_raw)
        _port(networking, "apiServerPort", add)
        _proxy_mode(networking, add)
    _subnets(block, networking, add)
    listed = _value(block, "nodes")
    if isinstance(listed, Items):
        if len(listed.items) > nodes:
            add(listed.place, "more nodes than the cluster has", str(len(listed.items)), f"at most {nodes}")
        for node in listed.items:
            _node(node, add, allow_raw)
    for key in ("kubeadmConfigPatches",):
        _patches(_value(block, key), add)


def _node(node: Tree, add: Add, allow_raw: bool) -> None:
    if not isinstance(node, Entries):
        add(node.place, "a node is a mapping", _shown(node), ", ".join(NODE_FREE | NODE_RAW))
        return
    _keys(node, NODE_FREE, NODE_RAW, "a node", add, allow_raw)
    _patches(_value(node, "kubeadmConfigPatches"), add)
    ports = _value(node, "extraPortMappings")
    for port in ports.items if isinstance(ports, Items) else ():
        if not isinstance(port, Entries):
            add(port.place, "a port mapping is a mapping", _shown(port), ", ".join(PORT_KEYS))
            continue
        _keys(port, PORT_KEYS, {}, "a port mapping", add, allow_raw)
        _port(port, "containerPort", add)
        _port(port, "hostPort", add)
        address = _value(port, "listenAddress")
        if isinstance(address, Scalar) and address.value not in LOOPBACK and not allow_raw:
            add(address.place, "this opens the port to other machines", address.text,
                "127.0.0.1, or --allow-raw-kind")  # fmt: skip


def _keys(
    tree: Entries, free: dict[str, str], raw: dict[str, str], where: str, add: Add, allow_raw: bool
) -> None:
    for key, (place, value) in tree.entries.items():
        kind = (free | raw).get(key)
        if key in OWNED and kind is None:
            add(place, f"{key} is not to be set here", key, OWNED[key])
        elif kind is None:
            add(place, f"unknown key in {where}", key, ", ".join(free | raw))
        elif not _TYPES[kind](plain(value)):
            add(value.place, f"{key} cannot be this", _shown(value), f"a value of the type {kind}")
        elif key in raw and not allow_raw:
            add(place, f"{key} reaches into the machine or the nodes", key, "only with --allow-raw-kind")


def _port(tree: Entries, key: str, add: Add) -> None:
    value = _value(tree, key)
    if isinstance(value, Scalar) and type(value.value) is int and not 0 <= value.value <= 65535:
        add(value.place, f"{key} is no port", value.text, "a whole number from 0 to 65535")


def _proxy_mode(networking: Entries, add: Add) -> None:
    value = _value(networking, "kubeProxyMode")
    if isinstance(value, Scalar) and isinstance(value.value, str) and value.value not in PROXY_MODES:
        add(value.place, "kubeProxyMode cannot be this", value.text, " | ".join(PROXY_MODES))


def _patches(patches: Tree | None, add: Add) -> None:
    """kind drops a patch of another apiVersion than it generates without a word, so none may be named."""
    for patch in patches.items if isinstance(patches, Items) else ():
        text = patch.value if isinstance(patch, Scalar) else None
        if not isinstance(text, str):
            add(patch.place, "a patch is a text", _shown(patch), "YAML in a block (|)")
            continue
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError):
            add(patch.place, "this patch is not YAML", "", "one YAML document")
            continue
        if not isinstance(content, dict) or not content.get("kind"):
            add(patch.place, "this patch does not say its kind", "", "kind: ClusterConfiguration, ...")
        elif "apiVersion" in content:
            version = str(content["apiVersion"])
            add(patch.place, "kind drops a patch of another version", version, "leave apiVersion out")


def _subnets(block: Entries, networking: Tree | None, add: Add) -> None:
    chosen: dict[str, tuple[Position, ipaddress.IPv4Network]] = {}
    for key, default in (("podSubnet", POD_SUBNET), ("serviceSubnet", SERVICE_SUBNET)):
        value = _value(networking, key) if isinstance(networking, Entries) else None
        if value is None:
            chosen[key] = (block.place, ipaddress.IPv4Network(default))
        elif isinstance(value, Scalar) and isinstance(value.value, str):
            try:
                network = ipaddress.IPv4Network(value.value)
            except ValueError as bad:
                add(value.place, f"{key} is no IPv4 network", value.text, f"such as {default} ({bad})")
                continue
            if network.prefixlen > PREFIX[key]:
                add(value.place, f"{key} is too small", value.text, f"a prefix of at most /{PREFIX[key]}")
            chosen[key] = (value.place, network)
    if len(chosen) == 2:
        (place, pods), (other, services) = chosen["podSubnet"], chosen["serviceSubnet"]
        if pods.overlaps(services):
            worse = max(place, other, key=lambda one: (one.line, one.column))
            add(worse, "podSubnet and serviceSubnet overlap", f"{pods} and {services}", "two networks apart")


def _value(tree: Entries, key: str) -> Tree | None:
    found = tree.entries.get(key)
    return found[1] if found else None


def _shown(tree: Tree) -> str:
    if isinstance(tree, Scalar):
        return tree.text or "nothing"
    return "a mapping" if isinstance(tree, Entries) else "a list"
