"""Proves that a lab's checks can be trusted: `labctl lab prove`.

A check is worth something when it fails on untouched namespaces, holds after the steps, and fails, by itself,
under a fault put in on purpose. A statement of an experiment must do the same; one that is made while
something is taken away must fail too when nothing was taken away (the placebo). Each of these is a claim,
and each claim becomes a line of an ordinary result.

The claims about a lab are cut into pieces that need nothing of one another: the story (untouched, after the
steps), the placebos and each sabotage. Each piece runs in an instance of its own, so that they may run side by
side. The placebos of a lab that takes away only what is its own are part of its story.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from labctl.errors import DeadlineExceeded
from labctl.lab.api import Check, Lab, Sabotage, Statement, Trial
from labctl.lab.calls import STEP_PATIENCE_SECONDS
from labctl.lab.engine import foreign, verdict
from labctl.lab.engine.fitness import unmet
from labctl.lab.engine.labrun import ACT_SECONDS, LabRun
from labctl.lab.engine.observe import Outcome, Seen, look_once
from labctl.lab.expectation import Unmet
from labctl.lab.handle import Cluster
from labctl.lab.results import CheckResult, LabResult, Status, overall
from labctl.waiting import NotYet, undisturbed, until

TURN_SECONDS = 60.0
"""How long a fault may take to show; kube-proxy and readiness need a few seconds, DNS caches 30."""
STAY_SECONDS = 10.0
"""How long a broken check must stay broken, if its own time is longer: pods come back within some 5 s."""


LONGER = 1.5
"""So many times as long as a statement took to come true it is looked at where it must not."""


@dataclass(frozen=True)
class Piece:
    """Some claims about a lab; ``alone`` says that they take something away that others need."""

    title: str
    alone: bool
    claims: Callable[[LabRun], Iterable[CheckResult]]


def pieces(lab: Lab) -> tuple[Piece, ...]:
    """What must be shown of a lab, in pieces that may be shown in any order."""
    # A placebo takes nothing away, so it needs not be alone as its story must; the longest of all, it comes first.
    placebos = (
        [Piece("placebos", False, lambda run: _placebos(run, lab))] if lab.touches and lab.trials else []
    )
    story = Piece("story", bool(lab.touches), lambda run: _story(run, lab))
    return (*placebos, story, *(_piece(lab, one) for one in lab.sabotages))


def unbroken(lab: Lab) -> tuple[str, ...]:
    """The titles of checks that nothing breaks: no sabotage names them. Statements of experiments may be broken
    by a placebo instead; which are is seen when the experiment runs."""
    broken = {name for sabotage in lab.sabotages for name in sabotage.breaks}
    return tuple(one.title for one in lab.checks if one.id not in broken)


def refusal(run: LabRun) -> LabResult | None:
    """The result for a lab that need not be run to see that its checks are not proved, or None."""
    missing = unbroken(run.lab)
    if not missing:
        return None
    check = CheckResult(
        "sabotages",
        "Every check is broken by a sabotage",
        Status.FAIL,
        "for every check an @lab.sabotage that names it in breaks=",
        f"none breaks {', '.join(missing)}",
    )
    return replace(together(run, []), status=Status.FAIL, checks=(check,))


def show(run: LabRun, piece: Piece) -> LabResult:
    """The claims of one piece in the instance of ``run``, which is removed afterwards.

    Where a claim does not hold, what it was seen on stays to be looked at.
    """
    try:
        return run.result(lambda: _until_one_fails(run, piece))
    except Exception:
        raise
    except BaseException:
        run.tidy()
        raise


def together(run: LabRun, shown: Sequence[LabResult]) -> LabResult:
    """The pieces of one lab as one result, in their order."""
    checks = tuple(check for one in shown for check in one.checks)
    reasons = [one.reason for one in shown if one.reason]
    codes = [one.code for one in shown if one.code is not None]
    statuses = [CheckResult("", "", one.status) for one in shown]
    file = run.file
    return LabResult(
        file.number,
        file.slug,
        file.title,
        overall(statuses),
        checks,
        reasons[0] if reasons else "",
        sum(one.seconds for one in shown),
        tuple(left for one in shown for left in one.leftovers),
        codes[0] if codes else None,
    )


def _until_one_fails(run: LabRun, piece: Piece) -> Iterator[CheckResult]:
    """One by one, so that those made so far outlive whatever ends the proof; reset if all are right."""
    right = True
    claims = run.as_found(lambda: piece.claims(run)) if piece.alone else piece.claims(run)
    for one in claims:
        yield one
        right = right and one.status in (Status.PASS, Status.SKIP)
    if right:
        run.reset()


# --- the story: untouched, after the steps, placebos


def _story(run: LabRun, lab: Lab) -> Iterator[CheckResult]:
    k8s = run.prepare()
    untouched = [*_untouched(run, k8s)]
    yield from untouched
    if not all(one.status in (Status.PASS, Status.SKIP) for one in untouched):
        return
    if lab.trials:
        # An experiment on untouched namespaces may have left things in them.
        k8s = run.prepare()
    run.act(k8s)
    away: set[str] = set()
    held = [result for one in lab.observations for result in _held(run, one, k8s, away)]
    yield from _all_hold(held)
    if not all(one.status in (Status.PASS, Status.SKIP) for one in held):
        return
    yield from _unbroken_statements(lab, [one for one in held if one.status is Status.PASS], away)
    if lab.touches:
        return  # its placebos are a piece of their own
    took = {one.id: one.seconds for one in held}
    for trial in lab.trials:
        if away & set(trial.statement_ids):
            yield from _placebo(run, trial, k8s, lambda one: max(STAY_SECONDS, LONGER * took[one.id]))


def _held(run: LabRun, one: Check | Trial, k8s: Cluster, away: set[str]) -> list[CheckResult]:
    """What comes of a check or an experiment; ``away`` learns which statements are made in an absence."""
    if isinstance(one, Statement):
        return [run.check(one, k8s)]

    def judge(statement: Statement) -> CheckResult:
        if k8s.absences.active:
            away.add(statement.id)
        return run.check(statement, k8s)

    return run.experiment(one, k8s, judge)


def _unbroken_statements(lab: Lab, held: Sequence[CheckResult], away: set[str]) -> Iterator[CheckResult]:
    """A claim for each statement that holds and that nothing breaks: neither a sabotage nor a placebo."""
    broken = {name for sabotage in lab.sabotages for name in sabotage.breaks} | away
    for one in held:
        if one.id not in broken:
            yield CheckResult(
                f"{one.id}-unbroken",
                f"something breaks {one.title!r}",
                Status.FAIL,
                "a sabotage names it in breaks=, or it is made while something is taken away",
                "no sabotage names it, and nothing is taken away meanwhile",
            )


def _untouched(run: LabRun, k8s: Cluster) -> Iterator[CheckResult]:
    """One look at each: without steps nothing comes true by waiting."""
    for one in run.lab.observations:
        if isinstance(one, Trial):
            yield from _trial_untouched(run, one, k8s.pretending())
        else:
            yield _must_fail(run, one, k8s, f"untouched: {one.title!r} fails", f"{one.id}-untouched")


def _trial_untouched(run: LabRun, trial: Trial, k8s: Cluster) -> Iterator[CheckResult]:
    """Every statement of an experiment fails; so they do if it finds nothing to begin with."""

    def judge(statement: Statement) -> CheckResult:
        title = f"untouched: {statement.title!r} fails"
        return _must_fail(run, statement, k8s, title, f"{statement.id}-untouched")

    results = run.experiment(trial, k8s, judge)
    last = results[-1]
    if last.id == trial.id and last.status is Status.FAIL:  # the body found the cluster not as it should be
        title = f"untouched: {trial.title!r} cannot be made"
        results[-1] = replace(last, id=f"{trial.id}-untouched", title=title, status=Status.PASS)
    yield from results


def _all_hold(held: Sequence[CheckResult]) -> list[CheckResult]:
    """One claim if all hold, else those that do not; and each that could not be made."""
    skipped = [one for one in held if one.status is Status.SKIP]
    bad = [one for one in held if one.status not in (Status.PASS, Status.SKIP)]
    if bad:
        return [replace(one, title=f"after the steps: {one.title!r} holds") for one in bad]
    title = f"after the steps: all {len(held) - len(skipped)} checks and statements hold"
    seconds = sum(one.seconds for one in held)
    return [CheckResult("all-after-the-steps", title, Status.PASS, seconds=seconds), *skipped]


def _placebos(run: LabRun, lab: Lab) -> Iterator[CheckResult]:
    """Every experiment with nothing taken away, in an instance in which the checks hold.

    How long a statement would take to come true in a real absence is not known here: it gets its whole time.
    """
    k8s, broken = _begun(run, lab.checks, "before the placebos")
    yield from broken
    if broken:
        return
    for trial in lab.trials:
        yield from _placebo(run, trial, k8s, lambda one: one.within)


def _placebo(
    run: LabRun, trial: Trial, k8s: Cluster, stay: Callable[[Statement], float]
) -> Iterator[CheckResult]:
    """The experiment with nothing taken away: what is stated about the absence must fail.

    ``stay`` says for how many seconds it must not come true: looked at for less than it took in the real absence, a
    statement would only be late, not false.
    """
    pretending = k8s.pretending()

    def judge(statement: Statement) -> CheckResult:
        if not pretending.absences.active:
            return CheckResult(statement.id, statement.title, Status.PASS)  # not asked for here
        title = f"placebo, nothing taken away: {statement.title!r} fails"
        return _must_fail(run, statement, pretending, title, f"{statement.id}-placebo", stay=stay(statement))

    results = run.experiment(trial, pretending, judge)
    yield from (one for one in results if one.id not in trial.statement_ids)


# --- sabotages


def _piece(lab: Lab, sabotage: Sabotage) -> Piece:
    alone = bool(lab.touches) and any(_breaks_part_of(one, sabotage) for one in lab.trials)
    return Piece(sabotage.title, alone, lambda run: _under(run, lab, sabotage))


def _under(run: LabRun, lab: Lab, sabotage: Sabotage) -> Iterator[CheckResult]:
    """In a fresh instance the broken ones hold; then the fault; then they fail."""
    started = time.monotonic()
    needs = (
        *sabotage.needs,
        *(need for one in lab.trials if _breaks_part_of(one, sabotage) for need in one.needs),
    )
    if lacking := unmet(needs, run.site.cluster):
        yield verdict.skipped(sabotage.id, f"sabotage {sabotage.title!r}", lacking)
        return
    checks = [one for one in lab.checks if one.id in sabotage.breaks]
    k8s, broken = _begun(run, checks, f"before {sabotage.title!r}")
    yield from broken
    if broken:
        return
    try:
        with run.excused(k8s), run.site.kube.translated(sabotage.title), _in_place(run, sabotage, k8s):
            for one in lab.observations:
                if isinstance(one, Trial) and _breaks_part_of(one, sabotage):
                    yield from _trial_breaks(run, one, k8s, sabotage)
                elif one in checks:
                    assert isinstance(one, Statement)
                    yield _breaks(run, one, k8s, sabotage)
    except Unmet as lacking_too:
        yield verdict.skipped(sabotage.id, f"sabotage {sabotage.title!r}", str(lacking_too))
    except Exception as wrong:  # noqa: BLE001  # an author's function may raise anything
        yield verdict.error(sabotage.id, f"sabotage {sabotage.title!r}", run.true_cause(wrong), started)


@contextlib.contextmanager
def _in_place(run: LabRun, sabotage: Sabotage, k8s: Cluster) -> Iterator[None]:
    """Put the fault in; on the way out a generator gets the chance to take it away."""
    patient = k8s.patient(STEP_PATIENCE_SECONDS)
    title = f"Sabotage: {sabotage.title}"
    if not inspect.isgeneratorfunction(sabotage.act):
        with run.step(title):
            foreign.call(lambda: sabotage.act(patient), within=ACT_SECONDS)
        yield
        return
    generator = sabotage.act(patient)
    try:
        with run.step(title):
            foreign.call(lambda: next(generator), within=ACT_SECONDS)
        yield
    finally:
        with undisturbed():
            foreign.call(lambda: next(generator, None), within=ACT_SECONDS)
            foreign.call(generator.close, within=ACT_SECONDS)


def _breaks(run: LabRun, broken: Check, k8s: Cluster, sabotage: Sabotage) -> CheckResult:
    title = f"under {sabotage.title!r}: {broken.title!r} fails"
    return _must_fail(
        run, broken, k8s, title, f"{broken.id}-{sabotage.id}", turn=TURN_SECONDS, stay=STAY_SECONDS
    )


def _trial_breaks(run: LabRun, trial: Trial, k8s: Cluster, sabotage: Sabotage) -> Iterator[CheckResult]:
    """Run the experiment under the fault: each statement that the sabotage names must fail, by itself."""

    def judge(statement: Statement) -> CheckResult:
        title = f"under {sabotage.title!r}: {statement.title!r} fails"
        if statement.id in sabotage.breaks:
            name = f"{statement.id}-{sabotage.id}"
            return _must_fail(run, statement, k8s, title, name, stay=TURN_SECONDS)
        return CheckResult(statement.id, statement.title, Status.PASS)  # not asked for here

    results = run.experiment(trial, k8s, judge)
    named = [one for one in results if one.id not in trial.statement_ids]
    broken_off = [one for one in named if one.id == trial.id]
    missing = [one for one in sabotage.breaks if one in trial.statement_ids]
    seen = {one.id.partition("-")[0] for one in named}
    yield from named
    for name in missing:
        if name not in seen and not broken_off:
            title = f"under {sabotage.title!r}: {_title_of(trial, name)!r} fails"
            yield CheckResult(f"{name}-{sabotage.id}", title, Status.FAIL, "it fails", "it was never stated")


def _title_of(trial: Trial, name: str) -> str:
    return trial.titles[trial.statement_ids.index(name)]


def _breaks_part_of(trial: Trial, sabotage: Sabotage) -> bool:
    return bool(set(trial.statement_ids) & set(sabotage.breaks))


# --- where something is put in or left out: a fresh instance, in which the checks hold


def _begun(run: LabRun, checks: Sequence[Check], when: str) -> tuple[Cluster, list[CheckResult]]:
    """A fresh instance after its steps; and, only if one of ``checks`` does not hold in it, what was seen of them."""
    k8s = run.prepare()
    run.act(k8s)
    seen = run.observe(k8s, checks)
    if all(one.status is Status.PASS for one in seen):
        return k8s, []
    return k8s, [replace(one, title=f"{when}: {one.title!r} holds") for one in seen]


# --- one claim: it fails, by itself, and stays so


def _must_fail(
    run: LabRun,
    check: Statement,
    k8s: Cluster,
    title: str,
    name: str,
    *,
    turn: float = 0.0,
    stay: float = 0.0,
) -> CheckResult:
    """PASS for a check that failed by itself, as a check fails: it looked, and the answer was no.

    It may take ``turn`` seconds until it fails the first time, and must then not come true within its own
    time, or ``stay`` seconds if that is less.
    """
    started = time.monotonic()
    outcome: list[CheckResult] = []
    with contextlib.suppress(_Unproven), run.step(title) as step:
        if turn:
            _turned(check, k8s, turn)
        seen = run.look(check, k8s, within=min(check.within, stay))
        outcome.append(_judged(name, title, check, seen, run, started))
        step.result("proven" if outcome[0].status is Status.PASS else outcome[0].actual)
        if outcome[0].status is not Status.PASS:
            raise _Unproven
    return outcome[0]


def _turned(check: Statement, k8s: Cluster, within: float) -> None:
    """Wait until the check does not hold any more, as long as a fault may take to show."""

    def look() -> Seen:
        seen = look_once(check.look, k8s)
        if seen.outcome in (Outcome.NOT_YET, Outcome.HOPELESS, Outcome.BROKEN):
            return seen
        raise NotYet("it still holds" if seen.outcome is Outcome.HOLDS else seen.actual)

    with contextlib.suppress(DeadlineExceeded):
        until(look, what="the fault shows", within=within)


def _judged(name: str, title: str, check: Statement, seen: Seen, run: LabRun, started: float) -> CheckResult:
    seconds = time.monotonic() - started
    status = verdict.STATUS[seen.outcome]
    said = {
        Status.PASS: "PASS",
        Status.ERROR: f"ERROR: {verdict.cause(seen.cause, run.file) if seen.cause else seen.actual}",
    }.get(status, f"FAIL: {seen.actual}")
    actual = f"{check.title!r} is {said}"
    if seen.by_control and name.rpartition("-")[2] not in ("untouched",):
        # A fault in the control says nothing about what the check itself would notice.
        status, actual = Status.ERROR, f"only its control fails: {seen.actual}"
    proved = Status.PASS if status is Status.FAIL else Status.FAIL
    return CheckResult(name, title, proved, f"{check.title!r} is FAIL", actual, seconds=seconds)


class _Unproven(Exception):
    """Ends a step on the screen badly."""
