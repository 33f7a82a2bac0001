"""`labctl heal`: a cluster that was left in a bad way, brought back and proven."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.options import cluster_words, output_option
from labctl.console import Console

if TYPE_CHECKING:
    from labctl.cluster.heal import Healed


@click.command()
@cluster_words
@output_option
@click.pass_obj
def heal(console: Console, name: str | None) -> None:
    """Put back what was left away, wake what sleeps, prove the cluster. Exit code 0 only when it is proven.

    What labs have taken away and a killed process could not give back is put back; nodes that are paused or
    stopped go on; then the cluster must get ready and its network must do what it must. Nothing is deleted.
    """
    from labctl.cluster.heal import heal as bring_back

    done = bring_back(name, console)
    console.data(_data(done), lambda: _text(done))


def _data(done: Healed) -> dict[str, Any]:
    from labctl.ci.stages import as_check

    return {
        "name": done.name,
        "changed": done.changed,
        "steps": [asdict(one) for one in done.steps],
        "kubernetes": done.kubernetes,
        "proof": [asdict(as_check(one)) for one in done.proof.proofs] if done.proof else None,
        "seconds": done.seconds,
    }


def _text(done: Healed) -> str:
    came = "healed" if done.changed else "nothing to heal"
    proven = "network proven" if done.proof else "network not proven (no CNI plugin)"
    lines = [f"cluster {done.name}: {came}, {proven}, {done.seconds:.0f} s"]
    return "\n".join([*lines, *(f"  {one.title}: {one.outcome} ({one.seconds:.1f} s)" for one in done.steps)])
