"""Proves that a lab's checks can be trusted: `labctl lab prove`.

A check is worth something when it fails on untouched namespaces, holds after the steps, fails under a
fault put in on purpose, and holds again once all is repaired. Each of these is a statement, and
each statement becomes a line of an ordinary result.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from labctl.errors import DeadlineExceeded
from labctl.lab.api import Check, Lab, Sabotage, Trial
from labctl.lab.calls import STEP_PATIENCE_SECONDS
from labctl.lab.engine import verdict
from labctl.lab.engine.loader import LabFile
from labctl.lab.engine.observe import Outcome, Seen, look_once, settle
from labctl.lab.engine.runner import Runner
from labctl.lab.handle import Cluster
from labctl.lab.results import CheckResult, LabResult, Status
from labctl.waiting import NotYet, until

TURN_SECONDS = 60.0
"""How long a fault may take to show; kube-proxy and readiness need a few seconds, DNS caches 30."""
STAY_SECONDS = 15.0
"""How long a broken check must stay broken, if its own time is longer: pods come back within some 5 s."""


def prove(runner: Runner, file: LabFile, lab: Lab) -> LabResult:
    """All statements about a lab, up to the first phase that does not hold.

    A lab that is proven is reset; where a statement does not hold, what it was seen on stays to be looked at.
    An experiment that cannot be made on this cluster is SKIP, with the reason, and so are its sabotages.
    """
    started = time.monotonic()
    unbroken = _unbroken(lab)
    if unbroken:
        refusal = CheckResult(
            "sabotages",
            "Every check is broken by a sabotage",
            Status.FAIL,
            "for every check an @lab.sabotage that names it in breaks=",
            f"none breaks {', '.join(unbroken)}",
            seconds=time.monotonic() - started,
        )
        return LabResult(file.number, file.slug, file.title, Status.FAIL, (refusal,))
    return runner.result(file, lab, lambda: _statements(runner, file, lab))


def _unbroken(lab: Lab) -> list[str]:
    broken = {name for sabotage in lab.sabotages for name in sabotage.breaks}
    return [one.id for one in lab.observations if one.id not in broken]


def _statements(runner: Runner, file: LabFile, lab: Lab) -> Iterator[CheckResult]:
    """One by one, so that those made so far outlive whatever ends the proof."""
    for phase in _phases(runner, file, lab):
        holds = True
        for one in phase:
            yield one
            holds = holds and one.status in (Status.PASS, Status.SKIP)
        if not holds:
            return
    runner.reset(file, lab)


def _phases(runner: Runner, file: LabFile, lab: Lab) -> Iterator[Iterable[CheckResult]]:
    k8s = runner.prepare(file, lab)
    yield (_fails_untouched(runner, file, check, k8s) for check in lab.checks)
    runner.act(file, lab, k8s)
    held = _all_hold(runner, file, lab, lab.observations, k8s, "after the steps")
    yield held
    impossible = {one.id for one in held if one.status is Status.SKIP}
    possible = [one for one in lab.observations if one.id not in impossible]
    for sabotage in lab.sabotages:
        broken = [one for one in possible if one.id in sabotage.breaks]
        if not broken:
            continue
        yield _fails_under(runner, file, lab, sabotage, broken, k8s)
        k8s = runner.prepare(file, lab)
        runner.act(file, lab, k8s)
        # An experiment takes minutes, and what was not broken needs no repair.
        repaired = [one for one in possible if isinstance(one, Check) or one in broken]
        yield _all_hold(runner, file, lab, repaired, k8s, f"repaired after {sabotage.title!r}")


def _fails_untouched(runner: Runner, file: LabFile, check: Check, k8s: Cluster) -> CheckResult:
    """One look: without steps nothing comes true by waiting."""
    started = time.monotonic()
    title = f"untouched: {check.title!r} fails"
    k8s.patience = 0.0
    with _shown(runner, file, title) as outcome:
        seen = settle(check, k8s, between=runner.guard.glance, within=0.0)
        outcome.append(_must_fail(f"{check.id}-untouched", title, check, seen, file, started))
    return outcome[0]


def _all_hold(
    runner: Runner, file: LabFile, lab: Lab, which: Sequence[Check | Trial], k8s: Cluster, when: str
) -> list[CheckResult]:
    """One statement if all of ``which`` hold, else those that do not; and each that could not be made."""
    started = time.monotonic()
    results = runner.observe(file, lab, k8s, which)
    skipped = [one for one in results if one.status is Status.SKIP]
    bad = [one for one in results if one.status not in (Status.PASS, Status.SKIP)]
    if bad:
        return [replace(one, title=f"{when}: {one.title!r} holds") for one in bad]
    name = "all-" + re.sub("[^a-z0-9]+", "-", when.lower()).strip("-")
    title = f"{when}: all {len(results) - len(skipped)} checks hold"
    return [CheckResult(name, title, Status.PASS, seconds=time.monotonic() - started), *skipped]


def _fails_under(
    runner: Runner,
    file: LabFile,
    lab: Lab,
    sabotage: Sabotage,
    broken: Sequence[Check | Trial],
    k8s: Cluster,
) -> list[CheckResult]:
    started = time.monotonic()
    found: list[CheckResult] = []
    try:
        with runner.excused(), runner.kube.translated(sabotage.title), _in_place(runner, file, sabotage, k8s):
            for one in broken:
                found.append(_breaks(runner, file, lab, one, k8s, sabotage))  # kept if the next one raises
    except Exception as wrong:  # noqa: BLE001  # an author's function may raise anything
        found.append(
            verdict.error(sabotage.id, f"sabotage {sabotage.title!r}", verdict.cause(wrong, file), started)
        )
    return found


@contextlib.contextmanager
def _in_place(runner: Runner, file: LabFile, sabotage: Sabotage, k8s: Cluster) -> Iterator[None]:
    """Put the fault in; on the way out a generator gets the chance to take it away."""
    k8s.patience = STEP_PATIENCE_SECONDS
    if not inspect.isgeneratorfunction(sabotage.act):
        with runner.progress.step(f"{file.number:02d} Sabotage: {sabotage.title}"):
            sabotage.act(k8s)
        yield
        return
    generator = sabotage.act(k8s)
    with runner.progress.step(f"{file.number:02d} Sabotage: {sabotage.title}"):
        next(generator)
    try:
        yield
    finally:
        k8s.patience = STEP_PATIENCE_SECONDS
        next(generator, None)
        generator.close()


def _breaks(
    runner: Runner, file: LabFile, lab: Lab, broken: Check | Trial, k8s: Cluster, sabotage: Sabotage
) -> CheckResult:
    started = time.monotonic()
    title = f"under {sabotage.title!r}: {broken.title!r} fails"
    name = f"{broken.id}-{sabotage.id}"
    if isinstance(broken, Trial):
        return _trial_fails(name, title, runner.trial(file, lab, broken, k8s), started)
    k8s.patience = 0.0
    with _shown(runner, file, title) as outcome:
        _turned(broken, k8s)
        seen = settle(broken, k8s, within=min(broken.within, STAY_SECONDS))
        result = _must_fail(name, title, broken, seen, file, started)
        if seen.by_control:
            # A fault in the control says nothing about what the check itself would notice.
            result = replace(result, status=Status.FAIL, actual=f"only its control fails: {seen.actual}")
        outcome.append(result)
    return outcome[0]


def _turned(check: Check, k8s: Cluster) -> None:
    """Wait until the check does not hold any more, as long as a fault may take to show."""

    def look() -> Seen:
        seen = look_once(check.look, k8s)
        if seen.outcome in (Outcome.NOT_YET, Outcome.HOPELESS, Outcome.BROKEN):
            return seen
        raise NotYet("it still holds" if seen.outcome is Outcome.HOLDS else seen.actual)

    with contextlib.suppress(DeadlineExceeded):
        until(look, what="the fault shows", within=TURN_SECONDS)


def _must_fail(name: str, title: str, check: Check, seen: Seen, file: LabFile, started: float) -> CheckResult:
    """PASS for a check that failed by itself, as a check fails: it looked, and the answer was no."""
    seconds = time.monotonic() - started
    actual = f"{check.title!r} is " + {
        Status.PASS: "PASS",
        Status.ERROR: f"ERROR: {verdict.cause(seen.cause, file) if seen.cause else seen.actual}",
    }.get(verdict.STATUS[seen.outcome], f"FAIL: {seen.actual}")
    failed = verdict.STATUS[seen.outcome] is Status.FAIL
    return CheckResult(
        name,
        title,
        Status.PASS if failed else Status.FAIL,
        f"{check.title!r} is FAIL",
        actual,
        seconds=seconds,
    )


def _trial_fails(name: str, title: str, results: list[CheckResult], started: float) -> CheckResult:
    statuses = [one.status for one in results]
    failed = Status.FAIL in statuses and Status.ERROR not in statuses
    actual = ", ".join(f"{one.title!r} {one.status}" for one in results)
    seconds = time.monotonic() - started
    return CheckResult(
        name,
        title,
        Status.PASS if failed else Status.FAIL,
        "a statement FAIL, none ERROR",
        actual,
        seconds=seconds,
    )


@contextlib.contextmanager
def _shown(runner: Runner, file: LabFile, title: str) -> Iterator[list[CheckResult]]:
    """A step on the screen that ends as the one result put into the list does."""
    outcome: list[CheckResult] = []
    with contextlib.suppress(_Unproven), runner.progress.step(f"{file.number:02d} {title}") as step:
        yield outcome
        step.result("proven" if outcome[0].status is Status.PASS else outcome[0].actual)
        if outcome[0].status is not Status.PASS:
            raise _Unproven


class _Unproven(Exception):
    """Ends a step on the screen badly."""
