"""What an instance of a lab has on a cluster: its namespaces and all that carries its labels.

Made before its first step, gone after its reset. It removes only what carries the instance's own labels,
whatever its kind: the API server is asked which kinds it has. A namespace of the same name that somebody
else made is left alone and reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labctl.errors import NOT_FOUND, ApiRefused, CleanupIncomplete, Conflict, DeadlineExceeded
from labctl.kube import Kube
from labctl.lab.engine import belongings
from labctl.lab.handle import MEMORY, Cluster
from labctl.lab.instance import PLAIN, Instance
from labctl.lab.labels import INSTANCE, LAB
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


_HOLDS = frozenset({"NamespaceContentRemaining", "NamespaceFinalizersRemaining"})


def make(k8s: Cluster, step: Step) -> None:
    """Make the instance's namespaces and its memory, and wait until pods can be created in them."""
    from kubernetes.client import V1ConfigMap, V1Namespace, V1ObjectMeta

    with k8s.kube.translated("make the lab's namespaces"):
        for name in k8s.namespaces.values():
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


def remove(kube: Kube, instance: Instance, step: Step, *, within: float | None = None) -> int:
    """Delete the instance's namespaces and whatever else carries its labels, and wait until all of it is gone.

    Returns how many objects were deleted (a namespace counts once). Raises `Conflict` for a namespace that
    is not the lab's, `CleanupIncomplete` after ``within`` seconds (None: `REMOVAL_SECONDS`), with what
    holds each namespace.
    """
    within = REMOVAL_SECONDS if within is None else within
    with kube.translated(f"remove what lab {instance.lab} made"):
        doomed = _namespaces(kube, instance)
        for namespace in doomed:
            _delete(kube.core.delete_namespace, name=namespace.metadata.name)
            # Kubernetes looks at a doomed namespace after 5 s; if its pods are gone by then, so is it.
            _delete(kube.core.delete_collection_namespaced_pod, namespace=namespace.metadata.name)
        try:
            until(lambda: _gone(kube, instance, doomed), what="gone", within=within, on_wait=step.note)
        except DeadlineExceeded as late:
            raise _incomplete(kube, instance, within) from late
        return len(doomed) + belongings.remove(kube, instance)


def leftovers(kube: Kube, instance: Instance) -> tuple[str, ...]:
    """What still exists of the instance, one line for each object; for a namespace also what holds it."""
    lines = []
    with kube.translated(f"look for what lab {instance.lab} made"):
        for namespace in _namespaces(kube, instance):
            held = "; ".join(_held_by(namespace))
            lines.append(f"namespace/{namespace.metadata.name}" + (f": {held}" if held else ""))
        there = {line.partition(":")[0].partition("/")[2] for line in lines}
        lines += [str(one) for one in belongings.find(kube, instance) if one.namespace not in there]
    return tuple(lines)


def instances(kube: Kube, lab: str) -> tuple[str, ...]:
    """The tags of every instance of a lab that has namespaces on the cluster; '' is the plain one."""
    with kube.translated(f"look for what lab {lab} made"):
        listed: list[Any] = kube.core.list_namespace(label_selector=f"{LAB}={lab}").items
    values = {str((one.metadata.labels or {}).get(INSTANCE, PLAIN)) for one in listed}
    return tuple(sorted("" if value == PLAIN else value for value in values))


def _default_accounts(k8s: Cluster) -> None:
    for name in k8s.namespaces.values():
        try:
            with k8s.kube.translated("read the default ServiceAccount"):
                k8s.core.read_namespaced_service_account(name="default", namespace=name)
        except ApiRefused as refused:
            if not refused.not_found:
                raise
            raise NotYet(f"namespace {name} has none yet") from refused


def _namespaces(kube: Kube, instance: Instance) -> list[Any]:
    """The namespaces that exist of the instance's own and of those that its steps made."""
    listed: list[Any] = kube.core.list_namespace().items
    found = {one.metadata.name: one for one in listed}
    # A namespace without the instance's label is the plain one of a labctl that knew no instances.
    mine = [
        one
        for one in found.values()
        if instance.marks.items() <= {INSTANCE: PLAIN, **(one.metadata.labels or {})}.items()
    ]
    for name in instance.namespaces.values():
        if name in found and found[name] not in mine:
            raise Conflict(
                f"namespace {name} is not lab {instance.lab}'s",
                why=f"it exists without the label {LAB}={instance.lab}, so labctl did not make it",
                next_step="labctl leaves it alone: give the lab another number, or use another cluster; "
                "if nobody needs what is in it, rename or remove it yourself",
            )
    return mine


def _gone(kube: Kube, instance: Instance, doomed: Sequence[Any]) -> None:
    there = _namespaces(kube, instance)
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


def _incomplete(kube: Kube, instance: Instance, within: float) -> CleanupIncomplete:
    left = leftovers(kube, instance) or ("nothing by now: it went a moment too late",)
    return CleanupIncomplete(
        f"lab {instance.lab} could not be removed",
        why=f"not gone after {within:.0f} s",
        leftovers=left,
        next_step=f"remove what holds it, then run `labctl lab reset {instance.number}`",
    )


def _delete(delete: Any, **which: str) -> None:
    from kubernetes.client.exceptions import ApiException

    try:
        delete(**which, propagation_policy="Background")
    except ApiException as refused:
        # 409: a namespace that is being deleted already.
        if refused.status not in (NOT_FOUND, 409):
            raise
