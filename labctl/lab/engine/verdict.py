"""From what was seen to a result: status, cause, advice.

Pure but for the hints, which authors compute from the cluster's state. It knows no order and no waiting.
"""

from __future__ import annotations

import functools
import time

from labctl.errors import ApiRefused, LabctlError
from labctl.lab.api import Lab, Statement, Trial
from labctl.lab.engine import foreign
from labctl.lab.engine.loader import LabFile, where
from labctl.lab.engine.observe import Outcome, Seen
from labctl.lab.expectation import CheckFailed
from labctl.lab.handle import Cluster
from labctl.lab.results import CheckResult, Status
from labctl.waiting import Hopeless, NotYet

STATUS = {
    Outcome.HOLDS: Status.PASS,
    Outcome.NOT_YET: Status.FAIL,
    Outcome.HOPELESS: Status.FAIL,
    Outcome.DID_NOT_RUN: Status.ERROR,
    Outcome.BROKEN: Status.ERROR,
}


def judged(check: Statement, seen: Seen, hint: str, file: LabFile, started: float) -> CheckResult:
    """The result of ``check``; ``started`` is a moment of `time.monotonic`. Only PASS needs no words."""
    status = STATUS[seen.outcome]
    seconds = time.monotonic() - started
    if status is Status.PASS:
        return CheckResult(check.id, check.title, status, seconds=seconds)
    actual = (
        cause(seen.cause, file)
        if status is Status.ERROR and seen.cause and not seen.by_control
        else seen.actual
    )
    expected = seen.expected or check.title
    return CheckResult(check.id, check.title, status, expected, actual or "it does not hold", hint, seconds)


def broken_off(trial: Trial, wrong: Exception, why: str, started: float) -> CheckResult:
    """An experiment that raised before it had made all its statements: FAIL if it found the cluster not as it
    should be, else ERROR with the cause ``why``."""
    absent = isinstance(wrong, ApiRefused) and wrong.not_found
    if absent or isinstance(wrong, CheckFailed | NotYet | Hopeless):
        expected = getattr(wrong, "expected", "") or trial.title
        seconds = time.monotonic() - started
        return CheckResult(trial.id, trial.title, Status.FAIL, expected, str(wrong), seconds=seconds)
    return error(trial.id, trial.title, why, started)


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
    if isinstance(wrong, LabctlError | StepFailed | foreign.Overdue):
        return " ".join(str(wrong).split())
    shown = wrong.__cause__ if isinstance(wrong, foreign.Escaped) and wrong.__cause__ else wrong
    return f"{type(shown).__name__}: {' '.join(str(shown).split())} ({where(shown, file.path)})"


HINT_SECONDS = 30.0


def advice(lab: Lab, check: str, k8s: Cluster) -> str:
    """What the first hint that knows better says about a failed check; an empty text if none does."""
    for hint in lab.hints:
        if hint.checks and check not in hint.checks:
            continue
        try:
            said = foreign.call(functools.partial(hint.advise, k8s), within=HINT_SECONDS)
        except Exception as wrong:  # noqa: BLE001  # a hint is no reason to lose the result that it was to explain
            called = getattr(hint.advise, "__name__", "a hint")
            said = f"(no advice: {called} failed with {type(wrong).__name__}: {wrong})"
        if said:
            return str(said)
    return ""


class StepFailed(Exception):
    """A step could not do its work, so the lab has nothing to verify; the text is the cause."""
