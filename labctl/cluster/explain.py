"""Why something in the cluster is not ready yet, in a few words.

Reads the API's objects and says what a person would look for: the container that waits and its
reason, the pod that no node takes, the node's own complaint. It also knows which reasons do not
pass by themselves. It asks the API server nothing; it is given what was read.
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

_WORDS = 160
_ERROR = re.compile(r"^[EF]\d{4} |error|fatal|panic", re.IGNORECASE)
"""klog's letter for errors, or the word."""


@dataclass(frozen=True)
class Seen:
    """What is wrong in words; ``lasting`` is what will not pass by itself: image, configuration, crash or ''."""

    text: str
    lasting: str = ""


def pods(listed: Sequence[Any]) -> Seen:
    """Why these pods are not all ready: the most common reason first, each with one pod's name."""
    reasons = [(one.metadata.name, _pod(one)) for one in listed if not pod_is_ready(one)]
    if not reasons:
        return Seen("")
    counted = Counter(text for _, (text, _) in reasons)
    parts = []
    for text, count in counted.most_common(3):
        name = next(name for name, (other, _) in reasons if other == text)
        parts.append(f"{text} (pod {name}{f' and {count - 1} more' if count > 1 else ''})")
    known = LASTING | SLOW
    lasting = next((known[reason] for _, (_, reason) in reasons if reason in known), "")
    return Seen("; ".join(parts), lasting)


def pod_is_ready(pod: Any) -> bool:
    """Whether the pod's Ready condition holds."""
    return condition(pod, "Ready") == "True"


def condition(thing: Any, kind: str) -> str:
    """The status of a condition ("True", "False", "Unknown"), or '' where there is none of that type."""
    for one in (thing.status.conditions if thing.status else None) or ():
        if one.type == kind:
            return str(one.status)
    return ""


def node(thing: Any) -> str:
    """Why a node is not Ready, in its own words; '' when it is."""
    for one in (thing.status.conditions if thing.status else None) or ():
        if one.type == "Ready":
            return "" if one.status == "True" else _short(one.message or one.reason or "not ready")
    return "has not reported yet"


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


def _pod(pod: Any) -> tuple[str, str]:
    """The words and the bare reason."""
    if pod.metadata.deletion_timestamp:
        return "is being deleted", ""
    status = pod.status
    for one in [*(status.init_container_statuses or ()), *(status.container_statuses or ())]:
        state = one.state
        if state and state.waiting and state.waiting.reason not in {None, "PodInitializing"}:
            return _waiting(one, str(state.waiting.reason)), str(state.waiting.reason)
        if state and state.terminated and state.terminated.exit_code:
            return f"container {one.name} ended with exit code {state.terminated.exit_code}", ""
    for one in status.conditions or ():
        if one.type == "PodScheduled" and one.status == "False":
            return _short(f"no node takes it: {one.message or one.reason}"), ""
    if status.phase == "Failed":
        return _short(f"failed: {status.message or status.reason or 'no reason given'}"), ""
    return {"Running": "runs, not ready yet", "Pending": "starting"}.get(
        str(status.phase), str(status.phase)
    ), ""


def _waiting(container: Any, reason: str) -> str:
    if "Image" in reason:
        return f"{reason}: {container.image}"
    last = container.last_state.terminated if container.last_state else None
    if last and last.exit_code is not None:
        return f"{reason}: {container.name}, last exit code {last.exit_code}"
    return reason


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WORDS else line[: _WORDS - 3] + "..."
