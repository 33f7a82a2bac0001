"""The report as JUnit XML: what CI systems read.

One suite for the phases, one for the proof, one for each lab; one case for each check. A check that does
not hold is a failure, one that could not be looked at is an error, one that was not looked at is skipped,
so that a broken environment is never shown as a wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.report import model
from labctl.report.model import PhaseOutcome, RunPhase, RunReport
from labctl.shown import clean, fitted

Kind = type[Failure] | type[Error] | type[Skipped]

CHECK_RESULT: Mapping[Status, Kind] = {Status.FAIL: Failure, Status.ERROR: Error, Status.SKIP: Skipped}
PHASE_RESULT: Mapping[PhaseOutcome, Kind] = {PhaseOutcome.BROKEN: Error, PhaseOutcome.SKIPPED: Skipped}
"""A phase that failed without an error of its own (a lab's check did not hold) fails in that check's suite."""

TEXT, WHOLE = 64 * 1024, 4 * 1024 * 1024
"""Characters of one text, bytes of the document: what CI systems still read and show."""


def text(report: RunReport) -> str:
    """The whole run as one XML document, without what XML cannot carry.

    Texts are cut to `TEXT` characters, and shorter where the document would be larger than `WHOLE` bytes.
    """
    return fitted(report, _drawn, text=TEXT, whole=WHOLE)


def _drawn(report: RunReport) -> str:
    properties = {"cluster": report.cluster, "labctl": report.labctl, "exit_code": str(report.exit_code)}
    properties |= report.facts
    if report.bundle:
        properties["bundle"] = report.bundle
    suites = [_suite("labctl.phases", [_phase(phase) for phase in report.phases], properties)]
    if report.proof:
        suites.append(_suite("labctl.proof", [_check("labctl.proof", check) for check in report.proof]))
    suites += _labs(report.run)
    return _document(suites)


def _labs(run: RunResult | None) -> list[TestSuite]:
    if run is None:
        return []
    shared = {"cluster": run.cluster, "kubernetes": run.kubernetes, "nonce": run.nonce}
    return [_lab(lab, shared) for lab in run.labs]


def _lab(lab: LabResult, shared: Mapping[str, str]) -> TestSuite:
    name = f"lab.{lab.number:02d}_{lab.slug}"
    cases = [_check(name, check) for check in lab.checks]
    if lab.status in CHECK_RESULT and not any(check.status is lab.status for check in lab.checks):
        # It ended outside its checks: without a case of its own it would look as if nothing was wrong.
        cases.append(_case(name, "the lab as a whole", 0.0, CHECK_RESULT[lab.status], lab.reason, lab.reason))
    return _suite(name, cases, {**shared, "title": lab.title, "status": lab.status, "reason": lab.reason})


def _check(suite: str, check: CheckResult) -> TestCase:
    facts = {"expected": check.expected, "actual": check.actual, "hint": check.hint}
    body = "\n".join(f"{name + ':':<10}{value}" for name, value in facts.items() if value)
    message = check.actual or check.expected
    return _case(
        suite, f"{check.title} [{check.id}]", check.seconds, CHECK_RESULT.get(check.status), message, body
    )


def _phase(phase: RunPhase) -> TestCase:
    failure = phase.failure
    message = failure.what if failure else phase.said
    body = _told(failure) if failure else phase.said
    kind = Failure if failure and phase.outcome is PhaseOutcome.FAILED else PHASE_RESULT.get(phase.outcome)
    case = _case("labctl.phases", phase.name, phase.seconds, kind, message, body)
    if phase.steps:
        case.system_out = clean(
            "\n".join(f"{step.seconds:8.1f} s  {step.title}  {step.result}".rstrip() for step in phase.steps)
        )
    return case


def _told(failure: model.Failure) -> str:
    next_step = f"next: {failure.next_step}" if failure.next_step else ""
    return "\n".join(line for line in (failure.what, failure.why, next_step, failure.details) if line)


def _case(suite: str, name: str, seconds: float, kind: Kind | None, message: str, body: str) -> TestCase:
    case = TestCase(clean(name), classname=clean(suite), time=round(seconds, 3))
    if kind:
        outcome = kind(clean(message).splitlines()[0] if message.strip() else "no reason given")
        outcome.text = clean(body)
        case.result = [outcome]
    return case


def _suite(name: str, cases: list[TestCase], properties: Mapping[str, str] | None = None) -> TestSuite:
    suite = TestSuite(clean(name))
    for key, value in (properties or {}).items():
        if value:
            suite.add_property(clean(key), clean(value))
    suite.add_testcases(cases)
    return suite


def _document(suites: list[TestSuite]) -> str:
    document = JUnitXml("labctl")
    for suite in suites:
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]  # junitparser leaves it unannotated
    written = BytesIO()
    document.write(written, pretty=True)
    return written.getvalue().decode()
