"""A file of kind's own, made into a cluster file.

What it says is judged at its own lines, as everything in a cluster file is; what labctl decides itself is
left out and told. Comments are lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.cluster.file import kindblock, specfile, yamlfile
from labctl.cluster.file.shape import (
    RAW_OPTION,
    Listed,
    Mapped,
    Shape,
    Struct,
    Text,
    child,
    items,
    shown,
    text,
)
from labctl.cluster.file.yamlfile import Entries, Items, Position, Scalar, Tree
from labctl.errors import ConfigError, ConfigProblem

API_VERSION = f"{specfile.KIND_GROUP}v1alpha4"
PLANE = "control-plane"


@dataclass(frozen=True)
class Converted:
    """A cluster file as data, and what is to be known of it, a sentence each."""

    data: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The cluster file."""
        return yamlfile.dump(self.data)


def convert(path: Path) -> Converted:
    """The cluster file for kind's file at ``path``. Raises `ConfigError` with every problem, at kind's lines.

    Relative mounts become absolute: kind takes them from where it is called, a cluster file from where it lies.
    """
    tree = _file(yamlfile.read(path), str(path))
    nodes = _nodes(tree)
    made = Entries(dict(_cluster(tree, nodes)), tree.place)
    spec = specfile.from_tree(made, str(path), allow_raw=True, folder=Path.cwd())
    data: dict[str, Any] = {"apiVersion": specfile.API_VERSION, "kind": specfile.KIND}
    if "name" in made.entries:
        data["name"] = spec.name
    data["nodes"] = {"controlPlanes": spec.control_planes, "workers": spec.workers}
    data |= {"cni": spec.cni, "loadBalancer": spec.load_balancer}
    data |= {"kindConfig": dict(spec.kind)} if spec.kind else {}
    return Converted(data, tuple(_notes(tree, nodes, spec.cni)))


def _file(tree: Tree, file: str) -> Entries:
    """The tree without what says nothing. Raises `ConfigError` for what is no file of kind's v1alpha4."""
    version = child(tree, "apiVersion")
    if (
        not isinstance(tree, Entries)
        or text(version) != API_VERSION
        or text(child(tree, "kind")) != "Cluster"
    ):
        place = version.place if version else tree.place
        found = shown(version) if version else ""
        allowed = f"apiVersion: {API_VERSION}, kind: Cluster"
        problem = ConfigProblem(
            file, place.line, place.column, "this is no cluster of kind's", found, allowed
        )
        raise ConfigError(f"{file} cannot be made into a cluster file", problems=[problem])
    clean = _as_kind_reads(tree, kindblock.BLOCK)
    assert isinstance(clean, Entries)
    return clean


def _as_kind_reads(tree: Tree, shape: Shape | None) -> Tree:
    """``tree`` without empty values, and with text where kind makes text of a number or a truth value."""
    if isinstance(tree, Entries):
        return Entries(
            {
                key: (place, _as_kind_reads(value, _of(shape, key)))
                for key, (place, value) in tree.entries.items()
                if not (isinstance(value, Scalar) and value.value is None)
            },
            tree.place,
        )
    if isinstance(tree, Items):
        each = shape.of if isinstance(shape, Listed) else None
        return Items(tuple(_as_kind_reads(item, each) for item in tree.items), tree.place)
    return Scalar(tree.text, tree.text, tree.place) if isinstance(shape, Text) else tree


def _of(shape: Shape | None, key: str) -> Shape | None:
    if isinstance(shape, Struct):
        return shape.fields.get(key)
    return shape.of if isinstance(shape, Mapped) else None


def _nodes(tree: Entries) -> tuple[Tree, ...]:
    """The nodes, control planes first: kind numbers each role for itself, so no node gets another name."""
    return tuple(
        sorted(items(child(tree, "nodes")), key=lambda node: (text(child(node, "role")) or PLANE) != PLANE)
    )


def _cluster(tree: Entries, nodes: tuple[Tree, ...]) -> Iterator[tuple[str, tuple[Position, Tree]]]:
    """The keys of the cluster file, each at the place in kind's file that it is made from."""

    def said(value: str | int, at: Position) -> tuple[Position, Tree]:
        return at, Scalar(value, str(value), at)

    own = child(child(tree, "networking"), "disableDefaultCNI")
    bare = isinstance(own, Scalar) and own.value is True
    yield "apiVersion", said(specfile.API_VERSION, tree.place)
    yield "kind", said(specfile.KIND, tree.place)
    if "name" in tree.entries:
        yield "name", tree.entries["name"]
    place = tree.entries["nodes"][0] if "nodes" in tree.entries else tree.place
    workers = sum(text(child(node, "role")) == "worker" for node in nodes)
    planes = len(nodes) - workers if nodes else 1
    counts = {"controlPlanes": said(planes, place), "workers": said(workers, place)}
    yield "nodes", (place, Entries(counts, place))
    if bare:
        yield "cni", said("none", tree.place)
        yield "loadBalancer", said("none", tree.place)
    block = Entries(dict(_block(tree, nodes)), tree.place)
    if block.entries:
        yield "kindConfig", (tree.place, block)


def _block(tree: Entries, nodes: tuple[Tree, ...]) -> Iterator[tuple[str, tuple[Position, Tree]]]:
    for key, (place, value) in tree.entries.items():
        if key == "nodes" and isinstance(value, Items):
            kept = tuple(_without(node, kindblock.NODE) for node in nodes)
            if any(not isinstance(node, Entries) or set(node.entries) - {"role"} for node in kept):
                yield key, (place, Items(kept, value.place))
        elif key == "networking":
            if not isinstance(rest := _without(value, kindblock.NETWORKING), Entries) or rest.entries:
                yield key, (place, rest)
        elif key not in kindblock.BLOCK.owned:
            yield key, (place, value)


def _without(tree: Tree, shape: Struct) -> Tree:
    """``tree`` without what labctl decides itself."""
    if not isinstance(tree, Entries):
        return tree
    return Entries({key: one for key, one in tree.entries.items() if key not in shape.owned}, tree.place)


def _notes(tree: Entries, nodes: tuple[Tree, ...], cni: str) -> Iterator[str]:
    address = text(child(child(tree, "networking"), "apiServerAddress"))
    if any(child(node, "image") for node in nodes):
        yield f"the nodes' image is left out: {kindblock.NODE.owned['image']}"
    if address:
        yield f"apiServerAddress is left out: {kindblock.NETWORKING.owned['apiServerAddress']}"
    if cni == "none":
        yield "it installs no network plugin, as kind was told: cni: flannel lets labctl do it"
    else:
        yield f"{cni} takes the place of kind's own network plugin, and Services get a load balancer"
    keys = {*tree.entries, *(key for node in nodes if isinstance(node, Entries) for key in node.entries)}
    if raw := sorted(keys & (kindblock.BLOCK.raw | kindblock.NODE.raw)):
        yield f"it is taken only with {RAW_OPTION}, because of {', '.join(raw)}"
    if "extraMounts" in raw:
        yield "relative paths were taken from the current directory, as kind does, and are absolute now"
