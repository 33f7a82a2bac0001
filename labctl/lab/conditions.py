"""Conditions that a step can wait for, and when such a wait is pointless.

Each of them is built from names and returns a function of the handle: it returns when the condition
holds, raises `CheckFailed` with what is seen while it does not, and `Hopeless` when it can
no longer come true. Authors write their own in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labctl.lab.api import CheckFailed, Condition
from labctl.waiting import Hopeless

if TYPE_CHECKING:
    from labctl.lab.handle import Cluster

NO_IMAGE = frozenset({"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
"""Why a container waits for an image that will not come. `ErrImagePull` is only the first attempt."""


def ready(*pods: str, namespace: str = "") -> Condition:
    """Every pod of these names is Ready."""

    def look(k8s: Cluster) -> None:
        for name in pods:
            refuse_unready(k8s.pod(name, namespace=namespace))

    return look


def ready_pods(app: str, count: int, *, namespace: str = "") -> Condition:
    """The label ``app`` is carried by exactly ``count`` pods, and all of them are Ready."""

    def look(k8s: Cluster) -> None:
        found = k8s.pods(app, namespace=namespace)
        for pod in found:
            refuse_unready(pod)
        if len(found) != count:
            raise CheckFailed(f"{len(found)} pod(s) with app={app}", expected=f"{count} pod(s)")

    return look


def gone(*pods: str, namespace: str = "") -> Condition:
    """No pod of these names exists, not even one that is still being deleted."""

    def look(k8s: Cluster) -> None:
        there: list[Any] = k8s.core.list_namespaced_pod(namespace=k8s.where(namespace)).items
        left = sorted({str(pod.metadata.name) for pod in there} & set(pods))
        if left:
            raise CheckFailed(f"still there: {', '.join(left)}", expected="the pods are gone")

    return look


def refuse_unready(pod: Any) -> None:
    """Raise `CheckFailed` that says why ``pod`` is not Ready, or `Hopeless` if it never will be."""
    name = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
    if reason := hopeless(pod):
        raise Hopeless(f"{name}: {reason}")
    conditions = {one.type: one for one in (pod.status.conditions or ())}
    is_ready = conditions.get("Ready")
    if is_ready is not None and is_ready.status == "True" and pod.metadata.deletion_timestamp is None:
        return
    raise CheckFailed(f"{name} is {_state(pod, conditions)}", expected=f"{name} is Ready")


def hopeless(pod: Any) -> str:
    """Why this pod can no longer become Ready, or an empty text."""
    if pod.status is None:
        return ""
    if pod.status.phase in ("Failed", "Succeeded"):
        return f"phase {pod.status.phase}" + (f": {pod.status.message}" if pod.status.message else "")
    for reason, message in _waiting(pod):
        if reason in NO_IMAGE:
            return f"{reason}: {message}" if message else reason
    return ""


def _state(pod: Any, conditions: dict[str, Any]) -> str:
    if pod.metadata.deletion_timestamp is not None:
        return "being deleted"
    scheduled = conditions.get("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return f"not placed on a node ({scheduled.reason}: {scheduled.message})"
    said = "; ".join(f"{reason}: {message}" if message else reason for reason, message in _waiting(pod))
    return f"{pod.status.phase}, not Ready" + (f" ({said})" if said else "")


def _waiting(pod: Any) -> Iterator[tuple[str, str]]:
    """Reason and message of each container that waits to start."""
    statuses = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    for status in statuses:
        waiting = status.state.waiting if status.state is not None else None
        if waiting is not None and waiting.reason:
            yield str(waiting.reason), str(waiting.message or "")
