"""Runs labs: reset, namespaces, steps, checks, results.

The order of `Runner.run` is what a lab may rely on. What a look at the cluster is worth is decided in
labctl.lab.engine.observe and what a result says in labctl.lab.engine.verdict; nothing is printed here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from labctl.cluster.running import RunningCluster
from labctl.errors import (
    ApiRefused,
    CleanupIncomplete,
    Conflict,
    DeadlineExceeded,
    InfrastructureError,
    LabctlError,
)
from labctl.kube import Kube
from labctl.lab.api import Check, Condition, Holds, Lab, Step, Trial, Unmet
from labctl.lab.calls import STEP_PATIENCE_SECONDS
from labctl.lab.engine import namespaces, verdict
from labctl.lab.engine.guard import Guard
from labctl.lab.engine.loader import LabFile
from labctl.lab.engine.namespaces import Owned
from labctl.lab.engine.needs import unmet
from labctl.lab.engine.observe import Outcome, Seen, look_once, settle
from labctl.lab.engine.verdict import StepFailed
from labctl.lab.handle import NOT_FOUND, Cluster
from labctl.lab.labels import NONCE, RUN, new_nonce
from labctl.lab.results import CheckResult, LabResult, Status, overall
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.waiting import Hopeless, NotYet, until


class Runner:
    """Runs labs on one cluster, one after the other.

    ``run`` names this run in labels. With ``strict`` a lab whose needs are not met is a failure.
    ``docker`` is None for a cluster that is known by its kubeconfig only.
    """

    def __init__(
        self,
        kube: Kube,
        cluster: RunningCluster,
        progress: Progress,
        *,
        docker: Docker | None = None,
        run: str = "",
        strict: bool = False,
    ) -> None:
        self.kube = kube
        self.cluster = cluster
        self.progress = progress
        self.run_id = run or new_nonce()
        self.guard = Guard(kube, cluster, docker)
        self._docker = docker
        self._strict = strict

    # --- what the commands call

    def run(self, file: LabFile, lab: Lab) -> LabResult:
        """Reset, make the namespaces, run the steps, look at every check.

        Raises nothing but `Conflict` (a foreign namespace) and interrupts: whatever else goes wrong is
        an ERROR of the lab with its cause.
        """
        return self.result(file, lab, lambda: self._run(file, lab))

    def verify(self, file: LabFile, lab: Lab) -> LabResult:
        """Look at the checks of a lab that was run before, and change nothing; experiments are left out."""
        return self.result(file, lab, lambda: self._verify(file, lab))

    def reset(self, file: LabFile, lab: Lab) -> int:
        """Remove everything the lab made; returns how many objects. See `namespaces.remove`."""
        with self.progress.step(f"{file.number:02d} Remove what lab {file.slug} made") as step:
            removed = namespaces.remove(self.kube, owned(file, lab), step)
            step.result(f"{removed} object(s)" if removed else "nothing was there")
        return removed

    # --- the parts, which the prover calls too

    def result(self, file: LabFile, lab: Lab, work: Callable[[], Iterable[CheckResult]]) -> LabResult:
        """What ``work`` found, and why it found no more, as the result of the lab."""
        started = time.monotonic()
        lacking = unmet(lab.needs, self.cluster)
        if lacking:
            return self._unfit(file, lab, lacking)
        checks: list[CheckResult] = []
        reason = ""
        left: tuple[str, ...] = ()
        try:
            for one in work():
                checks.append(one)  # kept if the next one raises
        except Conflict:
            raise
        except CleanupIncomplete as incomplete:
            reason, left = verdict.cause(incomplete, file), incomplete.leftovers
        except Exception as wrong:  # noqa: BLE001  # the one place where a lab's failure becomes data
            reason = self._true_cause(wrong, file)
        if reason and checks:
            title = "the rest is looked at"
            checks.append(CheckResult("the-rest", title, Status.ERROR, title, reason))
        elif reason:
            checks = [
                verdict.skipped(one.id, one.title, f"not looked at: {reason}") for one in lab.observations
            ]
        status = Status.ERROR if reason else overall(checks)
        seconds = time.monotonic() - started
        return LabResult(file.number, file.slug, file.title, status, tuple(checks), reason, seconds, left)

    def prepare(self, file: LabFile, lab: Lab) -> Cluster:
        """Absent namespaces, then present ones, with a nonce of their own; returns the handle."""
        self.guard.ask()
        k8s = self._handle(file, lab, self.run_id, new_nonce())
        with self.progress.step(f"{file.number:02d} Start from nothing") as step:
            removed = namespaces.remove(self.kube, owned(file, lab), step)
            namespaces.make(k8s, step)
            step.result(f"{removed} object(s) of an earlier run removed" if removed else "")
        return k8s

    def act(self, file: LabFile, lab: Lab, k8s: Cluster) -> None:
        """Run the steps in source order. Raises `StepFailed`, and `NodeDown` when a node does not run."""
        for step in lab.steps:
            with (
                self.progress.step(f"{file.number:02d} {step.title}") as shown,
                self._as_step(step, file, lab, k8s),
            ):
                self.guard.ask_docker()
                k8s.patience = STEP_PATIENCE_SECONDS
                for condition in step.when:
                    self._await(step, condition, k8s, shown.note)
                step.act(k8s)

    def observe(
        self, file: LabFile, lab: Lab, k8s: Cluster, only: Sequence[Check | Trial] | None = None
    ) -> list[CheckResult]:
        """Look at every check and run every experiment (or ``only`` some), in source order."""
        results: list[CheckResult] = []
        for one in lab.observations if only is None else only:
            results += (
                self.trial(file, lab, one, k8s)
                if isinstance(one, Trial)
                else [self.check(file, lab, one, k8s, one.id)]
            )
        return results

    def check(
        self,
        file: LabFile,
        lab: Lab,
        check: Check | Holds,
        k8s: Cluster,
        name: str,
        *,
        within: float | None = None,
    ) -> CheckResult:
        """Look at one check until it holds or its time (``within`` replaces it) is over.

        ``name`` is the id of the result; hints know a check by what stands before the first dash of it.
        """
        started = time.monotonic()
        k8s.patience = 0.0
        result: CheckResult | None = None
        with contextlib.suppress(_Unproven), self.progress.step(f"{file.number:02d} {check.title}") as step:
            seen = self._seen(check, k8s, step.note, within)
            failed = verdict.STATUS[seen.outcome] is Status.FAIL
            hint = verdict.advice(lab, name.partition("-")[0], k8s) if failed else ""
            result = verdict.judged(name, check, seen, hint, file, started)
            step.result(result.status)
            if result.status is not Status.PASS:
                raise _Unproven  # so that the step's line on the screen is not one of success
        assert result is not None
        return result

    def trial(self, file: LabFile, lab: Lab, trial: Trial, k8s: Cluster) -> list[CheckResult]:
        """Run an experiment; each statement that it yields becomes a check of its own.

        Whatever happens, the generator is closed, so that its ``with`` blocks put everything back.
        """
        started = time.monotonic()
        results: list[CheckResult] = []
        try:
            with (
                self.excused(),
                self.kube.translated(trial.title),
                contextlib.closing(trial.act(k8s)) as statements,
            ):
                k8s.patience = STEP_PATIENCE_SECONDS
                for number, statement in enumerate(statements, 1):
                    results.append(self.check(file, lab, statement, k8s, f"{trial.id}-{number}"))
                    k8s.patience = STEP_PATIENCE_SECONDS
            if not results:
                raise StepFailed("the experiment yields no statement")
        except Unmet as lacking:
            results.append(self._unmet(trial, str(lacking)))
        except Exception as wrong:  # noqa: BLE001  # an author's function may raise anything
            results.append(verdict.error(trial.id, trial.title, self._true_cause(wrong, file), started))
        return results

    def _unmet(self, trial: Trial, lacking: str) -> CheckResult:
        if self._strict:
            return CheckResult(
                trial.id, trial.title, Status.FAIL, "a cluster that has what it needs", lacking
            )
        return verdict.skipped(trial.id, trial.title, lacking)

    @contextlib.contextmanager
    def excused(self) -> Iterator[None]:
        """A block in which the lab itself takes things away, so that a missing node is no surprise."""
        self.guard.excused = True
        try:
            yield
        finally:
            self.guard.excused = False

    # --- inside

    def _run(self, file: LabFile, lab: Lab) -> list[CheckResult]:
        k8s = self.prepare(file, lab)
        self.act(file, lab, k8s)
        return self.observe(file, lab, k8s)

    def _verify(self, file: LabFile, lab: Lab) -> list[CheckResult]:
        self.guard.ask()
        marks = self._marks(lab)
        if marks is None:
            return [verdict.never_run(one.id, one.title, file, lab.namespace) for one in lab.observations]
        k8s = self._handle(file, lab, *marks)
        return [
            verdict.skipped(one.id, one.title, "an experiment acts; `labctl lab run` runs it")
            if isinstance(one, Trial)
            else self.check(file, lab, one, k8s, one.id)
            for one in lab.observations
        ]

    def _unfit(self, file: LabFile, lab: Lab, lacking: str) -> LabResult:
        status = Status.FAIL if self._strict else Status.SKIP
        expected = f"a cluster with {', '.join(lab.needs)}"
        checks = tuple(CheckResult(one.id, one.title, status, expected, lacking) for one in lab.observations)
        return LabResult(file.number, file.slug, file.title, status, checks, lacking)

    def _seen(
        self, check: Check | Holds, k8s: Cluster, note: Callable[[str], None], within: float | None
    ) -> Seen:
        """The outcome of a check, once it is sure that no dead node is to blame for it."""
        try:
            seen = settle(check, k8s, between=self.guard.glance, on_wait=note, within=within)
            if seen.outcome is not Outcome.HOLDS:
                self.guard.ask()
        except LabctlError as broken:
            return Seen(Outcome.DID_NOT_RUN, actual=str(broken), cause=broken)
        return seen

    def _await(self, step: Step, condition: Condition, k8s: Cluster, note: Callable[[str], None]) -> None:
        """Until the condition holds; what it sees goes to ``note``."""

        def look() -> None:
            seen = look_once(condition, k8s)
            if seen.outcome is Outcome.HOLDS:
                return
            if seen.outcome is Outcome.HOPELESS:
                raise Hopeless(seen.actual)
            if seen.outcome is Outcome.BROKEN and seen.cause is not None:
                raise seen.cause
            self.guard.glance()
            raise NotYet(seen.actual)

        until(
            look,
            what="what it waits for",
            within=step.within,
            on_wait=note,
            hopeless=lambda reason: InfrastructureError("what it waits for cannot come true", why=reason),
        )

    @contextlib.contextmanager
    def _as_step(self, step: Step, file: LabFile, lab: Lab, k8s: Cluster) -> Iterator[None]:
        """A step's failure carries its cause and, after a vain wait, the lab's advice for every check."""
        try:
            with self.kube.translated(step.title):
                yield
        except Exception as wrong:
            hint = verdict.advice(lab, "", k8s) if isinstance(wrong, DeadlineExceeded) else ""
            cause = self._true_cause(wrong, file)
            raise StepFailed(f"step {step.title!r}: {cause}" + (f" ({hint})" if hint else "")) from wrong

    def _true_cause(self, wrong: Exception, file: LabFile) -> str:
        """Why something went wrong: a node that does not run explains everything else."""
        try:
            self.guard.ask_docker()
        except LabctlError as deeper:
            return verdict.cause(deeper, file)
        return verdict.cause(wrong, file)

    def _marks(self, lab: Lab) -> tuple[str, str] | None:
        """The run and the nonce that the lab's namespace carries, or None when there is no such namespace."""
        try:
            with self.kube.translated("read the lab's namespace"):
                namespace: Any = self.kube.core.read_namespace(name=lab.namespace)
        except ApiRefused as refused:
            if refused.status != NOT_FOUND:
                raise
            return None
        labels = namespace.metadata.labels or {}
        return labels.get(RUN, ""), labels.get(NONCE, "")

    def _handle(self, file: LabFile, lab: Lab, run: str, nonce: str) -> Cluster:
        return Cluster(
            self.kube,
            self.cluster,
            lab=file.name,
            namespaces=lab.namespaces,
            run=run,
            nonce=nonce,
            docker=self._docker,
        )


class _Unproven(Exception):
    """Ends a step on the screen badly; the result itself is data."""


def owned(file: LabFile, lab: Lab) -> Owned:
    """What belongs to a lab on a cluster."""
    return Owned(file.name, lab.namespaces)
