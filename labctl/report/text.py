"""The report for a terminal: a table of phases, and in full only what is not as it should be.

Everything is said in words as well as in colour, and fits into a log without a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.report.model import Failure, PhaseOutcome, RunReport, all_checks, totals, verdict
from labctl.shown import ON_TERMINAL, bounded

DETAIL_LINES = 40
"""Of captured output; the reports in files and the bundle have more."""

STYLES = {
    Status.PASS: "green",
    Status.FAIL: "red",
    Status.ERROR: "magenta",
    Status.SKIP: "yellow",
    PhaseOutcome.OK: "green",
    PhaseOutcome.FAILED: "red",
    PhaseOutcome.BROKEN: "magenta",
    PhaseOutcome.SKIPPED: "yellow",
}


def report(report: RunReport) -> RenderableType:
    """The whole run: phases, labs, what did not hold and why, the verdict. Long texts are cut."""
    report = bounded(report, ON_TERMINAL)
    parts: list[RenderableType] = [_phases(report)]
    parts += _troubles("proof", report.proof)
    if report.run:
        parts.append(labs(report.run))
    for phase in report.phases:
        if phase.failure:
            parts.append(_failure(phase.name, phase.failure))
    if report.bundle:
        parts.append(Text(f"what was collected: {report.bundle}"))
    if report.kept:
        parts.append(Text(f"the cluster still runs; `labctl down {report.cluster}` deletes it"))
    parts.append(Text(verdict(report), style="bold green" if report.passed else "bold red"))
    return Group(*parts)


def labs(run: RunResult) -> RenderableType:
    """The labs of a run as a table; below it, each check that is not PASS, with expected, actual and hint."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("lab", "result", "checks"):
        table.add_column(column, overflow="fold")
    table.add_column("seconds", justify="right")
    for lab in run.labs:
        table.add_row(
            escape(f"{lab.number:02d} {lab.title}"),
            _word(lab.status),
            totals(lab.checks),
            f"{lab.seconds:.1f}",
        )
    parts: list[RenderableType] = [table]
    for lab in run.labs:
        parts += _lab_troubles(lab)
    parts.append(Text(f"{len(run.labs)} lab(s), {totals(all_checks(run))}, {run.seconds:.1f} s"))
    return Group(*parts)


def _phases(report: RunReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("phase")
    table.add_column("outcome")
    table.add_column("seconds", justify="right")
    table.add_column("", overflow="fold")
    for phase in report.phases:
        table.add_row(phase.name, _word(phase.outcome), f"{phase.seconds:.1f}", escape(phase.said))
    return table


def _lab_troubles(lab: LabResult) -> list[RenderableType]:
    where = f"{lab.number:02d} {lab.slug}"
    whole = [Text(f"{where}: {lab.status}: {lab.reason}", style=STYLES[lab.status])] if lab.reason else []
    return [*whole, *_troubles(where, lab.telling)]


def _troubles(where: str, checks: Iterable[CheckResult]) -> list[RenderableType]:
    return [_check(where, check) for check in checks if check.status is not Status.PASS]


def _check(where: str, check: CheckResult) -> Text:
    lines = Text(f"{where}: {check.status}: {check.title}", style=STYLES[check.status])
    for name in ("expected", "actual", "hint"):
        value = getattr(check, name)
        if value:
            lines.append(f"\n  {name}: {value}", style="default")
    return lines


def _failure(where: str, failure: Failure) -> Text:
    shown = Text(f"{where}: {failure.what}  [{failure.id}]", style=STYLES[PhaseOutcome.BROKEN])
    for name, value in (("why", failure.why), ("next", failure.next_step)):
        if value:
            shown.append(f"\n  {name}: {value}", style="default")
    for line in failure.details.splitlines()[-DETAIL_LINES:]:
        shown.append(f"\n  | {line}", style="default")
    return shown


def _word(status: Status | PhaseOutcome) -> Text:
    return Text(str(status), style=STYLES[status])
