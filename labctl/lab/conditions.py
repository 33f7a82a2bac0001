"""Conditions that a step can wait for, and when such a wait is pointless.

Each of them is built from names and returns a function of the handle: it returns when the condition
holds, raises `CheckFailed` with what is seen while it does not, and `Hopeless` when it can
no longer come true. Authors write their own in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl import kubewords
from labctl.lab.api import Condition
from labctl.lab.expectation import CheckFailed
from labctl.waiting import Hopeless

if TYPE_CHECKING:
    from labctl.lab.handle import Cluster


def ready(app: str, count: int = 0, *, on_each_node: bool = False, namespace: str = "") -> Condition:
    """All pods with ``app=APP`` are Ready, and there are ``count`` of them, or as many as nodes; at least one
    where neither is asked for. A pod made by `labctl.lab.pod` carries its own name as this label.
    """

    def look(k8s: Cluster) -> None:
        wanted = len(k8s.nodes) if on_each_node else count
        for pod in k8s.some_pods(app, count=wanted, namespace=namespace):
            refuse_unready(pod)

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
    trouble = kubewords.pod(pod)
    if not trouble.text:
        return
    name = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
    if trouble.final:
        raise Hopeless(f"{name}: {trouble.text}")
    raise CheckFailed(f"{name}: {trouble.text}", expected=f"{name} is Ready")
