"""`labctl heal`: what is away comes back, what sleeps goes on, and then the cluster is proven.

It ends well only when the proof holds: that everything was put back is no reason to call a cluster well.
Whatever it does is a step that says what came of it. It deletes nothing and makes nothing anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from labctl.cluster import formerproofs, journal, lock, mark, proof, readiness, running, teardown
from labctl.cluster.absence import taking
from labctl.cluster.absence.gate import gate
from labctl.cluster.absence.marker import Marker
from labctl.cluster.absence.onnodes import run_again
from labctl.cluster.absence.site import Site, node_works
from labctl.cluster.mark import KIND_CLUSTER, Mark
from labctl.cluster.proof import ProofResult
from labctl.cluster.running import RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.errors import InfrastructureError, StateUnusable
from labctl.kube import Kube, connect
from labctl.network.addon import NETWORK
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.waiting import Deadline, until

DEADLINE_SECONDS = 600.0
"""For the ladder after everything was put back: a cluster that was stopped needs a few minutes on a busy machine."""
SETTLED_SECONDS = 60.0
"""For what is put back to be noticed everywhere: a static pod is reported Ready some 10 s after it works."""


@dataclass(frozen=True)
class HealStep:
    """One thing that was done, what came of it, and how long it took."""

    title: str
    outcome: str
    seconds: float


@dataclass(frozen=True)
class Healed:
    """A cluster that is proven again. ``changed`` says whether there was anything to heal."""

    name: str
    changed: bool
    steps: tuple[HealStep, ...]
    kubernetes: str
    proof: ProofResult | None
    seconds: float


@dataclass
class _Record:
    """The steps so far, shown as they happen."""

    progress: Progress
    steps: list[HealStep] = field(default_factory=list)

    @contextlib.contextmanager
    def shown(self, title: str) -> Iterator[_Outcome]:
        with self.progress.step(title) as step, self.timed(title) as outcome:
            yield outcome
            step.result(outcome.text)

    @contextlib.contextmanager
    def timed(self, title: str) -> Iterator[_Outcome]:
        """For what shows steps of its own."""
        started = time.monotonic()
        outcome = _Outcome()
        yield outcome
        self.steps.append(HealStep(title, outcome.text, round(time.monotonic() - started, 2)))


@dataclass
class _Outcome:
    text: str = ""


def heal(name: str | None, progress: Progress, *, docker: Docker | None = None) -> Healed:
    """Heal the cluster ``name`` (None: the only one), and prove it.

    Raises `ClusterNotFound`, `StateUnusable` where it cannot be healed (nodes that are gone, a bring-up that did not
    end), `Conflict` when another labctl is at it or it is not labctl's, `CleanupIncomplete` when something could not
    be put back, and what the ladder and the proof raise.
    """
    docker = docker or Docker()
    name = name or running.only(docker)
    with lock.changing(name, what="heal"):
        return _heal(name, progress, docker)


def _heal(name: str, progress: Progress, docker: Docker) -> Healed:
    started = time.monotonic()
    record = _Record(progress)
    cluster = running.find(name, docker=docker)
    spec = _spec(cluster, docker)
    woken = _wake(cluster, docker, record)
    cluster = running.find(name, docker=docker)  # a node that was started may have another address
    paid = _pay_back(cluster, docker, record)
    kube = connect(cluster.kubeconfig)
    with contextlib.closing(kube):
        _get_ready(spec, Site(cluster, docker, kube), woken, record)
        proven = _prove(spec, cluster, kube, record)
        version = kube.version()
    seconds = round(time.monotonic() - started, 2)
    return Healed(name, bool(woken or paid), tuple(record.steps), version, proven, seconds)


def require_well(site: Site) -> None:
    """Raise `InfrastructureError` that names what differs from a well cluster."""
    if differences := gate(site, within=SETTLED_SECONDS):
        raise InfrastructureError(
            f"cluster {site.cluster.name} is not as it must be",
            why=str(differences[0]),
            next_step=f"if it stays so, make it anew: `labctl up --name {site.cluster.name} --replace`",
            details="\n".join(map(str, differences)),
        )


def _spec(cluster: RunningCluster, docker: Docker) -> ClusterSpec:
    """What the cluster was asked to be. Raises where no healing brings it back."""
    there_now = docker.containers({KIND_CLUSTER: cluster.name})
    if teardown.strange(there_now):
        raise teardown.foreign(cluster.name, there_now)
    written = journal.read(cluster.name)
    if written and not written.ready:
        raise StateUnusable(
            f"cluster {cluster.name} was never brought up to its end",
            why=f"its bring-up ended in phase {written.phase}",
            next_step=f"start anew: `{written.command}` with --replace; or delete it: `labctl down {cluster.name}`",
        )
    known: Mark | None = mark.marks(docker).get(cluster.name)
    if known is None or known.spec is None:
        raise StateUnusable(
            f"what cluster {cluster.name} is to be is not known",
            why="its mark was made by another labctl, or is gone",
            next_step=f"make it anew: `labctl up --name {cluster.name} --replace`",
        )
    there = {node.name for node in cluster.nodes}
    if gone := [name for name in known.spec.node_names() if name not in there]:
        raise StateUnusable(
            f"cluster {cluster.name} cannot be healed",
            why=f"these nodes are gone: {', '.join(gone)}",
            next_step=f"make it anew: `labctl up --name {cluster.name} --replace`",
        )
    return known.spec


def _wake(cluster: RunningCluster, docker: Docker, record: _Record) -> tuple[str, ...]:
    """Let the containers of all nodes run: they hold the markers, and everything else needs them."""
    with record.shown("Every node's container runs") as outcome:
        done = {node: what for node in cluster.containers if (what := run_again(docker, node))}
        outcome.text = ", ".join(f"{node} {what}" for node, what in done.items()) or "nothing to do"
    return tuple(done)


def _pay_back(cluster: RunningCluster, docker: Docker, record: _Record) -> tuple[Marker, ...]:
    """What runs and has taken something away holds the cluster's lock, so it is not here."""
    with record.timed("Everything that was taken away is back") as outcome:
        paid = taking.pay_back_stale(cluster, docker, record.progress, everything=True)
        outcome.text = ", ".join(one.title for one in paid) or "nothing to do"
    return paid


def _get_ready(spec: ClusterSpec, site: Site, woken: Sequence[str], record: _Record) -> None:
    """The ladder believes what the API server has kept from before a stop; so woken nodes must speak anew first."""
    deadline = Deadline(DEADLINE_SECONDS)
    with record.timed("The cluster is ready") as outcome:
        if woken:
            with record.progress.step(f"{', '.join(woken)} report(s) anew") as step:
                works = node_works(site, woken)
                until(works, what="the nodes report anew", within=deadline.left(), on_wait=step.note)
        rungs = readiness.ladder(spec, site.kube)
        readiness.climb(rungs, site.cluster, record.progress, deadline, docker=site.docker)
        outcome.text = f"{len(rungs)} rungs"
    with record.shown("Nothing differs from a well cluster") as outcome:
        require_well(site)
        outcome.text = f"{len(site.cluster.nodes)} node(s), their static pods and workloads"


def _prove(spec: ClusterSpec, cluster: RunningCluster, kube: Kube, record: _Record) -> ProofResult | None:
    if not spec.provides(NETWORK):
        record.progress.say("no CNI plugin, so the network is not proven")
        return None
    with record.timed("The network is proven") as outcome:
        with formerproofs.swept(cluster.name, kube, record.progress):
            made = proof.require(proof.prove(cluster, kube, record.progress))
        outcome.text = f"{len([one for one in made.proofs if one.held])} proofs"
    return made
