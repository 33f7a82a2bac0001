"""What the objects of Kubernetes say of themselves: ready or not, and if not, why, in a few words.

It says what a person would look for: the container that waits and its reason, the pod that no node
takes, the node's own complaint. It also knows which reasons do not pass by themselves. It asks
nobody anything; it is given what was read, as the official client's models or as parsed JSON.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

LASTING = {
    "ImagePullBackOff": "image",
    "ErrImagePull": "image",
    "InvalidImageName": "image",
    "ErrImageNeverPull": "image",
    "CreateContainerConfigError": "configuration",
}
"""Reasons that stay until somebody changes something, by what is wrong: the kubelet goes from one word to
the other and back."""

SLOW = {"CrashLoopBackOff": "crash"}
"""Reasons that may pass: a program can fail until what it needs is there."""

FINAL = frozenset({"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
"""Reasons that need no second look. `ErrImagePull` is only the first attempt; a missing ConfigMap may still come."""

OVER = frozenset({"Failed", "Succeeded"})
"""Phases that a pod does not leave."""

_WORDS = 160
_ERROR = re.compile(r"^[EF]\d{4} |error|fatal|panic", re.IGNORECASE)
"""klog's letter for errors, or the word."""


@dataclass(frozen=True)
class Trouble:
    """Why something is not ready, in words; '' when it is.

    ``lasting`` is what will not pass by itself: image, configuration, crash or ''. ``final``: it cannot
    become ready any more, so that waiting is pointless from now on.
    """

    text: str = ""
    lasting: str = ""
    final: bool = False


def is_ready(thing: Any) -> bool:
    """Whether the Ready condition of a pod or node holds."""
    return condition(thing, "Ready") == "True"


def condition(thing: Any, kind: str) -> str:
    """The status of a condition ("True", "False", "Unknown"), or '' where there is none of that type."""
    return str(_get(_condition(thing, kind), "status") or "")


def pod(found: Any) -> Trouble:
    """Why a pod is not ready, or will not stay so: one that is being deleted counts as not ready."""
    if found.metadata.deletion_timestamp:
        return Trouble("is being deleted")
    status = found.status
    if status.phase in OVER:
        return Trouble(
            _short(f"phase {status.phase}: {status.message or status.reason or 'no reason given'}"),
            final=True,
        )
    if is_ready(found):
        return Trouble()
    for one in [*(status.init_container_statuses or ()), *(status.container_statuses or ())]:
        state = one.state
        if state and state.waiting and state.waiting.reason not in {None, "PodInitializing"}:
            reason = str(state.waiting.reason)
            return Trouble(_waiting(one, reason), (LASTING | SLOW).get(reason, ""), reason in FINAL)
        if state and state.terminated and state.terminated.exit_code:
            return Trouble(f"container {one.name} ended with exit code {state.terminated.exit_code}")
    unplaced = _condition(found, "PodScheduled")
    if unplaced is not None and unplaced.status == "False":
        return Trouble(_short(f"no node takes it: {unplaced.message or unplaced.reason}"))
    words = {"Running": "runs, not ready yet", "Pending": "starting"}
    return Trouble(words.get(str(status.phase), str(status.phase)))


def pods(listed: Sequence[Any]) -> Trouble:
    """Why these pods are not all ready: the most common reason first, each with one pod's name."""
    troubles = [(str(one.metadata.name), trouble) for one in listed if (trouble := pod(one)).text]
    parts = []
    for text, count in Counter(trouble.text for _, trouble in troubles).most_common(3):
        name = next(name for name, trouble in troubles if trouble.text == text)
        parts.append(f"{text} (pod {name}{f' and {count - 1} more' if count > 1 else ''})")
    lasting = next((trouble.lasting for _, trouble in troubles if trouble.lasting), "")
    return Trouble("; ".join(parts), lasting, any(trouble.final for _, trouble in troubles))


def node(found: Any) -> str:
    """Why a node is not Ready, in its own words; '' when it is."""
    ready = _condition(found, "Ready")
    if ready is None:
        return "has not reported yet"
    return (
        ""
        if is_ready(found)
        else _short(
            _get(ready, "message") or _get(ready, "reason") or f"Ready is {condition(found, 'Ready')}"
        )
    )


def last_report(node: Any) -> datetime | None:
    """When the kubelet last reported on its node; None where that is not said."""
    for one in (node.status.conditions if node.status else None) or ():
        if one.type == "Ready":
            reported: datetime | None = getattr(one, "last_heartbeat_time", None)
            return reported
    return None


def before(reported: datetime | None, started: datetime | None) -> bool:
    """Whether what is said of ``reported`` is from before ``started``; Kubernetes' times are whole seconds."""
    return bool(reported and started and reported < started.replace(microsecond=0))


def from_before(listed: Sequence[Any], started: Mapping[str, datetime]) -> list[str]:
    """The pods that run, it is said, since before their node was started: their status is a former life's."""
    return [
        str(pod.metadata.name)
        for pod in listed
        if any(
            one.state and one.state.running
            and before(one.state.running.started_at, started.get(str(pod.spec.node_name)))
            for one in pod.status.container_statuses or ()
        )
    ]  # fmt: skip


def crashing(listed: Sequence[Any]) -> Iterator[tuple[str, str, str]]:
    """Namespace, pod and container of each program that keeps failing."""
    for pod in listed:
        for one in [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]:
            if one.state and one.state.waiting and one.state.waiting.reason in SLOW:
                yield str(pod.metadata.namespace), str(pod.metadata.name), str(one.name)


def telling(log: str) -> str:
    """The last line of a log that speaks of an error, else its last line."""
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    return _short((errors or lines or [""])[-1])


def summary(names: Iterable[str]) -> str:
    """A few names and how many more."""
    listed = list(names)
    shown = ", ".join(listed[:3])
    return shown + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _condition(thing: Any, kind: str) -> Any:
    listed = _get(_get(thing, "status"), "conditions") or ()
    return next((one for one in listed if _get(one, "type") == kind), None)


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)


def _waiting(container: Any, reason: str) -> str:
    if "Image" in reason:
        return f"{reason}: {container.image}"
    last = container.last_state.terminated if container.last_state else None
    if last and last.exit_code is not None:
        return f"{reason}: {container.name}, last exit code {last.exit_code}"
    message = getattr(container.state.waiting, "message", None)
    return _short(f"{reason}: {message}") if message else reason


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WORDS else line[: _WORDS - 3] + "..."
