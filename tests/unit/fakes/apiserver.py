"""A Kubernetes API server in memory, behind the official client's method names.

It keeps the client's own objects, gives them UIDs, answers 404 and 409 as a server does, makes a default
ServiceAccount for each namespace and removes a namespace with what is in it. `FakeKube` stands for
`labctl.kube.Kube`; what a test wants to go wrong it puts into ``faults``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kubernetes.client import (
    V1Namespace,
    V1NamespaceCondition,
    V1NamespaceStatus,
    V1Node,
    V1NodeCondition,
    V1NodeStatus,
    V1ObjectMeta,
    V1ServiceAccount,
)
from kubernetes.client.exceptions import ApiException

from labctl.cluster.running import Node, RunningCluster
from labctl.kube import translated

METHOD = re.compile(
    r"(create|read|list|delete_collection|delete|patch)_(namespaced_)?([a-z_]+?)(_for_all_namespaces)?"
)

PLURALS = {
    "configmaps": "config_map",
    "nodes": "node",
    "persistentvolumes": "persistent_volume",
    "serviceaccounts": "service_account",
    "services": "service",
}
"""The kinds that this server tells of, as its URLs call them and as the client does."""


def discovered() -> dict[str, Any]:
    """The core group as the server's discovery describes it, with a kind that cannot be deleted."""
    wide = {"nodes", "persistentvolumes"}
    kinds = [
        {
            "resource": plural,
            "scope": "Cluster" if plural in wide else "Namespaced",
            "verbs": ["list", "delete", "get"],
        }
        for plural in PLURALS
    ]
    status = {"resource": "componentstatuses", "scope": "Cluster", "verbs": ["get", "list"]}
    return {"metadata": {}, "versions": [{"version": "v1", "resources": [*kinds, status]}]}


Key = tuple[str, str, str]
"""Kind as the client spells it, namespace ('' for none), name."""


