"""What a lab run found, as data.

One model feeds the terminal, JSON, JUnit and the exit code. It knows the four outcomes and
how they add up; it knows nothing of Kubernetes or of how a check looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from labctl.errors import CleanupIncomplete, Conflict, InfrastructureError, NothingVerified

CHECK_FAILED = 1
"""The exit code of a run in which a check did not hold; the other codes belong to `labctl.errors`."""


class Status(StrEnum):
    """The four outcomes of a check or a lab; only PASS proves anything."""

    PASS = "PASS"  # noqa: S105  # no password
    FAIL = "FAIL"
    ERROR = "ERROR"
    SKIP = "SKIP"


@dataclass(frozen=True)
class CheckResult:
    """One check: ``expected`` and ``actual`` are sentences, ``hint`` is advice or empty."""

    id: str
    title: str
    status: Status
    expected: str = ""
    actual: str = ""
    hint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class LabResult:
    """One lab. ``reason`` says why it, or the rest of it, is ERROR or SKIP; ``leftovers`` what could not be removed;
    ``code`` is the exit code that its cause brings, if it brings one."""

    number: int
    slug: str
    title: str
    status: Status
    checks: tuple[CheckResult, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    leftovers: tuple[str, ...] = ()
    code: int | None = None

    @property
    def telling(self) -> tuple[CheckResult, ...]:
        """The checks, unless all of them would only repeat the reason for the whole lab."""
        repeats = self.reason and all(check.status is Status.SKIP for check in self.checks)
        return () if repeats else self.checks


@dataclass(frozen=True)
class RunResult:
    """Several labs on one cluster. ``nonce`` names the run, ``kubernetes`` is the server's version; ``on_record``
    counts the labs that a proof left out because they are unchanged since they were proved."""

    cluster: str
    nonce: str
    kubernetes: str
    labs: tuple[LabResult, ...] = ()
    seconds: float = 0.0
    on_record: int = 0

    @property
    def exit_code(self) -> int:
        """0 all proven, 1 a check failed, 4 not all was looked at, 6 conflict, 8 leftovers, 9 nothing verified."""
        broken = [lab for lab in self.labs if lab.status is Status.ERROR]
        codes = {lab.code or (CleanupIncomplete.exit_code if lab.leftovers else None) for lab in broken}
        if codes - {Conflict.exit_code, CleanupIncomplete.exit_code}:
            return InfrastructureError.exit_code
        for code in (Conflict.exit_code, CleanupIncomplete.exit_code):
            if code in codes:
                return code
        if any(lab.leftovers for lab in self.labs):
            return CleanupIncomplete.exit_code
        if any(lab.status is Status.FAIL for lab in self.labs):
            return CHECK_FAILED
        if not self.count(Status.PASS) and not (self.on_record and not self.labs):
            return NothingVerified.exit_code
        return 0

    def count(self, status: Status) -> int:
        """How many checks, over all labs, ended with this status."""
        return sum(check.status is status for lab in self.labs for check in lab.checks)


def overall(checks: Iterable[CheckResult]) -> Status:
    """The status of a lab from its checks: the worst that happened; SKIP if nothing was looked at."""
    seen = {check.status for check in checks}
    return next((worst for worst in (Status.ERROR, Status.FAIL, Status.PASS) if worst in seen), Status.SKIP)


def as_json(result: RunResult) -> dict[str, Any]:
    """The run as JSON-able data; the keys are part of labctl's interface."""
    data = asdict(result)
    for lab in data["labs"]:
        del lab["code"]
    data["exit_code"] = result.exit_code
    return data
