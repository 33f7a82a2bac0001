"""The step of `--replace`: what runs under the name is deleted, as late as possible."""

from __future__ import annotations

from labctl import progress
from labctl.cluster import mark, shared, teardown
from labctl.cluster.up.context import Context
from labctl.cluster.up.step import REPLACE, UpStep


def delete(run: Context, shown: progress.Step) -> None:
    """Delete the former cluster. Raises `Conflict` for one that is not labctl's, without ``force``."""
    removed = teardown.sweep(
        run.docker, run.spec.name, owner=None, foreign=run.options.force, settle=run.settle
    )
    mark.take_away(run.docker, run.spec.name)
    shared.take_away(run.docker, run.spec.name)
    shown.result(f"{len(removed)} container(s)")


STEP = UpStep(
    "clear", delete, title="Delete the former cluster", part_of=REPLACE, changes="the former cluster"
)
