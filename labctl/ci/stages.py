"""The phases of a run, tied to the parts of labctl that do them.

Each method is a few calls into one layer; what follows from how they end is labctl.ci.run's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from labctl.cluster import bundle, formerproofs, lock, mark, proof, running, teardown
from labctl.cluster.lock import Hold
from labctl.cluster.proof import ProofResult, Proven
from labctl.cluster.running import RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import bringup, demands
from labctl.cluster.up.context import Options
from labctl.errors import LabctlError
from labctl.host import doctor
from labctl.kube import connect
from labctl.lab.engine.loader import LabFile
from labctl.lab.engine.suite import Suite
from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.network.addon import NETWORK
from labctl.progress import Progress
from labctl.tools.docker import Docker

ONCE = ("memory", "ports", "subnets", "disk-docker", "image-source")
"""What only a new cluster needs: one that runs has taken its share already."""

PROVEN = {True: Status.PASS, False: Status.FAIL, None: Status.SKIP}


@dataclass
class RealStages:
    """The phases on this machine, for one cluster and a choice of labs."""

    spec: ClusterSpec
    files: Sequence[LabFile]
    options: Options
    strict: bool = False
    docker: Docker = field(default_factory=Docker)
    _facts: dict[str, str] = field(default_factory=dict)
    _proof: ProofResult | None = None
    _bundle: str = ""
    _only: Hold | None = None
    """Of two `labctl ci` of one name the second is refused: the first will delete the cluster."""
    _hold: Hold | None = None
    """From the moment the cluster is up until it is deleted: nobody else may change it meanwhile."""

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self.spec.name

    def doctor(self) -> str:
        """Every check of the doctor; of a cluster that runs only what it still needs. Raises `HostError`, and
        `Conflict` when another `labctl ci` is at a cluster of that name."""
        self._only = lock.instance(self.cluster, "ci", what=f"cluster {self.cluster} of `labctl ci`")
        there = bool(self.docker.containers({mark.KIND_CLUSTER: self.cluster}))
        skip = {*self.options.skip_checks, *(ONCE if there else ())}
        asked = demands.of_machine(
            self.spec, image=self.options.image, source=self.options.source, new=not there
        )
        findings = doctor.require(asked, sorted(skip), docker=self.docker)
        warned = [finding.title for finding in findings if finding.status == "warn"]
        return f"{len(findings)} checks" + (f", warnings: {', '.join(warned)}" if warned else "")

    def up(self, progress: Progress) -> bool:
        """Create the cluster, or find that it runs as it should; whether it was created."""
        examined = replace(self.options, skip_checks=tuple(check.id for check in doctor.CHECKS))
        try:
            up = bringup.up(self.spec, examined, progress, docker=self.docker, keep_lock=True)
        except LabctlError as failed:
            self._bundle = str(getattr(failed, "bundle", None) or "")
            raise
        self._hold = up.lock
        self._facts |= {
            "kubernetes": up.kubernetes,
            "cni": self.spec.cni,
            "load balancer": self.spec.load_balancer,
        }
        self._proof = up.proof
        return up.plan.action in ("create", "replace")

    def proof(self, progress: Progress) -> tuple[CheckResult, ...]:
        """The proof of the network, as checks: the one of the bring-up, or a new one where it had nothing to do."""
        if self._proof is None and self.spec.provides(NETWORK):
            cluster = self._running()
            kube = connect(cluster.kubeconfig, cluster.context)
            with contextlib.closing(kube), formerproofs.swept(cluster.name, kube, progress):
                self._proof = proof.prove(cluster, kube, progress)
        if self._proof is None:
            return (CheckResult("network", "the network", Status.SKIP, actual="there is no CNI plugin"),)
        return tuple(as_check(one) for one in self._proof.proofs)

    def labs(self, progress: Progress, on_result: Callable[[LabResult], None]) -> RunResult:
        """Run the labs in their order."""
        suite = Suite(self._running(), self.files, progress, self.docker, self.strict, on_result)
        return suite.go("run")

    def collect(self, reason: str, trace: Sequence[str]) -> str:
        """A bundle of what explains a failure; its path. A bring-up that failed has made one before it cleaned up."""
        if not self._bundle:
            self._bundle = str(
                bundle.collect(
                    self.cluster, reason, self.options.bundle_directory, docker=self.docker, trace=trace
                )
            )
        return self._bundle

    def down(self, progress: Progress) -> None:
        """Delete the cluster and wait until nothing of it is left. Raises `Conflict` while others use it."""
        teardown.down(self.cluster, progress, docker=self.docker, held=self._hold)

    def close(self) -> None:
        """Let go of the locks."""
        for held in (self._hold, self._only):
            if held is not None:
                held.release()

    def facts(self) -> dict[str, str]:
        """What is known by now."""
        return dict(self._facts)

    def _running(self) -> RunningCluster:
        return running.find(self.cluster, docker=self.docker)


def as_check(one: Proven) -> CheckResult:
    """A proof in the shape of a lab's check: one shape for whoever reads results."""
    return CheckResult(one.id, one.title, PROVEN[one.held], one.expected, one.actual, seconds=one.seconds)
