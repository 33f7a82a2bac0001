"""The step that has a node image: present, pulled or built. Building one can take a quarter of an hour."""

from __future__ import annotations

from dataclasses import replace

from labctl import progress
from labctl.cluster.up.context import Context
from labctl.cluster.up.step import UpStep
from labctl.images import nodeimage
from labctl.waiting import Deadline


def find(run: Context, _: progress.Step) -> None:
    """The image that was asked for, or the locked one. The deadline of the rest begins now."""
    if run.options.image:
        run.image = nodeimage.given(run.docker, run.options.image)
    else:
        run.image = nodeimage.ensure(run.docker, run.progress, source=run.options.source)
    run.mark = replace(run.mark, node_image=run.image.reference)
    run.deadline = Deadline(run.options.deadline)


STEP = UpStep("image", find)
