"""A cluster file, read into a `ClusterSpec`.

Every fault is found before anything is refused, and each says its file, line and column, what
stands there and what may stand there. No program is called: a file is judged by itself.
The keys are listed once, in KEYS; the JSON Schema is made from the same list.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labctl import paths
from labctl.cluster.file import kindblock, yamlfile
from labctl.cluster.file.shape import shown
from labctl.cluster.file.yamlfile import Entries, Position, Scalar, Tree, plain
from labctl.cluster.spec import (
    CNIS,
    CONTROL_PLANES,
    LOAD_BALANCERS,
    NAME,
    NAME_RULE,
    WORKERS_MOST,
    ClusterSpec,
    complaints,
)
from labctl.errors import ConfigError, ConfigProblem, UsageError

API_VERSION = "labctl.dev/v1"
KIND = "Cluster"
KIND_GROUP = "kind.x-k8s.io/"
"""The apiVersion of kind's own files, whichever version it is."""


@dataclass(frozen=True)
class Key:
    """A key of a cluster file. ``schema`` is its JSON Schema, ``allowed`` the same for people."""

    name: str
    schema: dict[str, Any]
    allowed: str
    holds: Callable[[Any], bool]
    required: bool = False


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(
        value is each or (type(value) is type(each) and value == each) for each in values
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_count(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


KEYS = (
    Key("apiVersion", {"const": API_VERSION}, API_VERSION, _one_of(API_VERSION), required=True),
    Key("kind", {"const": KIND}, KIND, _one_of(KIND), required=True),
    Key("name", {"type": "string", "pattern": f"^{NAME.pattern}$"}, NAME_RULE, _is_name),
    Key("nodes", {"type": "object"}, "controlPlanes and workers", lambda value: isinstance(value, dict)),
    Key("cni", {"enum": list(CNIS)}, " | ".join(CNIS), _one_of(*CNIS)),
    Key("loadBalancer", {"enum": list(LOAD_BALANCERS)}, " | ".join(LOAD_BALANCERS), _one_of(*LOAD_BALANCERS)),
    Key("kindConfig", {"type": "object"}, "kind's own v1alpha4 configuration", lambda v: isinstance(v, dict)),
)

NODE_KEYS = (
    Key(
        "controlPlanes",
        {"enum": list(CONTROL_PLANES)},
        " or ".join(map(str, CONTROL_PLANES)),
        _one_of(*CONTROL_PLANES),
    ),
    Key(
        "workers",
        {"type": "integer", "minimum": 0, "maximum": WORKERS_MOST},
        f"a whole number from 0 to {WORKERS_MOST}",
        _is_count(0, WORKERS_MOST),
    ),
)


class Faults:
    """The problems of one file, collected."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[ConfigProblem] = []

    def add(self, place: Position, message: str, value: str = "", allowed: str = "") -> None:
        """Note one problem."""
        self.found.append(ConfigProblem(self.file, place.line, place.column, message, value[:80], allowed))


def load(path: Path, *, allow_raw: bool = False) -> ClusterSpec:
    """The spec in a file; ``allow_raw`` admits kind's mounts and patches. Raises `ConfigError`.

    Paths in it are relative to the folder of the file, wherever labctl is called from.
    """
    tree = yamlfile.read(path)
    return from_tree(tree, str(path), allow_raw=allow_raw, folder=path.absolute().parent)


def loads(data: bytes, file: str = "<text>", *, allow_raw: bool = False) -> ClusterSpec:
    """The same from bytes in memory."""
    return from_tree(yamlfile.parse(data, file), file, allow_raw=allow_raw)


def locate(config: str) -> Path:
    """The file that a command line means: a path, or the name of a cluster that ships with labctl.

    Raises `UsageError` that lists the names.
    """
    if "/" in config or config.endswith((".yaml", ".yml")):
        return Path(config)
    found = shipped()
    if config in found:
        return found[config]
    raise UsageError(
        f"there is no cluster file {config!r}",
        why=f"these ship with labctl: {', '.join(found)}",
        next_step="use one of them, or the path of a file (with a slash or the ending .yaml)",
    )


def shipped() -> dict[str, Path]:
    """The cluster files that ship with labctl, by name."""
    return {path.stem: path for path in sorted(paths.shipped("cluster-configs").glob("*.yaml"))}


def from_tree(tree: Tree, file: str, *, allow_raw: bool = False, folder: Path | None = None) -> ClusterSpec:
    """The spec that the tree of a file in ``folder`` holds. Raises `ConfigError` with every problem, top to bottom."""
    faults = Faults(file)
    refuse_kind_s_own(tree, faults)
    if not isinstance(tree, Entries):
        faults.add(tree.place, "a cluster is a mapping", allowed=", ".join(key.name for key in KEYS))
        raise ConfigError(f"{file} is not a cluster", problems=faults.found)
    values = check(tree, KEYS, faults)
    nodes = tree.entries.get("nodes", (tree.place, None))[1]
    counts = check(nodes, NODE_KEYS, faults, under="nodes") if isinstance(nodes, Entries) else {}
    spec = ClusterSpec(
        name=values.get("name", ClusterSpec.name),
        control_planes=counts.get("controlPlanes", ClusterSpec.control_planes),
        workers=counts.get("workers", ClusterSpec.workers),
        cni=values.get("cni", ClusterSpec.cni),
        load_balancer=values.get("loadBalancer", ClusterSpec.load_balancer),
    )
    block = tree.entries.get("kindConfig", (tree.place, None))[1]
    if isinstance(block, Entries):
        kindblock.check(block, spec, faults.add, allow_raw=allow_raw, folder=folder)
        if not faults.found:
            spec = replace(spec, kind=kindblock.settle(values["kindConfig"], folder))
    if not faults.found:
        chosen = tree.entries.get("loadBalancer") or tree.entries.get("cni") or (tree.place, None)
        for text in complaints(spec):
            faults.add(chosen[0], text)
    if faults.found:
        problems = sorted(faults.found, key=lambda one: (one.line, one.column))
        raise ConfigError(f"{file} is not a cluster that can be made", problems=problems)
    return spec


def refuse_kind_s_own(tree: Tree, faults: Faults) -> None:
    """Raise `ConfigError` for a file of kind's: one problem says what to do with it, not each key."""
    version = tree.entries.get("apiVersion") if isinstance(tree, Entries) else None
    found = version[1] if version else None
    if isinstance(found, Scalar) and found.text.startswith(KIND_GROUP):
        faults.add(found.place, "this is kind's own configuration, not a cluster of labctl", found.text,
                   f"{API_VERSION}, with kind's settings under kindConfig")  # fmt: skip
        raise ConfigError(
            f"{faults.file} is not a cluster",
            problems=faults.found,
            next_step=f"`labctl config from-kind {shlex.quote(faults.file)}` writes the cluster file for it",
        )


def check(tree: Entries, keys: Iterable[Key], faults: Faults, *, under: str = "") -> dict[str, Any]:
    """The values of the known keys that hold what they may; a problem for everything else."""
    known = {key.name: key for key in keys}
    where = f" in {under}" if under else ""
    for name, (place, _) in tree.entries.items():
        if name not in known:
            faults.add(place, f"unknown key{where}", name, ", ".join(known))
    values = {}
    for key in known.values():
        if key.name not in tree.entries:
            if key.required:
                faults.add(tree.place, f"{key.name} is missing", allowed=f"{key.name}: {key.allowed}")
            continue
        value = tree.entries[key.name][1]
        content = plain(value)
        if key.holds(content):
            values[key.name] = content
        else:
            faults.add(
                value.place, f"{key.name} cannot be this{_advice(key, content)}", shown(value), key.allowed
            )
    return values


def schema() -> dict[str, Any]:
    """The JSON Schema of a cluster file."""
    properties: dict[str, Any] = {key.name: dict(key.schema) for key in KEYS}
    properties["nodes"] = {
        "type": "object",
        "properties": {key.name: dict(key.schema) for key in NODE_KEYS},
        "additionalProperties": False,
    }
    properties["kindConfig"] = kindblock.schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A cluster of labctl",
        "type": "object",
        "properties": properties,
        "required": [key.name for key in KEYS if key.required],
        "additionalProperties": False,
    }


def _advice(key: Key, content: Any) -> str:
    if key.name == "kind" and isinstance(content, dict):
        return " (kind's own configuration goes under kindConfig)"
    return ""
