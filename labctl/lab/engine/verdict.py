"""From what was seen to a result: status, cause, advice.

Pure but for the hints, which authors compute from the cluster's state. It knows no order and no waiting.
"""

from __future__ import annotations

import time

from labctl.errors import LabctlError
from labctl.lab.api import Check, Holds, Lab
from labctl.lab.engine.loader import LabFile, where
from labctl.lab.engine.observe import Outcome, Seen
from labctl.lab.handle import Cluster
from labctl.lab.results import CheckResult, Status

STATUS = {
    Outcome.HOLDS: Status.PASS,
    Outcome.NOT_YET: Status.FAIL,
    Outcome.HOPELESS: Status.FAIL,
    Outcome.DID_NOT_RUN: Status.ERROR,
    Outcome.BROKEN: Status.ERROR,
}


def judged(
    name: str, check: Check | Holds, seen: Seen, hint: str, file: LabFile, started: float
) -> CheckResult:
    """The result of ``check``; ``started`` is a moment of `time.monotonic`. Only PASS needs no words."""
    status = STATUS[seen.outcome]
    seconds = time.monotonic() - started
    if status is Status.PASS:
        return CheckResult(name, check.title, status, seconds=seconds)
    actual = (
        cause(seen.cause, file)
        if status is Status.ERROR and seen.cause and not seen.by_control
        else seen.actual
    )
    return CheckResult(
        name, check.title, status, seen.expected or check.title, actual or "it does not hold", hint, seconds
    )


def error(name: str, title: str, why: str, started: float) -> CheckResult:
    """A check that could not be looked at."""
    return CheckResult(name, title, Status.ERROR, title, why, seconds=time.monotonic() - started)


def skipped(name: str, title: str, why: str) -> CheckResult:
    """A check that was not looked at."""
    return CheckResult(name, title, Status.SKIP, title, why)


def never_run(name: str, title: str, file: LabFile, namespace: str) -> CheckResult:
    """A check of a lab that left no trace on the cluster."""
    return CheckResult(
        name,
        title,
        Status.FAIL,
        title,
        f"namespace {namespace} does not exist",
        f"run the lab first: `labctl lab run {file.number}`",
    )


def cause(wrong: Exception, file: LabFile) -> str:
    """One sentence for an exception; for one that labctl does not know, with the line of the lab file."""
    if isinstance(wrong, LabctlError | StepFailed):
        return " ".join(str(wrong).split())
    return f"{type(wrong).__name__}: {' '.join(str(wrong).split())} ({where(wrong, file.path)})"


def advice(lab: Lab, check: str, k8s: Cluster) -> str:
    """What the first hint that knows better says about a failed check; an empty text if none does."""
    for hint in lab.hints:
        if hint.checks and check not in hint.checks:
            continue
        try:
            said = hint.advise(k8s)
        except Exception as wrong:  # noqa: BLE001  # a hint is no reason to lose the result that it was to explain
            said = f"(no advice: {hint.advise.__name__} failed with {type(wrong).__name__}: {wrong})"
        if said:
            return said
    return ""


class StepFailed(Exception):
    """A step could not do its work, so the lab has nothing to verify; the text is the cause."""
