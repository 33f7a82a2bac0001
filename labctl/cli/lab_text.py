"""Lab results as text for a terminal: one line per check, and for what is not PASS also why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.shown import ON_TERMINAL, bounded

if TYPE_CHECKING:
    from rich.text import Text

COLOURS = {Status.PASS: "green", Status.FAIL: "red", Status.ERROR: "bold magenta", Status.SKIP: "yellow"}


def summary(result: RunResult, verb: str) -> Text:
    """A line for each lab, in their order, and one that sums up; for the end, when each was shown as it ended."""
    from rich.text import Text

    shown = Text()
    if len(result.labs) > 1:
        for one in result.labs:
            shown.append_text(_headline(one))
        shown.append("\n")
    counts = ", ".join(f"{result.count(status)} {status}" for status in Status if result.count(status))
    shown.append(f"{verb}: {len(result.labs)} lab(s) on {result.cluster} ({result.kubernetes}), ")
    recorded = f", {result.on_record} lab(s) unchanged since they were proved" if result.on_record else ""
    shown.append(f"{counts or 'no check'}{recorded}, {result.seconds:.0f} s\n")
    return shown


def _headline(one: LabResult) -> Text:
    from rich.text import Text

    shown = Text(f"{one.number:02d} {one.slug}: {one.title}  ")
    shown.append(str(one.status), style=COLOURS[one.status])
    shown.append(f"  {one.seconds:.1f} s\n")
    return shown


def lab(lab: LabResult) -> Text:
    """A lab, its checks, and for what is not PASS also why. Long texts are cut."""
    lab = bounded(lab, ON_TERMINAL)
    shown = _headline(lab)
    if lab.reason:
        shown.append(f"   {lab.reason}\n")
    for left in lab.leftovers:
        shown.append(f"   left: {left}\n")
    for check in lab.telling:
        shown.append_text(_check(check))
    shown.append("\n")
    return shown


def _check(check: CheckResult) -> Text:
    from rich.text import Text

    shown = Text("  ")
    shown.append(f"{check.status:<5}", style=COLOURS[check.status])
    shown.append(f" {check.title}  {check.seconds:.1f} s\n")
    if check.status is Status.PASS:
        return shown
    if check.expected and check.expected != check.title:
        shown.append(f"        expected  {check.expected}\n")
    shown.append(f"        actual    {check.actual}\n")
    if check.hint:
        shown.append(f"        hint      {check.hint}\n")
    return shown
