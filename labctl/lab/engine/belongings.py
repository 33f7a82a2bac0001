"""Whatever carries an instance's labels, of any kind that the API server knows, and its marks on nodes.

The kinds are asked for (aggregated discovery, one request for the core group and one for all others), so
that a kind which a lab brings along is found too. Waiting and namespaces are not done here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from labctl.kube import Kube
from labctl.lab.instance import Instance

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""What asks for all groups, versions and kinds in one document; served since Kubernetes 1.30."""
LEAN = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""What asks for lists with nothing but metadata."""
AT_ONCE = 8

FOLLOWING = frozenset({"events", "endpointslices", "endpoints", "controllerrevisions", "componentstatuses"})
"""Kinds that controllers write on their own; they go with what they belong to. EndpointSlices copy the labels
of their Service."""


@dataclass(frozen=True)
class ObjectKind:
    """A kind of object: ``path`` is its group and version's (``/apis/apps/v1``), ``plural`` its resource name."""

    path: str
    plural: str
    namespaced: bool


@dataclass(frozen=True)
class Belonging:
    """One object that carries the labels."""

    kind: ObjectKind
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.kind.plural}/{self.name}{where}"


def find(kube: Kube, instance: Instance) -> tuple[Belonging, ...]:
    """Every object with the instance's labels, its namespaces left out."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lists = pool.map(lambda kind: tuple(_listed(kube, kind, instance.selector)), kinds(kube))
        return tuple(one for found in lists for one in found)


def remove(kube: Kube, instance: Instance) -> int:
    """Delete them, and take the instance's labels and taints off the nodes; returns how many there were."""
    there = find(kube, instance)
    for one in there:
        kube.raw_delete(_path(one.kind, one.namespace, one.name))
    return len(there) + _clear_nodes(kube, instance)


def kinds(kube: Kube) -> tuple[ObjectKind, ...]:
    """The kinds that can be listed and deleted, each in the version that the server prefers."""
    found = []
    for root in ("/api", "/apis"):
        document = json.loads(kube.raw_get(root, accept=DISCOVERY))
        for group in document.get("items") or ():
            name = (group.get("metadata") or {}).get("name") or ""
            for version in (group.get("versions") or ())[:1]:
                path = f"{root}/{name}/{version['version']}" if name else f"{root}/{version['version']}"
                found += [_kind(path, one) for one in version.get("resources") or () if _deletable(one)]
    return tuple(found)


def _kind(path: str, described: dict[str, Any]) -> ObjectKind:
    return ObjectKind(path, str(described["resource"]), described.get("scope") == "Namespaced")


def _deletable(described: dict[str, Any]) -> bool:
    plural = described.get("resource")
    if plural in FOLLOWING or plural == "namespaces":
        return False
    return {"list", "delete"} <= set(described.get("verbs") or ())


def _listed(kube: Kube, kind: ObjectKind, selector: str) -> Iterator[Belonging]:
    query: dict[str, str | int] = {"labelSelector": selector}
    document = json.loads(kube.raw_get(f"{kind.path}/{kind.plural}", query=query, accept=LEAN))
    for one in document.get("items") or ():
        metadata = one["metadata"]
        if metadata.get("deletionTimestamp") is None:
            yield Belonging(kind, str(metadata.get("namespace") or ""), str(metadata["name"]))


def _path(kind: ObjectKind, namespace: str, name: str) -> str:
    where = f"namespaces/{namespace}/" if namespace else ""
    return f"{kind.path}/{where}{kind.plural}/{name}"


def _clear_nodes(kube: Kube, instance: Instance) -> int:
    """Take the labels and taints of this instance off every node; returns how many."""
    listed: list[Any] = kube.core.list_node().items
    return sum(_clear(kube, node, f"{instance.domain}/") for node in listed)


def _clear(kube: Kube, node: Any, prefix: str) -> int:
    labels = [key for key in (node.metadata.labels or {}) if key.startswith(prefix)]
    taints = list((node.spec.taints if node.spec else None) or ())
    kept = [one for one in taints if not str(one.key).startswith(prefix)]
    if labels:
        kube.core.patch_node(name=node.metadata.name, body={"metadata": {"labels": dict.fromkeys(labels)}})
    if len(kept) < len(taints):
        rest = [{"key": one.key, "value": one.value, "effect": one.effect} for one in kept]
        kube.core.patch_node(name=node.metadata.name, body={"spec": {"taints": rest}})
    return len(labels) + len(taints) - len(kept)
