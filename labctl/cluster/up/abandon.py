"""What follows when a bring-up ends early: evidence first, then clean-up, then the error that says both.

Only what the run itself made is removed: the owner's id on every container decides. This module
must not know the steps, only what they left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labctl import paths
from labctl.cluster import bundle, journal, mark, teardown
from labctl.cluster.journal import Journal
from labctl.cluster.mark import Mark
from labctl.errors import Bug, CleanupIncomplete, Interrupted, LabctlError, WriteFailed, signal_number
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.tools.kind import Kind


@dataclass(frozen=True)
class Ruins:
    """What a run has made until it ended. ``mark`` is None before docker was touched.

    ``journal`` knows the step that ended it; ``begun`` says that it was written, so that it replaced the one
    of a former cluster. ``kind`` is the program if it was used, ``in_kind`` whether it was at work and
    containers may still appear, ``clearing`` whether the former cluster was being deleted: what is left of it
    is not this run's. ``trace`` is what was done and said, ``keep`` whether the user wants the cluster kept as it is.
    """

    journal: Journal
    begun: bool
    mark: Mark | None
    kind: Kind | None
    in_kind: bool
    clearing: bool
    trace: Sequence[str]
    keep: bool
    bundle_directory: Path | None

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.journal.name

    @property
    def phase(self) -> str:
        """The step that ended the run."""
        return self.journal.phase


def give_up(ruins: Ruins, cause: BaseException, progress: Progress, docker: Docker) -> BaseException:
    """Collect the evidence, remove what was made, and return the error to raise: ``cause`` or a better one."""
    interrupt = isinstance(cause, KeyboardInterrupt)
    if ruins.mark and not interrupt:
        try:
            explain(ruins, cause, progress, docker)
        except KeyboardInterrupt:
            progress.say("interrupted: collecting no more")
    try:
        if interrupt and ruins.mark:
            progress.say("interrupted: removing what this run made; a second interrupt quits at once")
        if ruins.keep and ruins.mark and isinstance(cause, LabctlError):
            cause.kept = True
            with contextlib.suppress(WriteFailed):  # the journal is a help, and the cause is the news
                journal.write(replace(ruins.journal, failed=str(cause)))
        else:
            _clean_up(ruins, progress, docker)
    except KeyboardInterrupt as again:
        return Interrupted(
            "interrupted again while cleaning up",
            signal_number=signal_number(again),
            why="" if interrupt else f"what went wrong before: {cause}",
            next_step=f"delete what is left: `labctl down {ruins.name}`",
        )
    except CleanupIncomplete as incomplete:
        incomplete.bundle = getattr(cause, "bundle", "")
        incomplete.details = "\n".join((*incomplete.leftovers, f"what went wrong before: {cause}"))
        return incomplete
    return _interrupted(ruins, cause) if interrupt else cause


def _interrupted(ruins: Ruins, cause: BaseException) -> Interrupted:
    why, step = "", "nothing of it is left; start anew with the same command"
    if ruins.clearing:
        why, step = (
            "the former cluster may be deleted in part",
            f"delete the rest: `labctl down {ruins.name}`",
        )
    elif not ruins.begun:
        step = "nothing was changed; start anew with the same command"
    return Interrupted(
        f"interrupted in phase {ruins.phase}", signal_number=signal_number(cause), why=why, next_step=step
    )


def explain(ruins: Ruins, cause: BaseException, progress: Progress, docker: Docker) -> None:
    """Collect a bundle and tell ``cause`` where it is. An interrupt needs no explanation."""
    if isinstance(cause, Interrupted) or not isinstance(cause, Exception):
        return
    error = cause if isinstance(cause, LabctlError) else Bug.of(cause, ruins.phase)
    _add_last_words(ruins, error, docker)
    error.bundle = str(_bundle(ruins, error, progress, docker) or "")


def forget(name: str) -> None:
    """Remove journal and kubeconfig; bundles stay."""
    directory = paths.cluster_state(name)
    with contextlib.suppress(OSError):
        journal.path(name).unlink(missing_ok=True)
        (directory / "kubeconfig").unlink(missing_ok=True)
        directory.rmdir()


def _add_last_words(ruins: Ruins, cause: LabctlError, docker: Docker) -> None:
    if ruins.in_kind:
        with contextlib.suppress(LabctlError):
            said = bundle.last_words(ruins.name, docker)
            cause.details = "\n".join(filter(None, (cause.details, said)))


def _bundle(ruins: Ruins, cause: LabctlError, progress: Progress, docker: Docker) -> Path | None:
    reason = "\n".join(
        filter(None, (f"{cause.what} [{cause.id}]", cause.why, cause.next_step, cause.details))
    )
    with progress.step("Collect what can be seen") as step:
        try:
            place = bundle.collect(
                ruins.name, reason, ruins.bundle_directory, docker=docker, kind=ruins.kind, trace=ruins.trace
            )
        except (LabctlError, OSError) as failed:
            step.result(f"not possible: {failed}")
            return None
        step.result(str(place))
        return place


def _clean_up(ruins: Ruins, progress: Progress, docker: Docker) -> None:
    if ruins.mark:
        with progress.step("Remove what this run made") as step:
            settle = teardown.LATE_SECONDS if ruins.in_kind else 0.0
            try:
                teardown.abort(docker, ruins.mark, settle=settle)
            except CleanupIncomplete:
                raise
            except LabctlError as failed:
                raise CleanupIncomplete(
                    f"cluster {ruins.name} could not be removed",
                    leftovers=[f"containers with the label {mark.OWNER}={ruins.mark.owner}"],
                    why=str(failed),
                    next_step=f"`labctl down {ruins.name}`",
                ) from failed
            step.result("0 containers left")
    if ruins.begun:
        forget(ruins.name)
