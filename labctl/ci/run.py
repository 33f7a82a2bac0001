"""The order of a run, and what follows when a phase does not end well.

It knows five phases by name and nothing of docker or Kubernetes, so that every way a run can end is
tested without a cluster. It always returns a report: an error ends the phase it happened in and is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

from labctl import __version__
from labctl.errors import Bug, Conflict, Interrupted, LabctlError
from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.progress import Progress
from labctl.recorder import Recorder
from labctl.report.model import Failure, PhaseOutcome, RunPhase, RunReport, all_checks, totals

Keep = Literal["never", "on-failure", "always"]


class Stages(Protocol):
    """What the phases do; each raises `LabctlError` when it cannot do it."""

    @property
    def cluster(self) -> str:
        """The cluster's name."""

    def doctor(self) -> str:
        """Look at the machine; returns the outcome in a few words."""

    def up(self, progress: Progress) -> bool:
        """Have the cluster run; whether it had to be made."""

    def proof(self, progress: Progress) -> tuple[CheckResult, ...]:
        """Prove the cluster's network."""

    def labs(self, progress: Progress, on_result: Callable[[LabResult], None]) -> RunResult:
        """Run the labs; ``on_result`` hears of each as it ends, so that an interrupt loses none."""

    def collect(self, reason: str, trace: Sequence[str]) -> str:
        """Collect what explains a failure; returns its path, or '' when there is nothing to look at.

        ``trace`` are the steps so far, a line each.
        """

    def down(self, progress: Progress) -> None:
        """Delete the cluster."""

    def close(self) -> None:
        """Let go of what was held for the whole of the run."""

    def facts(self) -> dict[str, str]:
        """Versions and the like, as far as they are known by now."""


PHASES = ("doctor", "up", "proof", "labs", "down")


@dataclass
class Run:
    """One run of the five phases. ``keep`` says when the cluster outlives it.

    A cluster that ran before is used and left as it was: only what this run made is deleted.
    """

    stages: Stages
    progress: Progress
    keep: Keep = "never"
    with_labs: bool = True
    _phases: list[RunPhase] = field(default_factory=list)
    _proof: tuple[CheckResult, ...] = ()
    _run: RunResult | None = None
    _made: bool = False
    _there: bool = False
    _bundle: str = ""

    def go(self) -> RunReport:
        """Run the phases in order up to the first that does not end well, then clean up; never raises."""
        started, began = datetime.now(UTC), time.monotonic()
        recorder = Recorder(self.progress)
        work = {"doctor": self._doctor, "up": self._up, "proof": self._prove, "labs": self._labs}
        for name in PHASES[:-1]:
            if self._failed():
                self._phases.append(RunPhase(name, PhaseOutcome.SKIPPED, said="not reached"))
            else:
                self._phases.append(self._phase(name, work[name], recorder))
        if self._failed() and not self._interrupted() and not self._refused():
            self._collect()
        self._phases.append(self._end(recorder))
        return RunReport(
            cluster=self.stages.cluster,
            labctl=__version__,
            started=started.isoformat(timespec="seconds"),
            phases=tuple(self._phases),
            seconds=time.monotonic() - began,
            proof=self._proof,
            run=self._run,
            facts=self.stages.facts(),
            bundle=self._bundle,
            kept=self._there,
        )

    # --- the phases -------------------------------------------------------------

    def _doctor(self, _: Progress) -> tuple[PhaseOutcome, str]:
        return PhaseOutcome.OK, self.stages.doctor()

    def _up(self, progress: Progress) -> tuple[PhaseOutcome, str]:
        try:
            self._made = self.stages.up(progress)
        except LabctlError as failed:
            self._made = self._there = failed.kept
            raise
        self._there = True
        return PhaseOutcome.OK, "made" if self._made else "it ran already"

    def _prove(self, progress: Progress) -> tuple[PhaseOutcome, str]:
        self._proof = self.stages.proof(progress)
        return _judged(self._proof), totals(self._proof)

    def _labs(self, progress: Progress) -> tuple[PhaseOutcome, str]:
        if not self.with_labs:
            return PhaseOutcome.SKIPPED, "none was asked for"
        done: list[LabResult] = []
        try:
            self._run = self.stages.labs(progress, done.append)
        except BaseException:
            if done:
                self._run = RunResult(
                    self.stages.cluster, "", self.stages.facts().get("kubernetes", ""), tuple(done)
                )
            raise
        return PhaseOutcome.FAILED if self._run.exit_code else PhaseOutcome.OK, totals(all_checks(self._run))

    def _down(self, progress: Progress) -> tuple[PhaseOutcome, str]:
        self.stages.down(progress)
        self._there = False
        return PhaseOutcome.OK, "deleted"

    def _end(self, recorder: Recorder) -> RunPhase:
        if not self._there:
            return RunPhase("down", PhaseOutcome.SKIPPED, said="there is no cluster to delete")
        if not self._made:
            return RunPhase("down", PhaseOutcome.SKIPPED, said="the cluster ran before, it is left as it was")
        to_look_at = self._failed() and not self._interrupted()
        if self.keep == "always" or (self.keep == "on-failure" and to_look_at):
            return RunPhase("down", PhaseOutcome.SKIPPED, said=f"kept (--keep {self.keep})")
        return self._phase("down", self._down, recorder)

    # --- around the phases ------------------------------------------------------

    def _phase(
        self, name: str, work: Callable[[Progress], tuple[PhaseOutcome, str]], recorder: Recorder
    ) -> RunPhase:
        began = time.monotonic()
        failure: LabctlError | None = None
        outcome, said = PhaseOutcome.BROKEN, ""
        try:
            outcome, said = work(recorder)
        except LabctlError as error:
            failure = error
        except KeyboardInterrupt as stop:
            failure = Interrupted.of(stop)
        except Exception as error:  # noqa: BLE001  # the report must be written whatever happens
            failure = Bug.of(error, name)
        said = said or (str(failure) if failure else "")
        seconds = time.monotonic() - began
        return RunPhase(
            name, outcome, seconds, said, recorder.take(), Failure.of(failure) if failure else None
        )

    def _collect(self) -> None:
        bad = next(
            phase for phase in self._phases if phase.outcome in (PhaseOutcome.BROKEN, PhaseOutcome.FAILED)
        )
        try:
            trace = [f"{phase.name}: {step}" for phase in self._phases for step in phase.steps]
            self._bundle = self.stages.collect(f"{bad.name}: {bad.said}", trace)
        except (LabctlError, OSError) as error:
            self.progress.say(f"nothing could be collected: {error}")
        except KeyboardInterrupt:
            self.progress.say("interrupted: collecting no more, cleaning up")

    def _failed(self) -> bool:
        return any(phase.outcome in (PhaseOutcome.BROKEN, PhaseOutcome.FAILED) for phase in self._phases)

    def _refused(self) -> bool:
        """Whether the cluster is somebody else's, who has it now: what it does is no evidence of ours."""
        return not self._there and any(one.failure and one.failure.id == Conflict.id for one in self._phases)

    def _interrupted(self) -> bool:
        return any(phase.failure and phase.failure.id == Interrupted.id for phase in self._phases)


def _judged(checks: Sequence[CheckResult]) -> PhaseOutcome:
    seen = {check.status for check in checks}
    if seen == {Status.SKIP}:
        return PhaseOutcome.SKIPPED
    return (
        PhaseOutcome.OK if Status.PASS in seen and seen <= {Status.PASS, Status.SKIP} else PhaseOutcome.FAILED
    )
