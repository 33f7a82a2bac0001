"""What a whole run found, as data: the phases, the proof, the labs, and what remains.

Every format is drawn from this one model, so that the terminal, the JUnit file and the exit code
cannot disagree. It knows how outcomes add up; it knows nothing of how they came about or how they look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from labctl.errors import LabctlError, NothingVerified, ProofFailed
from labctl.lab.results import CheckResult, RunResult, Status
from labctl.recorder import StepRecord

SCHEMA = 1
"""The version of the report as data; it changes when a key changes its meaning or goes away."""


class PhaseOutcome(StrEnum):
    """How a phase ended: ``failed`` did its work and what it found is bad, ``broken`` could not do its work."""

    OK = "ok"
    FAILED = "failed"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Failure:
    """An error of labctl as data; see labctl.errors for the ids and what they mean."""

    id: str
    exit_code: int
    what: str
    why: str = ""
    next_step: str = ""
    details: str = ""

    @classmethod
    def of(cls, error: LabctlError) -> Failure:
        """What is known of ``error``."""
        return cls(error.id, error.exit_code, error.what, error.why, error.next_step, error.details)


@dataclass(frozen=True)
class RunPhase:
    """One of doctor, up, proof, labs, down. ``said`` is its outcome in a few words."""

    name: str
    outcome: PhaseOutcome
    seconds: float = 0.0
    said: str = ""
    steps: tuple[StepRecord, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class RunReport:
    """One run of `labctl ci`, finished or cut off.

    ``started`` is ISO 8601 in UTC, ``seconds`` wall time. ``facts`` are words for a heading (versions,
    image, CNI). ``bundle`` is the path of what was collected after a failure, or ''. ``kept`` says that
    the cluster still runs.
    """

    cluster: str
    labctl: str
    started: str
    phases: tuple[RunPhase, ...]
    seconds: float = 0.0
    proof: tuple[CheckResult, ...] = ()
    run: RunResult | None = None
    facts: dict[str, str] = field(default_factory=dict)
    bundle: str = ""
    kept: bool = False

    @property
    def exit_code(self) -> int:
        """0 when everything asked for was proven; else the code of what went wrong first.

        An interrupt outweighs everything else: the run says nothing about what it did not reach.
        """
        failures = [phase.failure for phase in self.phases if phase.failure]
        interrupted = next((one.exit_code for one in failures if one.exit_code > 128), 0)
        if interrupted:
            return interrupted
        for phase in self.phases:
            if phase.failure:
                return phase.failure.exit_code
            if phase.name == "proof" and phase.outcome is PhaseOutcome.FAILED:
                return ProofFailed.exit_code
            if phase.name == "labs" and self.run and self.run.exit_code:
                return self.run.exit_code
        looked = (*self.proof, *all_checks(self.run))
        return 0 if any(check.status is Status.PASS for check in looked) else NothingVerified.exit_code

    @property
    def passed(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0


def totals(checks: Iterable[CheckResult]) -> str:
    """ "5 passed, 1 failed", leaving out what did not happen; "nothing was looked at" for no checks."""
    words = {Status.PASS: "passed", Status.FAIL: "failed", Status.ERROR: "in error", Status.SKIP: "skipped"}
    seen = [check.status for check in checks]
    return (
        ", ".join(f"{seen.count(s)} {word}" for s, word in words.items() if s in seen)
        or "nothing was looked at"
    )


def all_checks(run: RunResult | None) -> tuple[CheckResult, ...]:
    """The checks of every lab of ``run``, in order."""
    return tuple(check for lab in run.labs for check in lab.checks) if run else ()


def verdict(report: RunReport) -> str:
    """The outcome of the run in one sentence."""
    if report.passed:
        labs = f", {len(report.run.labs)} lab(s): {totals(all_checks(report.run))}" if report.run else ""
        return f"proven in {report.seconds:.0f} s{labs}"
    bad = next(
        (phase for phase in report.phases if phase.outcome in (PhaseOutcome.BROKEN, PhaseOutcome.FAILED)),
        None,
    )
    where = f"{bad.name}: " if bad else ""
    why = (bad.failure.what if bad and bad.failure else "") or (bad.said if bad else "nothing was verified")
    return f"not proven, {where}{why}"
