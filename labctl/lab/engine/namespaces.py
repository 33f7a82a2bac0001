"""A lab's namespaces and all that carries its label: made before its first step, gone after its reset.

It removes only what carries the lab's own mark. A namespace of the same name that somebody else made
is left alone and reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.errors import ApiRefused, CleanupIncomplete, Conflict, DeadlineExceeded
from labctl.kube import Kube
from labctl.lab.handle import MEMORY, Cluster
from labctl.lab.labels import LAB
from labctl.progress import Step
from labctl.waiting import NotYet, until

REMOVAL_SECONDS = 90.0
"""Deleting a namespace with pods takes 5 to 15 s; a finalizer that nobody serves takes for ever."""
ACCOUNT_SECONDS = 30.0
"""The controller manager makes the default ServiceAccount within a second, when it is well."""

POD_SECURITY = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}

NOT_FOUND = 404

_WIDE = (
    ("core", "persistent_volume"),
    ("rbac", "cluster_role"),
    ("rbac", "cluster_role_binding"),
    ("storage", "storage_class"),
)
_INSIDE = (
    ("apps", "deployment"),
    ("apps", "daemon_set"),
    ("apps", "stateful_set"),
    ("apps", "replica_set"),
    ("batch", "cron_job"),
    ("batch", "job"),
    ("core", "pod"),
    ("core", "service"),
    ("core", "config_map"),
    ("core", "secret"),
    ("core", "persistent_volume_claim"),
    ("rbac", "role"),
    ("rbac", "role_binding"),
    ("networking", "network_policy"),
)
"""What a lab may have made outside its namespaces: (attribute of `Kube`, kind as the client spells it)."""


_HOLDS = frozenset({"NamespaceContentRemaining", "NamespaceFinalizersRemaining"})


@dataclass(frozen=True)
class Owned:
    """What a lab owns on a cluster: its name (the value of its label) and its namespaces."""

    lab: str
    namespaces: tuple[str, ...]


def make(k8s: Cluster, step: Step) -> None:
    """Make the lab's namespaces and its memory, and wait until pods can be created in them."""
    from kubernetes.client import V1ConfigMap, V1Namespace, V1ObjectMeta

    with k8s.kube.translated("make the lab's namespaces"):
        for name in k8s.namespaces:
            k8s.core.create_namespace(body=V1Namespace(metadata=V1ObjectMeta(name=name, labels=POD_SECURITY)))
        memory = V1ConfigMap(metadata=V1ObjectMeta(name=MEMORY))
        k8s.core.create_namespaced_config_map(namespace=k8s.namespace, body=memory)
    until(
        lambda: _default_accounts(k8s),
        what="the default ServiceAccount of the lab's namespaces",
        within=ACCOUNT_SECONDS,
        on_wait=step.note,
        next_step="the controller manager makes it: `labctl status`",
    )


def remove(kube: Kube, owned: Owned, step: Step, *, within: float | None = None) -> int:
    """Delete the lab's namespaces and whatever else carries its label, and wait until all of it is gone.

    Returns how many objects were deleted (a namespace counts once). Raises `Conflict` for a namespace that
    is not the lab's, `CleanupIncomplete` after ``within`` seconds (None: `REMOVAL_SECONDS`), with what
    holds each namespace.
    """
    within = REMOVAL_SECONDS if within is None else within
    with kube.translated(f"remove what lab {owned.lab} made"):
        doomed = _namespaces(kube, owned)
        for namespace in doomed:
            _delete(kube.core.delete_namespace, name=namespace.metadata.name)
            # Kubernetes looks at a doomed namespace after 5 s; if its pods are gone by then, so is it.
            _delete(kube.core.delete_collection_namespaced_pod, namespace=namespace.metadata.name)
        try:
            until(lambda: _gone(kube, owned, doomed), what="gone", within=within, on_wait=step.note)
        except DeadlineExceeded as late:
            raise _incomplete(kube, owned, within) from late
        return len(doomed) + _sweep(kube, owned)


