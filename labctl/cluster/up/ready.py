"""The step that climbs the readiness ladder."""

from __future__ import annotations

from labctl import progress
from labctl.cluster import readiness
from labctl.cluster.up.context import Context
from labctl.cluster.up.step import VERIFY, UpStep
from labctl.progress import Progress
from labctl.waiting import Deadline


def wait(run: Context, _: progress.Step) -> None:
    """Wait for each rung in turn. Raises as `labctl.cluster.readiness.climb` does."""
    climb(run, run.progress, run.deadline)


def climb(run: Context, shown: Progress, deadline: Deadline) -> None:
    """The same with another listener and another deadline."""
    rungs = readiness.ladder(run.spec, run.kube, run.cluster.started)
    readiness.climb(rungs, run.cluster, shown, deadline, docker=run.docker)


STEP = UpStep("readiness", wait, part_of=VERIFY)