class Listed:
    """What a list call returns."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items


class FakeKube:
    """``calls`` is every method name in order; ``faults`` maps a method to exceptions to raise first, each once."""

    def __init__(self) -> None:
        self.objects: dict[Key, Any] = {}
        self.calls: list[str] = []
        self.faults: dict[str, list[Exception]] = {}
        self.faults_after: dict[str, list[Exception]] = {}
        self.finalizers: set[str] = set()
        """Namespaces that stay when they are deleted."""
        self.ready_after = 0
        """How many questions for /readyz are refused before the server is ready."""
        self.closed = False
        self._uids = 0
        api = FakeApi(self)
        for group in "core apps batch networking discovery events rbac storage policy custom".split():
            setattr(self, group, api)
        self.add("namespace", "", V1Namespace(metadata=V1ObjectMeta(name="kube-system")))
        for name in ("one-control-plane", "one-worker", "one-worker2"):
            self.add("node", "", node(name))

    core: Any
    apps: Any

    def translated(self, doing: str = "") -> AbstractContextManager[None]:
        return translated(doing)

    def version(self) -> str:
        return "v1.37.2"

    def raw_get(
        self,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        timeout: float = 20.0,
        accept: str = "",
    ) -> str:
        self.calls.append(f"GET {path}")
        if path in ("/api", "/apis"):
            return json.dumps({"items": [discovered()] if path == "/api" else []})
        if path.startswith("/api/v1/"):
            return json.dumps({"items": self._lean(path.removeprefix("/api/v1/"), dict(query or {}))})
        if self.ready_after > 0:
            self.ready_after -= 1
            with translated(f"GET {path}"):
                raise ApiException(status=503, reason="Service Unavailable")
        return "ok"

    def raw_delete(self, path: str) -> None:
        self.calls.append(f"DELETE {path}")
        *where, plural, name = path.removeprefix("/api/v1/").split("/")
        self.objects.pop((PLURALS[plural], where[1] if where else "", name), None)

    def _lean(self, plural: str, query: Mapping[str, str | int]) -> list[Any]:
        """The names of the objects of a kind, as the server lists them without their content."""
        wanted = str(query.get("labelSelector", ""))
        return [
            {"metadata": {"namespace": key[1], "name": key[2]}}
            for key, one in self.objects.items()
            if key[0] == PLURALS[plural] and selected(one, wanted)
        ]

    def close(self) -> None:
        self.closed = True

    def add(self, kind: str, namespace: str, body: Any) -> Any:
        self._uids += 1
        kept = copy.deepcopy(body)
        kept.metadata.uid = f"uid-{self._uids}"
        kept.metadata.namespace = namespace or None
        self.objects[kind, namespace, str(kept.metadata.name)] = kept
        return kept

    def names(self, kind: str, namespace: str = "") -> set[str]:
        return {key[2] for key in self.objects if key[:2] == (kind, namespace)}


class FakeApi:
    """All API objects of the client in one."""

    def __init__(self, kube: FakeKube) -> None:
        self._kube = kube

    def __getattr__(self, name: str) -> Callable[..., Any]:
        match = METHOD.fullmatch(name)
        if match is None:
            raise AttributeError(name)
        verb, _, kind, everywhere = match.groups()

        def call(**arguments: Any) -> Any:
            self._kube.calls.append(name)
            if self._kube.faults.get(name):
                raise self._kube.faults[name].pop(0)
            answer = getattr(self, f"_{verb}")(kind, everywhere=bool(everywhere), **arguments)
            if self._kube.faults_after.get(name):
                raise self._kube.faults_after[name].pop(0)
            return answer

        return call

    def _create(self, kind: str, *, body: Any, namespace: str = "", everywhere: bool = False) -> Any:
        if (kind, namespace, body.metadata.name) in self._kube.objects:
            raise ApiException(status=409, reason="Conflict")
        if namespace and namespace not in self._kube.names("namespace"):
            raise missing("namespaces", namespace)
        made = self._kube.add(kind, namespace, body)
        if kind == "namespace":
            made.status = V1NamespaceStatus()
            account = V1ServiceAccount(metadata=V1ObjectMeta(name="default"))
            self._kube.add("service_account", made.metadata.name, account)
        return copy.deepcopy(made)

    def _read(self, kind: str, *, name: str, namespace: str = "", everywhere: bool = False) -> Any:
        return copy.deepcopy(self._find(kind, namespace, name))

    def _list(
        self,
        kind: str,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        everywhere: bool = False,
    ) -> Listed:
        name = field_selector.removeprefix("metadata.name=")
        found = [
            one
            for key, one in self._kube.objects.items()
            if key[0] == kind
            and (everywhere or key[1] == namespace)
            and name in ("", key[2])
            and selected(one, label_selector)
        ]
        return Listed(copy.deepcopy(found))

    def _patch(self, kind: str, *, name: str, body: Mapping[str, Any], namespace: str = "", **_: Any) -> Any:
        found = self._find(kind, namespace, name)
        found.data = {**(found.data or {}), **body["data"]}
        return copy.deepcopy(found)

    def _delete(self, kind: str, *, name: str, namespace: str = "", **_: Any) -> None:
        found = self._find(kind, namespace, name)
        if kind == "namespace":
            if name in self._kube.finalizers:
                found.status = V1NamespaceStatus(conditions=[held(name)])
                return
            for key in [key for key in self._kube.objects if key[1] == name]:
                del self._kube.objects[key]
        del self._kube.objects[kind, namespace, name]

    def _delete_collection(self, kind: str, *, namespace: str, **_: Any) -> None:
        for key in [key for key in self._kube.objects if key[:2] == (kind, namespace)]:
            del self._kube.objects[key]

    def _find(self, kind: str, namespace: str, name: str) -> Any:
        try:
            return self._kube.objects[kind, namespace, name]
        except KeyError:
            raise missing(f"{kind}s", name) from None


def missing(kind: str, name: str) -> ApiException:
    """The 404 of a real server."""
    gone = ApiException(status=404, reason="Not Found")
    gone.body = f'{{"reason": "NotFound", "message": "{kind} \\"{name}\\" not found"}}'
    return gone


def held(namespace: str) -> V1NamespaceCondition:
    """What the server says of a namespace that a finalizer keeps."""
    return V1NamespaceCondition(
        type="NamespaceFinalizersRemaining",
        status="True",
        reason="SomeFinalizersRemain",
        message="Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
    )


def node(name: str, *, ready: bool = True) -> V1Node:
    """A node object."""
    condition = V1NodeCondition(type="Ready", status="True" if ready else "Unknown")
    return V1Node(metadata=V1ObjectMeta(name=name), status=V1NodeStatus(conditions=[condition]))


def selected(body: Any, selector: str) -> bool:
    """Whether the labels of an object fit ``a=b,c=d``; a bare ``a`` asks for any value."""
    labels = body.metadata.labels or {}
    pieces = [piece.partition("=") for piece in selector.split(",") if piece]
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in pieces)


def running(*, workers: int = 2, containers: bool = True, load_balancer: str = "metallb") -> RunningCluster:
    """A cluster called ``one`` as labctl.cluster.running would find it."""
    names = ["one-worker", *(f"one-worker{number}" for number in range(2, workers + 1))][:workers]
    nodes = [
        Node(
            name, "worker" if "worker" in name else "control-plane", name if containers else None, "127.0.0.1"
        )
        for name in ["one-control-plane", *names]
    ]
    return RunningCluster("one", Path("/nowhere"), tuple(nodes), cni="flannel", load_balancer=load_balancer)


class Listener:
    """A progress that keeps the titles, what came of them and what was noted."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def step(self, title: str) -> Iterator[Listener]:
        try:
            yield self
        except BaseException:
            self.failed.append(title)
            raise
        self.done.append(title)

    @contextmanager
    def overall(self, total: int, title: str) -> Iterator[Listener]:
        yield self

    def advance(self, count: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def result(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        self.notes.append(text)
