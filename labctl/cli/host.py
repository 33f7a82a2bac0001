"""`labctl doctor` and `labctl host`: look at the machine, prepare it, give back what was started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from labctl.cli.options import Group, output_option, skip_option, source_option
from labctl.console import Console
from labctl.errors import HostError
from labctl.host.finding import Finding, Needs, Source

if TYPE_CHECKING:
    from labctl.host.prepare import Change

Command = TypeVar("Command", bound=Callable[..., Any])

SHOWN = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skip": "-"}


def needs_options(command: Command) -> Command:
    """Add the options that say what the machine must be able to carry."""
    for option in (
        source_option,
        click.option(
            "--workers", type=click.IntRange(0, 20), default=2, show_default=True, help="Worker nodes."
        ),
        click.option(
            "--control-planes",
            type=click.IntRange(1, 3),
            default=1,
            show_default=True,
            help="Control-plane nodes.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@needs_options
@skip_option
@output_option
@click.pass_obj
def doctor(console: Console, control_planes: int, workers: int, source: Source, skip: Sequence[str]) -> int:
    """Check what this machine has and lacks for a cluster of that size, and change nothing.

    Exit code 0 when it is ready, 3 when a check failed; each finding names its cure.
    """
    from labctl.host import doctor as checks

    findings = checks.examine(_needs(control_planes, workers, source), skip=skip)
    failed = [finding for finding in findings if finding.failed]
    console.data(
        {"ready": not failed, "findings": [_finding_json(finding) for finding in findings]},
        lambda: _findings_text(findings),
    )
    return HostError.exit_code if failed else 0


@click.group(cls=Group)
def host() -> None:
    """Prepare this machine, or give back what was started."""


@host.command()
@needs_options
@click.option("-y", "--yes", is_flag=True, help="Change what is listed without asking.")
@click.option(
    "--build", is_flag=True, help="Also what a node image build needs, even where a registry answers."
)
@skip_option
@output_option
@click.pass_obj
def prepare(
    console: Console,
    control_planes: int,
    workers: int,
    source: Source,
    yes: bool,
    build: bool,
    skip: Sequence[str],
) -> None:
    """Bring what this machine lacks: docker, kernel limits, kind, what a node image build needs.

    Shows the list of changes and asks before it makes them. On a ready machine the list is
    empty and nothing is done. Fails with exit code 3 when something is left that only you can cure.
    """
    from labctl.host import doctor as checks
    from labctl.host import prepare as preparing

    checks.demand_known(skip)
    needs = _needs(control_planes, workers, source)
    changes = preparing.plan(needs, build=build)
    if changes:
        for change in changes:
            console.say(f"{change.title} ({change.why})")
        if not yes and not console.confirm(f"Make these {len(changes)} change(s)?"):
            raise HostError(
                "nothing was changed",
                why="not confirmed",
                next_step="confirm, or give --yes to change without asking",
            )
        preparing.apply(changes, console)
    failed = [finding for finding in checks.examine(needs, skip=skip) if finding.failed]
    if failed:
        raise checks.failure(failed)
    console.data(
        {"ready": True, "changes": [_change_json(change) for change in changes]}, lambda: _ready_text(changes)
    )


@host.command()
@output_option
@click.pass_obj
def release(console: Console) -> None:
    """Stop the docker daemon that labctl started, with every container in it.

    A daemon that labctl did not start is left alone.
    """
    from labctl.host import daemon

    stopped = daemon.release(progress=console)
    text = (
        "labctl started no docker daemon here" if stopped is None else f"stopped docker (process {stopped})"
    )
    console.data({"stopped": stopped}, lambda: text)


def _needs(control_planes: int, workers: int, source: Source) -> Needs:
    return Needs(control_planes=control_planes, workers=workers, source=source, images=_node_images())


def _node_images() -> tuple[str, ...]:
    """The names under which a node image may be present."""
    from labctl.images import lockfile

    locked = lockfile.load()
    return (locked.built.image.reference, locked.pulled.image.pull_reference)


def _finding_json(finding: Finding) -> dict[str, str]:
    return {
        "id": finding.id,
        "title": finding.title,
        "status": finding.status,
        "seen": finding.seen,
        "cure": finding.cure,
        "error": finding.error.id if finding.failed else "",
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {"title": change.title, "why": change.why, "root": change.root}


def _findings_text(findings: Sequence[Finding]) -> str:
    """One line per check, its cure below it when there is something to cure."""
    wide = max((len(finding.id) for finding in findings), default=0)
    lines = []
    for one in findings:
        lines.append(f"{SHOWN[one.status]:<4}  {one.id:<{wide}}  {one.seen}")
        if one.cure:
            lines.append(f"{'':<4}  {'':<{wide}}  cure: {one.cure}")
    failed = sum(finding.failed for finding in findings)
    lines.append(
        "this machine is ready" if not failed else f"{failed} check(s) failed: this machine is not ready"
    )
    return "\n".join(lines)


def _ready_text(changes: Sequence[Change]) -> str:
    return "this machine is ready" if changes else "this machine is ready: nothing to do"
