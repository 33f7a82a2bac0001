"""Patches in kind's configuration: whether kind takes them, and whether they can have an effect.

kind changes only what it makes itself: a patch of another kind or version is dropped without a word, and so
are, by kubeadm, the documents that a node has no use for. Each text is read within the limits of a cluster
file. Source: kind's pkg/internal/patch and kubeadm's reading of its configuration.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from labctl.cluster.file import yamlfile
from labctl.cluster.file.shape import Add, child, items, shown, text
from labctl.cluster.file.yamlfile import Entries, Position, Tree, plain
from labctl.errors import ConfigError

VERSIONS = {
    "ClusterConfiguration": "kubeadm.k8s.io/v1beta4",
    "InitConfiguration": "kubeadm.k8s.io/v1beta4",
    "JoinConfiguration": "kubeadm.k8s.io/v1beta4",
    "KubeletConfiguration": "kubelet.config.k8s.io/v1beta1",
    "KubeProxyConfiguration": "kubeproxy.config.k8s.io/v1alpha1",
}
"""What kind makes for kubeadm, each kind with its version for the Kubernetes of our node image."""

JOINS = ("JoinConfiguration",)
"""All that is read on a node that joins: the rest it has from the cluster."""
INITS = tuple(kind for kind in VERSIONS if kind not in JOINS)
"""What is read on the first control plane."""

BYTES_MOST = 60_000
"""For one patch; kind reads a document of at most 64 KiB."""
CONTAINERD_VERSION = 2
"""The format of containerd's configuration in a node."""

OPERATIONS = {
    "add": ("value",),
    "replace": ("value",),
    "test": ("value",),
    "remove": (),
    "move": ("from",),
    "copy": ("from",),
}
"""RFC 6902, and what each operation needs beside its path."""

MADE = {
    "ClusterConfiguration": "kubernetesVersion clusterName controlPlaneEndpoint"
    " apiServer controllerManager scheduler networking",
    "InitConfiguration": "bootstrapTokens localAPIEndpoint nodeRegistration skipPhases",
    "JoinConfiguration": "controlPlane nodeRegistration discovery skipPhases",
    "KubeletConfiguration": "cgroupDriver cgroupRoot failSwapOn imageGCHighThresholdPercent evictionHard featureGates",
    "KubeProxyConfiguration": "mode iptables conntrack featureGates",
    "containerd": "version proxy_plugins plugins",
}
"""What stands at the top of each document that kind patches; beside it the documents' own head."""
HEAD = frozenset(("apiVersion", "kind", "metadata"))

Read = Callable[[str], Any]


def added(block: Tree) -> frozenset[str]:
    """What patches of the file put at the top of some document: those that come after may build on it."""

    def deaf(*_: Any) -> None:
        """Faults are reported where each patch is judged."""

    found: set[str] = set()
    for owner in (block, *items(child(block, "nodes"))):
        for patch in items(child(owner, "kubeadmConfigPatches")):
            for _, document in _documents(patch, deaf):
                found |= set(document.entries) if isinstance(document, Entries) else set()
        for patch in items(child(owner, "kubeadmConfigPatchesJSON6902")):
            body = child(patch, "patch")
            found |= _tops(_read(body, _yaml, "YAML", deaf) if body else None)
    for patch in items(child(block, "containerdConfigPatches")):
        found |= set(_read(patch, tomllib.loads, "TOML", deaf) or ())
    for patch in items(child(block, "containerdConfigPatchesJSON6902")):
        found |= _tops(_read(patch, _json, "JSON", deaf))
    return frozenset(found)


def _tops(operations: Any) -> set[str]:
    """What operations add at the top."""
    listed = operations if isinstance(operations, list) else ()
    paths = [str(one.get("path")) for one in listed if isinstance(one, dict) and one.get("op") != "remove"]
    return {path[1:] for path in paths if path.count("/") == 1}


def kubeadm(
    owner: Tree, kinds: tuple[str, ...], where: str, add: Add, more: frozenset[str] = frozenset()
) -> None:
    """Judge the two lists of kubeadm patches of ``owner``, which may change what is of ``kinds``.

    ``more`` is what patches of the file put at the top of documents.
    """
    for patch in items(child(owner, "kubeadmConfigPatches")):
        for place, document in _documents(patch, add):
            _merge(document, place, kinds, where, add)
    for patch in items(child(owner, "kubeadmConfigPatchesJSON6902")):
        _targeted(patch, kinds, where, add, more)


def containerd(block: Tree, add: Add, more: frozenset[str] = frozenset()) -> None:
    """Judge the two lists of containerd patches."""
    for patch in items(child(block, "containerdConfigPatches")):
        found = _read(patch, tomllib.loads, "TOML", add)
        version = found.get("version", CONTAINERD_VERSION) if isinstance(found, dict) else CONTAINERD_VERSION
        if version != CONTAINERD_VERSION or isinstance(version, bool):
            add(patch.place, "kind drops a patch of another version",
                f"version = {version}", f"version = {CONTAINERD_VERSION}, or none")  # fmt: skip
    for patch in items(child(block, "containerdConfigPatchesJSON6902")):
        operations = _read(patch, _json, "JSON", add)
        if operations is not None:
            _operations(operations, patch.place, frozenset(MADE["containerd"].split()) | more, add)


def _merge(document: Tree, place: Position, kinds: tuple[str, ...], where: str, add: Add) -> None:
    if not isinstance(document, Entries):
        add(place, "a patch is a mapping", "", "kind: ClusterConfiguration, ...")
        return
    value = child(document, "kind")
    kind = text(value)
    if value is None:
        add(place, "this patch does not say its kind", "", f"kind: {' | '.join(kinds)}")
    elif kind is None:
        add(place, "a patch's kind is a word", shown(value), " | ".join(kinds))
    elif _known(kind, place, kinds, where, add) and "apiVersion" in document.entries:
        _version(plain(document)["apiVersion"], kind, place, add)


