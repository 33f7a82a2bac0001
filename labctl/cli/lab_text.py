"""Lab results as text for a terminal: one line per check, and for what is not PASS also why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.lab.results import CheckResult, LabResult, RunResult, Status

if TYPE_CHECKING:
    from rich.text import Text

COLOURS = {Status.PASS: "green", Status.FAIL: "red", Status.ERROR: "bold magenta", Status.SKIP: "yellow"}


def run(result: RunResult, verb: str) -> Text:
    """The labs, their checks, and one line that sums up."""
    from rich.text import Text

    shown = Text()
    for lab in result.labs:
        shown.append_text(_lab(lab))
        shown.append("\n")
    counts = ", ".join(f"{result.count(status)} {status}" for status in Status if result.count(status))
    shown.append(f"{verb}: {len(result.labs)} lab(s) on {result.cluster} ({result.kubernetes}), ")
    shown.append(f"{counts or 'no check'}, {result.seconds:.0f} s\n")
    return shown


def _lab(lab: LabResult) -> Text:
    from rich.text import Text

    shown = Text(f"{lab.number:02d} {lab.slug}: {lab.title}  ")
    shown.append(str(lab.status), style=COLOURS[lab.status])
    shown.append(f"  {lab.seconds:.1f} s\n")
    if lab.reason:
        shown.append(f"   {lab.reason}\n")
    for left in lab.leftovers:
        shown.append(f"   left: {left}\n")
    for check in lab.telling:
        shown.append_text(_check(check))
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
