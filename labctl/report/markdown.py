"""The report as Markdown: the summary page of a CI run.

Whatever came out of a cluster passes labctl.shown: a pod's answer can neither break the table nor smuggle in a
link, a mention or a tag.
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.lab.results import CheckResult, Status
from labctl.report.model import RunReport, all_checks, totals, verdict
from labctl.shown import SHORTEST, bounded, fitted, line, markdown, preformatted

TEXT, WHOLE = 4_000, 512 * 1024
"""Characters of one text, bytes of the page. GitHub shows nothing of a summary above 1 MiB: two runs fit into one."""


def text(report: RunReport) -> str:
    """One page: verdict, phases, labs, and a closed section for each thing that is not as it should be.

    Texts are cut to `TEXT` characters, and shorter where the page would be larger than `WHOLE` bytes; sections
    that still do not fit are left out, and their number is said.
    """
    page = fitted(report, lambda cut: _joined(_parts(cut)), text=TEXT, whole=WHOLE)
    return page if len(page.encode()) <= WHOLE else _joined(_that_fit(_parts(bounded(report, SHORTEST))))


def _that_fit(parts: list[str]) -> list[str]:
    kept: list[str] = []
    room = WHOLE - 100  # for the line that says what is missing
    for part in parts:
        room -= len(part.encode()) + len("\n\n")
        if room < 0:
            return [*kept, f"{len(parts) - len(kept)} more section(s) left out: the page would be too large"]
        kept.append(part)
    return kept


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _parts(report: RunReport) -> list[str]:
    sign = "✅" if report.passed else "❌"
    parts = [
        f"## {sign} labctl: {markdown(report.cluster)} {markdown(verdict(report))}",
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
        parts.append(f"Collected after the failure: {markdown(report.bundle)}")
    return [part for part in parts if part]


def _facts(report: RunReport) -> str:
    return " · ".join(f"{markdown(name)} {markdown(value)}" for name, value in report.facts.items())


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
    lines = "\n".join(f"- {name}: {markdown(value)}" for name, value in rows)
    return f"**{markdown(where)}: {check.status}: {markdown(check.title)}**\n\n{lines}"


def _failure(where: str, what: str, details: str) -> str:
    if not details:
        return f"**{markdown(where)}**: {markdown(what)}"
    # Within these tags nothing is read as Markdown, but sites look for mentions outside of code.
    summary = f"<summary>{preformatted(where)}: <code>{preformatted(line(what))}</code></summary>"
    return f"<details>{summary}\n\n<pre>{preformatted(details)}</pre>\n\n</details>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(markdown(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
