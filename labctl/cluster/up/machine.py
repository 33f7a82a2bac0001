"""The first step: whether this machine can carry the cluster. Nothing is changed."""

from __future__ import annotations

from labctl import progress
from labctl.cluster.up import demands
from labctl.cluster.up.context import Context
from labctl.cluster.up.step import MAKE, UpStep
from labctl.host import doctor


def check(run: Context, shown: progress.Step) -> None:
    """The doctor, for what this spec needs. Raises `HostError`."""
    findings = doctor.require(
        demands.of_machine(
            run.spec,
            image=run.options.image,
            source=run.options.source,
            new=run.plan.action in MAKE,
            replaces=run.spec.name if run.plan.action == "replace" else "",
        ),
        run.options.skip_checks,
        docker=run.docker,
    )
    warned = [one.title for one in findings if one.status == "warn"]
    shown.result(f"warnings: {', '.join(warned)}" if warned else "ready")


STEP = UpStep("doctor", check, title="Check this machine")
