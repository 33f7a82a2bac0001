"""The last step: the network is seen to work, or it is said why nobody looks."""

from __future__ import annotations

from labctl import progress
from labctl.cluster import formerproofs, proof
from labctl.cluster.up.context import Context
from labctl.cluster.up.step import VERIFY, UpStep
from labctl.images import workloads
from labctl.network.addon import NETWORK


def prove(run: Context, _: progress.Step) -> None:
    """The proof of a cluster that has a network. Raises `ProofFailed`."""
    if not run.spec.provides(NETWORK):
        run.progress.say("no CNI plugin, so the network is not proven")
    elif run.options.prove:
        if run.image and run.image.origin != "built":
            workloads.ensure(run.docker, run.cluster.containers, [workloads.PROBE], run.progress)
        with formerproofs.swept(run.cluster.name, run.kube, run.progress):
            run.proof = proof.require(proof.prove(run.cluster, run.kube, run.progress))


STEP = UpStep("proof", prove, part_of=VERIFY)
