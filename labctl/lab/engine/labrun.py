"""One run of one lab on a cluster: reset, namespaces, steps, checks, results.

The order of `LabRun.run` is what a lab may rely on. What a look at the cluster is worth is decided in
labctl.lab.engine.observe and what a result says in labctl.lab.engine.verdict; nothing is printed here.
A run owns an instance, so several runs, of the same lab too, can be under way on one cluster.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from labctl.cluster.absence.gate import gate
from labctl.cluster.running import RunningCluster
from labctl.errors import (
    ApiRefused,
    CleanupIncomplete,
    DeadlineExceeded,
    InfrastructureError,
    LabctlError,
)
from labctl.kube import Kube
from labctl.lab.api import Check, Condition, Lab, LabStep, Statement, Trial, stated
from labctl.lab.calls import STEP_PATIENCE_SECONDS
from labctl.lab.engine import foreign, namespaces, verdict
from labctl.lab.engine.fitness import unmet
from labctl.lab.engine.guard import Guard
from labctl.lab.engine.loader import LabFile
from labctl.lab.engine.observe import Outcome, Seen, look_once, settle
from labctl.lab.engine.verdict import StepFailed
from labctl.lab.expectation import Unmet
from labctl.lab.handle import Cluster
from labctl.lab.instance import Instance
from labctl.lab.labels import NONCE, RUN, new_nonce
from labctl.lab.results import CheckResult, LabResult, Status, overall
from labctl.progress import Progress, Step
from labctl.tools.docker import Docker
from labctl.waiting import Hopeless, NotYet, undisturbed, until

ACT_SECONDS = 120.0
"""How long one step, sabotage or hint may work, its waits left out: what labs do takes seconds."""
TRIAL_SECONDS = 300.0
"""How long an experiment may take from one statement to the next: a frozen node needs two minutes to be back."""
WELL_SECONDS = 60.0
"""How long a cluster may take to be well again around a lab that takes something away; mostly it is at once."""
MOST_STATEMENTS = 50
"""An experiment that yields more does not end by itself."""
INTERRUPTED_SECONDS = 30.0
"""How long a run that is interrupted may still clean up before it only says what is left."""


@dataclass(frozen=True)
class LabSite:
    """The cluster that labs run on, and what all runs on it share.

    ``run_id`` names the command in labels. With ``strict`` a lab whose needs are not met is a failure; with
    ``fail_fast`` a lab ends at the first check that does not hold. ``docker`` is None for a cluster that is known
    by its kubeconfig only.
    """

    kube: Kube
    cluster: RunningCluster
    progress: Progress
    guard: Guard
    docker: Docker | None = None
    run_id: str = ""
    strict: bool = False
    fail_fast: bool = False
    tidied: list[str] = field(default_factory=list)
    """What came of each interrupted run: removed, or what is left."""


@dataclass(frozen=True)
class LabRun:
    """A lab, the instance it runs as, and the site it runs on."""

    site: LabSite
    file: LabFile
    lab: Lab
    instance: Instance

    @classmethod
    def of(cls, site: LabSite, file: LabFile, lab: Lab, tag: str = "") -> LabRun:
        """The run of ``lab`` as the instance with this tag; '' is the plain one."""
        instance = Instance(file.number, file.name, lab.namespaces, tag, site.run_id, new_nonce())
        return cls(site, file, lab, instance)

    # --- what the commands call

    def run(self) -> LabResult:
        """Reset, make the namespaces, run the steps, look at every check.

        Raises nothing but interrupts: whatever else goes wrong is an ERROR of the lab with its cause.
        """
        with self._tidied_when_interrupted():
            return self.result(lambda: self.as_found(self._run))

    def verify(self) -> LabResult:
        """Look at the checks of a lab that was run before, and change nothing; experiments are left out."""
        return self.result(self._verify)

    def reset(self) -> int:
        """Remove everything that this instance made; returns how many objects. See `namespaces.remove`."""
        with self.step(f"Remove what lab {self.file.slug} made") as step:
            removed = namespaces.remove(self.site.kube, self.instance, step)
            step.result(f"{removed} object(s)" if removed else "nothing was there")
        return removed

    # --- the parts, which the prover calls too

    def as_found(self, work: Callable[[], Iterable[CheckResult]]) -> Iterator[CheckResult]:
        """What ``work`` finds, if the lab takes something away between two looks at the cluster.

        A cluster that is not well before is no ground for a counterfactual; one that is not well after was not
        left as it was found. Raises `InfrastructureError` for both, with what differs.
        """
        self._require_well("before it takes something away the cluster is not well")
        yield from work()
        self._require_well("the lab has not left the cluster as it found it")

    def step(self, title: str) -> contextlib.AbstractContextManager[Step]:
        """A step on the screen, with the lab's number."""
        return self.site.progress.step(f"{self.file.number:02d} {title}")

    def result(self, work: Callable[[], Iterable[CheckResult]]) -> LabResult:
        """What ``work`` found, and why it found no more, as the result of the lab."""
        started = time.monotonic()
        lacking = unmet(self.lab.needs, self.site.cluster)
        if lacking:
            return self._unfit(lacking)
        checks: list[CheckResult] = []
        failure: Exception | None = None
        try:
            for one in work():
                checks.append(one)  # kept if the next one raises
        except Exception as wrong:  # noqa: BLE001  # the one place where a lab's failure becomes data
            failure = wrong
        reason = self.true_cause(failure) if failure else ""
        if reason and checks:
            title = "the rest is looked at"
            checks.append(CheckResult("the-rest", title, Status.ERROR, title, reason))
        elif reason:
            checks = self._unseen(f"not looked at: {reason}")
        status = Status.ERROR if reason else overall(checks)
        return self._result(status, checks, reason, time.monotonic() - started, failure)

    def prepare(self) -> Cluster:
        """Absent namespaces, then present ones; returns the handle."""
        self.site.guard.ask()
        k8s = self.handle()
        with self.step("Start from nothing") as step:
            removed = namespaces.remove(self.site.kube, self.instance, step)
            namespaces.make(k8s.patient(STEP_PATIENCE_SECONDS), step)
            step.result(f"{removed} object(s) of an earlier run removed" if removed else "")
        return k8s

    def act(self, k8s: Cluster) -> None:
        """Run the steps in source order, then wait until the lab is settled.

        Raises `StepFailed`, and `NodeDown` when a node does not run.
        """
        for step in self.lab.steps:
            with self.step(step.title) as shown, self._as_step(step.title, k8s):
                self._one(step, k8s, shown.note)
        if self.lab.settled:
            title = "Wait until it has settled"
            with self.step(title) as shown, self._as_step(title, k8s):
                for condition in self.lab.settled:
                    self._await(condition, k8s, shown.note, ACT_SECONDS)

    def observe(self, k8s: Cluster, only: Sequence[Check | Trial] | None = None) -> list[CheckResult]:
        """Look at every check and run every experiment (or ``only`` some), in source order."""
        results: list[CheckResult] = []
        for one in self.lab.observations if only is None else only:
            if self.site.fail_fast and any(each.status in (Status.FAIL, Status.ERROR) for each in results):
                results.append(
                    verdict.skipped(one.id, one.title, "not looked at: an earlier check does not hold")
                )
                continue
            results += self.trial(one, k8s) if isinstance(one, Trial) else [self.check(one, k8s)]
        return results

    def check(self, check: Statement, k8s: Cluster, *, within: float | None = None) -> CheckResult:
        """Look at one check or statement until it holds or its time (``within`` replaces it) is over."""
        started = time.monotonic()
        result: CheckResult | None = None
        with contextlib.suppress(_Unproven), self.step(check.title) as step:
            seen = self.look(check, k8s, note=step.note, within=within)
            failed = verdict.STATUS[seen.outcome] is Status.FAIL
            hint = verdict.advice(self.lab, check.id, k8s) if failed else ""
            result = verdict.judged(check, seen, hint, self.file, started)
            step.result(result.status)
            if result.status is not Status.PASS:
                raise _Unproven  # so that the step's line on the screen is not one of success
        assert result is not None
        return result

    def trial(self, trial: Trial, k8s: Cluster) -> list[CheckResult]:
        """Run an experiment; each statement that it yields becomes a check of its own."""
        return self.experiment(trial, k8s, lambda statement: self.check(statement, k8s))

    def experiment(
        self, trial: Trial, k8s: Cluster, judge: Callable[[Statement], CheckResult]
    ) -> list[CheckResult]:
        """What ``judge`` makes of each statement that the experiment yields.

        Whatever happens, the generator is closed, so that its ``with`` blocks put everything back.
        """
        started = time.monotonic()
        results: list[CheckResult] = []
        try:
            if lacking := unmet(trial.needs, self.site.cluster):
                raise Unmet(lacking)
            with self.excused(k8s), self.site.kube.translated(trial.title):
                for statement in self._statements(trial, k8s.patient(STEP_PATIENCE_SECONDS)):
                    results.append(judge(statement))
            if not results:
                raise StepFailed("the experiment yields no statement")
        except Unmet as lacking_too:
            results.append(self._unmet(trial, str(lacking_too)))
        except Exception as wrong:  # noqa: BLE001  # an author's function may raise anything
            results.append(verdict.broken_off(trial, wrong, self.true_cause(wrong), started))
        return results

    def look(
        self,
        check: Statement,
        k8s: Cluster,
        *,
        note: Callable[[str], None] | None = None,
        within: float | None = None,
    ) -> Seen:
        """The outcome of a check, once it is sure that no dead node is to blame for it."""
        guard = self.site.guard
        try:
            seen = settle(check, k8s, between=guard.glance, on_wait=note, within=within)
            if seen.outcome is not Outcome.HOLDS:
                guard.ask()
        except LabctlError as broken:
            return Seen(Outcome.DID_NOT_RUN, actual=str(broken), cause=broken)
        return seen

    def excused(self, k8s: Cluster) -> contextlib.AbstractContextManager[None]:
        """A block in which what the lab itself has taken away is no surprise, and nothing else."""
        return self.site.guard.expecting(lambda: k8s.absences.expected)

    def handle(self) -> Cluster:
        """The cluster as this instance may use it."""
        site, alone = self.site, bool(self.lab.touches)
        return Cluster(site.kube, site.cluster, self.instance, docker=site.docker, alone=alone)

    def true_cause(self, wrong: Exception) -> str:
        """Why something went wrong: a node that does not run explains everything else."""
        try:
            self.site.guard.ask_docker()
        except LabctlError as deeper:
            return verdict.cause(deeper, self.file)
        return verdict.cause(wrong, self.file)

    # --- inside

    def _require_well(self, otherwise: str) -> None:
        if not self.lab.touches or not self.site.cluster.containers or self.site.docker is None:
            return
        with self.step("See that the cluster is well") as step:
            found = gate(self.handle().absences.site(), within=WELL_SECONDS, note=step.note)
            if found:
                name = self.site.cluster.name
                why = "; ".join(map(str, found))
                raise InfrastructureError(otherwise, why=why, next_step=f"`labctl heal {name}`")

    def _run(self) -> list[CheckResult]:
        k8s = self.prepare()
        self.act(k8s)
        return self.observe(k8s)

    def _verify(self) -> list[CheckResult]:
        self.site.guard.ask()
        marks = self._marks()
        if marks is None:
            where = self.handle().namespace
            return [verdict.never_run(one.id, one.title, self.file, where) for one in self.lab.observations]
        k8s = LabRun(self.site, self.file, self.lab, marks).handle()
        return [
            verdict.skipped(one.id, one.title, "an experiment acts; `labctl lab run` runs it")
            if isinstance(one, Trial)
            else self.check(one, k8s)
            for one in self.lab.observations
        ]

    def _one(self, step: LabStep, k8s: Cluster, note: Callable[[str], None]) -> None:
        self.site.guard.ask_docker()
        for condition in step.when:
            self._await(condition, k8s, note, step.within)
        foreign.call(lambda: step.act(k8s.patient(STEP_PATIENCE_SECONDS)), within=ACT_SECONDS)

    def _statements(self, trial: Trial, k8s: Cluster) -> Iterator[Statement]:
        """The statements of an experiment with their ids, each asked for in its time."""
        generator = trial.act(k8s)
        try:
            for _ in range(MOST_STATEMENTS + 1):
                yielded = foreign.call(lambda: next(generator, None), within=TRIAL_SECONDS)
                if yielded is None:
                    return
                statement = stated(yielded)
                yield Statement(**{**vars(statement), "id": trial.statement_id(statement.title)})
            raise StepFailed(f"the experiment goes on after {MOST_STATEMENTS} statements")
        finally:
            with undisturbed():
                foreign.call(generator.close, within=TRIAL_SECONDS)

    def _unmet(self, trial: Trial, lacking: str) -> CheckResult:
        if self.site.strict:
            wanted = "a cluster that has what it needs"
            return CheckResult(trial.id, trial.title, Status.FAIL, wanted, lacking)
        return verdict.skipped(trial.id, trial.title, lacking)

    def _unfit(self, lacking: str) -> LabResult:
        status = Status.FAIL if self.site.strict else Status.SKIP
        expected = f"a cluster with {', '.join(self.lab.needs)}"
        checks = [CheckResult(one.id, one.title, status, expected, lacking) for one in self.lab.observations]
        return self._result(status, checks, lacking, 0.0, None)

    def _unseen(self, why: str) -> list[CheckResult]:
        return [verdict.skipped(one.id, one.title, why) for one in self.lab.observations]

    def _result(
        self,
        status: Status,
        checks: Sequence[CheckResult],
        reason: str,
        seconds: float,
        failure: Exception | None,
    ) -> LabResult:
        file = self.file
        left = failure.leftovers if isinstance(failure, CleanupIncomplete) else ()
        code = failure.exit_code if isinstance(failure, LabctlError) else None
        return LabResult(
            file.number, file.slug, file.title, status, tuple(checks), reason, seconds, left, code
        )

    def _await(self, condition: Condition, k8s: Cluster, note: Callable[[str], None], within: float) -> None:
        """Until the condition holds; what it sees goes to ``note``."""

        def look() -> None:
            seen = look_once(condition, k8s)
            if seen.outcome is Outcome.HOLDS:
                return
            if seen.outcome is Outcome.HOPELESS:
                raise Hopeless(seen.actual)
            if seen.outcome is Outcome.BROKEN and seen.cause is not None:
                raise seen.cause
            self.site.guard.glance()
            raise NotYet(seen.actual)

        until(
            look,
            what="what it waits for",
            within=within,
            on_wait=note,
            hopeless=lambda reason: InfrastructureError("what it waits for cannot come true", why=reason),
        )

    @contextlib.contextmanager
    def _as_step(self, title: str, k8s: Cluster) -> Iterator[None]:
        """A step's failure carries its cause and, after a vain wait, the lab's advice for every check."""
        try:
            with self.site.kube.translated(title):
                yield
        except Exception as wrong:
            hint = verdict.advice(self.lab, "", k8s) if isinstance(wrong, DeadlineExceeded) else ""
            cause = self.true_cause(wrong)
            raise StepFailed(f"step {title!r}: {cause}" + (f" ({hint})" if hint else "")) from wrong

    def _marks(self) -> Instance | None:
        """The instance that made the namespace which is there, or None when there is no such namespace."""
        try:
            with self.site.kube.translated("read the lab's namespace"):
                namespace: Any = self.site.kube.core.read_namespace(name=self.handle().namespace)
        except ApiRefused as refused:
            if not refused.not_found:
                raise
            return None
        labels = namespace.metadata.labels or {}
        known = (self.instance.number, self.instance.lab, self.instance.rooms, self.instance.tag)
        return Instance(*known, run=labels.get(RUN, ""), nonce=labels.get(NONCE, ""))

    @contextlib.contextmanager
    def _tidied_when_interrupted(self) -> Iterator[None]:
        """An interrupt removes what the run made, or says what is left, and goes on."""
        try:
            yield
        except Exception:
            raise
        except BaseException:
            self.tidy()
            raise

    def tidy(self) -> None:
        """Remove what an interrupted run has made and note in ``site.tidied`` what came of it."""
        there = ", ".join(self.instance.namespaces.values())
        again = f"remove it with `labctl lab reset {self.file.number}`"
        said = f"namespace {there} may be left; {again}"
        try:
            with undisturbed(), self.step("Remove what the interrupted lab made") as step:
                namespaces.remove(self.site.kube, self.instance, step, within=INTERRUPTED_SECONDS)
                said = "all that it made is removed"
        except CleanupIncomplete as incomplete:
            said = f"left behind: {', '.join(incomplete.leftovers)}; {again}"
        except LabctlError as broken:
            said = f"namespace {there} may be left ({broken}); {again}"
        finally:
            self.site.tidied.append(f"lab {self.file.name}: {said}")


class _Unproven(Exception):
    """Ends a step on the screen badly; the result itself is data."""
