"""The proof: a cluster is ready only when its network has been seen to work.

A probe pod runs on every node. Asked through the API server, each calls every other one by
address, a Service by address and by name; at last this machine calls a load balancer's address.
Every answer must carry this proof's random nonce, so nothing else can have answered. The pods
run under the restricted Pod Security Standard, and everything is deleted afterwards.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from labctl.cluster.proof.proofs import MADE, Proof
from labctl.cluster.proof.stage import Stage, set_up
from labctl.cluster.running import RunningCluster
from labctl.errors import DeadlineExceeded, LabctlError, ProofFailed
from labctl.kube import Kube
from labctl.progress import Progress
from labctl.waiting import until

EACH_SECONDS = 45.0
"""For one proof to come true: rules for a Service reach every node within a few seconds."""


@dataclass(frozen=True)
class Proven:
    """One named proof. ``held`` None: not looked at here, ``actual`` says why."""

    id: str
    title: str
    held: bool | None
    expected: str
    actual: str
    seconds: float = 0.0


@dataclass(frozen=True)
class ProofResult:
    """All proofs of one run, in their order."""

    proofs: tuple[Proven, ...]
    nonce: str
    seconds: float

    @property
    def held(self) -> bool:
        """Whether none failed and at least one was made."""
        made = [one for one in self.proofs if one.held is not None]
        return bool(made) and all(one.held for one in made)

    @property
    def failed(self) -> tuple[Proven, ...]:
        """Those that did not hold."""
        return tuple(one for one in self.proofs if one.held is False)


def prove(cluster: RunningCluster, kube: Kube, progress: Progress) -> ProofResult:
    """Make every proof and return what each found; raises only where the proof could not be made at all.

    `InfrastructureError` when the probe pods do not start, `ApiUnreachable` when the API is gone.
    """
    started = time.monotonic()
    stage = Stage(cluster, kube)
    found: list[Proven] = []
    with set_up(stage, progress):
        for make in MADE:
            found.append(_timed(make(stage), progress))
    return ProofResult(tuple(found), stage.nonce, time.monotonic() - started)


def require(result: ProofResult) -> ProofResult:
    """``result`` when it holds. Raises `ProofFailed` that names each proof that does not."""
    if result.held:
        return result
    lines = [f"{one.title}: expected {one.expected}, found {one.actual}" for one in result.failed]
    raise ProofFailed(
        "the cluster's network does not do what it must",
        why=lines[0] if len(lines) == 1 else f"{len(lines)} proofs failed",
        next_step="the bundle holds the logs of the network plugin and kube-proxy",
        details="\n".join(lines),
    )


def _timed(proof: Proof, progress: Progress) -> Proven:
    if proof.look is None:
        return Proven(proof.id, proof.title, None, proof.expected, proof.why_not)
    started = time.monotonic()
    failure: LabctlError | None = None
    actual = ""
    with suppress(_Shown), progress.step(f"Proof: {proof.title}") as step:
        try:
            actual = until(proof.look, what=proof.title, within=EACH_SECONDS, every=0.3, on_wait=step.note)
            step.result(actual)
        except DeadlineExceeded as late:
            failure = late
            raise _Shown from late
    if isinstance(failure, DeadlineExceeded):
        actual = failure.last
    seconds = time.monotonic() - started
    return Proven(proof.id, proof.title, failure is None, proof.expected, actual, seconds)


class _Shown(Exception):
    """Ends a step badly; the proof's result tells the rest."""
