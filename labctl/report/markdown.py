"""The report as Markdown: the summary page of a CI run.

Whatever came out of a cluster is escaped: a pod's answer can neither break the table nor smuggle in a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from labctl.lab.results import CheckResult, Status
from labctl.report.model import RunReport, all_checks, totals, verdict

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~@$])")
"""Besides Markdown's own: mentions and formulas, which hosting services turn into more than text."""


DETAIL_CHARACTERS = 4000
"""Of captured output; a summary page may hold 1 MiB in all."""


def text(report: RunReport) -> str:
    """One page: verdict, phases, labs, and a closed section for each thing that is not as it should be."""
    sign = "✅" if report.passed else "❌"
    parts = [
        f"## {sign} labctl: {_line(report.cluster)} {_line(verdict(report))}",
        _facts(report),
        _phases(report),
    ]
    if report.run:
        parts.append(_labs(report))
    parts += [
        _failure(phase.name, phase.failure.what, phase.failure.details)
        for phase in report.phases
        if phase.failure
    ]
    parts += _troubles("proof", report.proof)
    for lab in report.run.labs if report.run else ():
        parts += _troubles(f"{lab.number:02d} {lab.title}", lab.checks)
    if report.bundle:
        parts.append(f"Collected after the failure: {_code(report.bundle)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(report: RunReport) -> str:
    return " · ".join(f"{_line(name)} {_line(value)}" for name, value in report.facts.items())


def _phases(report: RunReport) -> str:
    rows = [(phase.name, phase.outcome, f"{phase.seconds:.1f}", phase.said) for phase in report.phases]
    return _table(("phase", "outcome", "seconds", ""), rows)


def _labs(report: RunReport) -> str:
    assert report.run
    rows = [
        (
            f"{lab.number:02d} {lab.title}",
            str(lab.status),
            totals(lab.checks),
            f"{lab.seconds:.1f}",
            lab.reason,
        )
        for lab in report.run.labs
    ]
    rows.append(("all", "", totals(all_checks(report.run)), f"{report.run.seconds:.1f}", ""))
    return _table(("lab", "result", "checks", "seconds", ""), rows)


def _troubles(where: str, checks: Iterable[CheckResult]) -> list[str]:
    return [_check(where, check) for check in checks if check.status in (Status.FAIL, Status.ERROR)]


def _check(where: str, check: CheckResult) -> str:
    rows = [(name, getattr(check, name)) for name in ("expected", "actual", "hint") if getattr(check, name)]
    lines = "\n".join(f"- {name}: {_line(value)}" for name, value in rows)
    return f"**{_line(where)}: {check.status}: {_line(check.title)}**\n\n{lines}"


def _failure(where: str, what: str, details: str) -> str:
    if not details:
        return f"**{_line(where)}**: {_line(what)}"
    summary = f"<summary>{_html(where)}: {_html(what)}</summary>"
    return f"<details>{summary}\n\n<pre>{_html(details[-DETAIL_CHARACTERS:])}</pre>\n\n</details>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_line(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _line(value: str) -> str:
    """``value`` as one line of plain text."""
    return SPECIAL.sub(r"\\\1", _html(" ".join(value.split())))


def _code(value: str) -> str:
    return f"<code>{_html(value)}</code>"


def _html(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