def _targeted(patch: Tree, kinds: tuple[str, ...], where: str, add: Add, more: frozenset[str]) -> None:
    kind = text(child(patch, "kind"))
    if kind is not None and _known(kind, patch.place, kinds, where, add):
        group, version = text(child(patch, "group")), text(child(patch, "version"))
        if group or version:
            _version(f"{group}/{version or ''}" if group else version, kind, patch.place, add)
    body = child(patch, "patch")
    if body is not None and (operations := _read(body, _yaml, "YAML", add)) is not None:
        made = frozenset(MADE.get(kind or "", "").split()) | HEAD | more
        _operations(operations, body.place, made, add)


def _known(kind: str, place: Position, kinds: tuple[str, ...], where: str, add: Add) -> bool:
    if kind in kinds:
        return True
    if kind not in VERSIONS:
        add(place, "kind drops a patch of another kind than it makes", kind, " | ".join(kinds))
    else:
        advice = "; nodeRegistration.kubeletExtraArgs sets a node's own kubelet" if kinds == JOINS else ""
        add(place, f"{where} has no use for this kind of patch", kind, " | ".join(kinds) + advice)
    return False


def _version(version: Any, kind: str, place: Position, add: Add) -> None:
    if version != VERSIONS[kind]:
        add(place, "kind drops a patch of another version", str(version), f"{VERSIONS[kind]}, or none")


def _operations(operations: Any, place: Position, made: frozenset[str], add: Add) -> None:
    """Report what is no list of RFC 6902's operations, and paths that begin where nothing is ``made``.

    Whether the rest of a path is there only kind can see.
    """
    if not isinstance(operations, list) or not operations:
        add(place, "a JSON patch is a list of operations", "", '[{"op": "add", "path": "/a", "value": 1}]')
        return
    for one in operations:
        name = one.get("op") if isinstance(one, dict) else None
        if not isinstance(name, str) or name not in OPERATIONS:
            add(
                place,
                "an operation of a JSON patch says what it does",
                str(name or ""),
                f"op: {' | '.join(OPERATIONS)}",
            )
            continue
        missing = [key for key in ("path", *OPERATIONS[name]) if key not in one]
        if missing:
            add(place, f"{name} lacks something", "", " and ".join(missing))
        for key in ("path", "from"):
            if key in one and not (isinstance(one[key], str) and one[key].startswith("/")):
                add(place, f"{key} is no path in a document", str(one[key]), "/a/b")
            elif key in one:
                first, *below = one[key][1:].split("/")
                needed = bool(below) or key == "from" or name in ("remove", "replace", "test")
                if needed and first not in made:
                    add(place, f"nothing is there that {name} could find", one[key],
                        " | ".join(f"/{top}" for top in sorted(made - HEAD)))  # fmt: skip


def _documents(patch: Tree, add: Add) -> Iterator[tuple[Position, Tree]]:
    """The documents of one patch that say something; the place of each is the patch's."""
    whole = text(patch)
    if whole is None or _too_long(whole, patch.place, add):
        return
    found = 0
    for document, rest in _split(whole):
        if rest:
            add(patch.place, "kind drops what stands behind a document's dashes", rest, "--- alone")
        if not _blank(document):
            found += 1
            tree = _parsed(document, patch.place, add)
            if tree is not None:
                yield patch.place, tree
    if not found:
        add(patch.place, "this patch says nothing", "", "kind: ClusterConfiguration, ...")


_DASHES = re.compile(r"\n---([^\n]*)(?:\n|\Z)")


def _split(whole: str) -> Iterator[tuple[str, str]]:
    """The documents as kind divides them: at lines that begin with dashes; and what else such a line says."""
    start = 0
    for dashes in _DASHES.finditer(whole):
        rest = dashes[1].strip()
        yield whole[start : dashes.start()], "" if rest.startswith("#") else rest
        start = dashes.end()
    yield whole[start:], ""


def _blank(document: str) -> bool:
    lines = (line.strip() for line in document.splitlines())
    return all(not line or line.startswith("#") or line == "---" for line in lines)


def _read(patch: Tree, read: Read, language: str, add: Add) -> Any:
    """What a patch says; None when that is reported. Raises nothing, however the text is nested."""
    whole = text(patch)
    if whole is None or _too_long(whole, patch.place, add):
        return None
    try:
        return read(whole)
    except ConfigError as wrong:
        _inside(wrong, patch.place, add)
    except (ValueError, RecursionError) as wrong:
        why = "nested too deep" if isinstance(wrong, RecursionError) else str(wrong)
        add(patch.place, f"this patch is not {language}: {why}", "", f"{language} in a block (|)")
    return None


def _parsed(document: str, place: Position, add: Add) -> Tree | None:
    try:
        return yamlfile.parse(document.encode(), "the patch", words=False)
    except ConfigError as wrong:
        _inside(wrong, place, add)
    return None


def _inside(wrong: ConfigError, place: Position, add: Add) -> None:
    for one in wrong.problems:
        add(place, f"this patch, line {one.line}: {one.message}", one.value, one.allowed)


def _too_long(whole: str, place: Position, add: Add) -> bool:
    length = len(whole.encode())
    if length > BYTES_MOST:
        add(place, "this patch is too long", f"{length} bytes", f"at most {BYTES_MOST} bytes")
    return length > BYTES_MOST


def _yaml(whole: str) -> Any:
    return plain(yamlfile.parse(whole.encode(), "the patch", words=False))


def _json(whole: str) -> Any:
    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    return json.loads(whole, parse_constant=refuse)