def leftovers(kube: Kube, owned: Owned) -> tuple[str, ...]:
    """What still exists of the lab, one line for each object; for a namespace also what holds it."""
    lines = []
    with kube.translated(f"look for what lab {owned.lab} made"):
        for namespace in _namespaces(kube, owned):
            held = "; ".join(_held_by(namespace))
            lines.append(f"namespace/{namespace.metadata.name}" + (f": {held}" if held else ""))
        lines += [
            f"{kind.replace('_', '')}/{found.metadata.name}"
            for group, kind in _WIDE
            for found in _listed(kube, group, f"list_{kind}", owned)
        ]
    return tuple(lines)


def _default_accounts(k8s: Cluster) -> None:
    for name in k8s.namespaces:
        try:
            with k8s.kube.translated("read the default ServiceAccount"):
                k8s.core.read_namespaced_service_account(name="default", namespace=name)
        except ApiRefused as refused:
            if refused.status != NOT_FOUND:
                raise
            raise NotYet(f"namespace {name} has none yet") from refused


def _namespaces(kube: Kube, owned: Owned) -> list[Any]:
    """The namespaces that exist of the lab's own and of those that its steps made."""
    listed: list[Any] = kube.core.list_namespace().items
    found = {one.metadata.name: one for one in listed}
    mine = [one for one in found.values() if (one.metadata.labels or {}).get(LAB) == owned.lab]
    for name in owned.namespaces:
        if name in found and found[name] not in mine:
            raise Conflict(
                f"namespace {name} is not lab {owned.lab}'s",
                why=f"it exists without the label {LAB}={owned.lab}, so labctl did not make it",
                next_step=f"delete or rename it: `labctl kubectl -- delete namespace {name}`",
            )
    return mine


def _gone(kube: Kube, owned: Owned, doomed: Sequence[Any]) -> None:
    there = _namespaces(kube, owned)
    if there:
        held = [f"{one.metadata.name} ({'; '.join(_held_by(one)) or 'being deleted'})" for one in there]
        raise NotYet("namespace " + ", ".join(held))
    names = {one.metadata.name for one in doomed}
    existing: list[Any] = kube.core.list_persistent_volume().items if names else []
    volumes = [
        str(one.metadata.name)
        for one in existing
        if one.spec.claim_ref is not None
        and one.spec.claim_ref.namespace in names
        and one.spec.persistent_volume_reclaim_policy == "Delete"
    ]
    if volumes:
        raise NotYet(f"volume {', '.join(sorted(volumes))} being deleted")


def _held_by(namespace: Any) -> Iterator[str]:
    """What Kubernetes says keeps a namespace from going: remaining content and finalizers."""
    for condition in namespace.status.conditions or ():
        if condition.status == "True" and condition.type in _HOLDS:
            yield str(condition.message or condition.reason).rstrip(". ")


def _incomplete(kube: Kube, owned: Owned, within: float) -> CleanupIncomplete:
    left = leftovers(kube, owned) or ("nothing by now: it went a moment too late",)
    return CleanupIncomplete(
        f"lab {owned.lab} could not be removed",
        why=f"not gone after {within:.0f} s",
        leftovers=left,
        next_step=f"remove what holds it, then run `labctl lab reset {owned.lab.partition('-')[0]}`",
    )


def _sweep(kube: Kube, owned: Owned) -> int:
    """Delete labelled objects that lived outside the lab's namespaces."""
    removed = 0
    for group, kind in _WIDE:
        for found in _listed(kube, group, f"list_{kind}", owned):
            _delete(getattr(getattr(kube, group), f"delete_{kind}"), name=found.metadata.name)
            removed += 1
    for group, kind in _INSIDE:
        delete = getattr(getattr(kube, group), f"delete_namespaced_{kind}")
        for found in _listed(kube, group, f"list_{kind}_for_all_namespaces", owned):
            _delete(delete, name=found.metadata.name, namespace=found.metadata.namespace)
            removed += 1
    return removed


def _listed(kube: Kube, group: str, method: str, owned: Owned) -> list[Any]:
    return list(getattr(getattr(kube, group), method)(label_selector=f"{LAB}={owned.lab}").items)


def _delete(delete: Any, **which: str) -> None:
    from kubernetes.client.exceptions import ApiException

    try:
        delete(**which, propagation_policy="Background")
    except ApiException as refused:
        # 409: a namespace that is being deleted already.
        if refused.status not in (NOT_FOUND, 409):
            raise
