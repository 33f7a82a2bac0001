"""`labctl up`: from a spec to a cluster that is proven. STEPS is the whole of it, in order.

Whatever ends it early, what this run made is removed, and nothing else: the owner's id on every
container decides. The evidence is collected first. Each step is written into the journal as it
begins, so that one who finds the ruins of a killed process knows how far it came.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from labctl.cluster import (
    formerproofs,
    holders,
    journal,
    lock,
    mark,
    proof,
    readiness,
    running,
    shared,
    teardown,
)
from labctl.cluster.absence import taking
from labctl.cluster.journal import Journal
from labctl.cluster.lock import Hold
from labctl.cluster.mark import Mark
from labctl.cluster.proof import ProofResult
from labctl.cluster.running import RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import abandon, kindconfig, needs, nodes, plan
from labctl.cluster.up.abandon import Ruins
from labctl.cluster.up.background import Background
from labctl.cluster.up.plan import Plan
from labctl.errors import InfrastructureError, NodeDown
from labctl.host import doctor
from labctl.host.finding import Source
from labctl.images import nodeimage, workloads
from labctl.images.node import NodeImage
from labctl.kube import Kube, connect
from labctl.network import install, registry
from labctl.network import pool as pools
from labctl.network.base import NodeFacts
from labctl.network.install import Site
from labctl.network.pool import Pool
from labctl.progress import Progress, Quiet, Step
from labctl.recorder import Recorder
from labctl.tools.docker import Docker
from labctl.tools.kind import Kind, KindStage
from labctl.tools.kubectl import NodeKubectl
from labctl.waiting import Deadline

DEADLINE_SECONDS = 600.0
"""For everything after the node image is here. Usual: one minute; on a machine under load, three."""

CHECK_SECONDS = 30.0
"""For a cluster that runs already: it is ready now, or something is wrong with it."""

NETWORK = "kind"
"""The docker network that kind makes and all its clusters share."""

API_ANSWERS = "Starting control-plane"
"""kind's stage after which the API server answers; it goes on to join the other nodes."""


@dataclass(frozen=True)
class Options:
    """How to bring up, as opposed to what. ``image`` names a node image instead of the locked one."""

    replace: bool = False
    force: bool = False
    skip_checks: tuple[str, ...] = ()
    image: str = ""
    source: Source = "auto"
    keep_on_failure: bool = False
    prove: bool = True
    bundle_directory: Path | None = None
    deadline: float = DEADLINE_SECONDS


@dataclass(frozen=True)
class Up:
    """What came of it. ``seconds`` maps each phase to its time; ``proof`` is None when none was made. ``lock`` is the
    caller's to release, where he asked to keep it."""

    cluster: RunningCluster
    plan: Plan
    kubernetes: str
    proof: ProofResult | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    lock: Hold | None = None


class BringUp:
    """One run of `up`: what it knows so far, and a method for each step."""

    def __init__(
        self,
        spec: ClusterSpec,
        options: Options,
        progress: Progress,
        docker: Docker,
        kind: Kind | None = None,
    ) -> None:
        self.spec = spec
        self.options = options
        self.progress = self.recorder = Recorder(progress)
        self.docker = docker
        self._kind = kind
        self.plan = Plan("create", "")
        self.mark = Mark(spec.name, mark.new_owner(), 0, spec, user=mark.me())
        self.image: NodeImage | None = None
        self.begun = False
        self.marked = False
        self.in_kind = False
        self.deadline = Deadline(options.deadline)
        self.journal = Journal(
            spec.name, self.mark.owner, "plan", spec, os.getpid(), holders.command_line(),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        self.settle = teardown.settle_time(spec.name)
        self.installing = Background("the manifests of CNI and load balancer are applied")
        self.proof: ProofResult | None = None
        self.kubernetes = ""
        self.said: list[str] = []
        self._kube: Kube | None = None
        self._cluster: RunningCluster | None = None

    # --- the steps

    def check_machine(self) -> None:
        """The doctor, for what this spec needs."""
        with self.progress.step("Check this machine") as step:
            findings = doctor.require(
                needs.of_machine(
                    self.spec,
                    image=self.options.image,
                    source=self.options.source,
                    new=self.plan.action in {"create", "replace"},
                    replaces=self.spec.name if self.plan.action == "replace" else "",
                ),
                self.options.skip_checks,
                docker=self.docker,
            )
            warned = [one.title for one in findings if one.status == "warn"]
            step.result(f"warnings: {', '.join(warned)}" if warned else "ready")

    def find_image(self) -> None:
        """A node image: present, pulled or built."""
        if self.options.image:
            self.image = nodeimage.given(self.docker, self.options.image)
        else:
            self.image = nodeimage.ensure(self.docker, self.progress, source=self.options.source)
        self.mark = replace(self.mark, node_image=self.image.reference)
        self.deadline = Deadline(self.options.deadline)

    def clear(self) -> None:
        """With --replace: delete what runs under this name."""
        if self.plan.action != "replace":
            return
        with self.progress.step("Delete the former cluster") as step:
            removed = teardown.sweep(
                self.docker, self.spec.name, owner=None, foreign=self.options.force, settle=self.settle
            )
            mark.take_away(self.docker, self.spec.name)
            shared.take_away(self.docker, self.spec.name)
            step.result(f"{len(removed)} container(s)")

    def create_nodes(self) -> None:
        """kind makes the nodes; CNI and load balancer are applied as soon as the API server answers."""
        with self.progress.step(f"Create {self.spec.nodes} node(s)") as step, contextlib.ExitStack() as alone:
            # The slot stays ours from here on: it is in the mark. The network is made under the same lock.
            alone.enter_context(lock.everything())
            plan.refuse_rivals(self.spec.name, self.docker)
            self.mark = replace(self.mark, slot=mark.free_slot(self.docker))
            self.marked = True  # before it is: an interrupt may leave a part of the mark
            mark.put(self.docker, self.mark)
            if self.docker.network(NETWORK) is not None:
                alone.close()
            self._kind_create(step, network_exists=alone.close)
            ids = [one.id for one in self.docker.containers({mark.KIND_CLUSTER: self.spec.name})]
            self.journal = replace(self.journal, containers=tuple(ids))
            step.result(f"kind {self.kind.version()}, {self.mark.node_image}")

    def finish_network(self) -> None:
        """Wait until the manifests are applied, and read back what was asked of the nodes."""
        title = f"Install CNI {self.spec.cni} and load balancer {self.spec.load_balancer}"
        with self.progress.step(title) as step:
            ended = self.installing.finish(self.deadline)
            meanwhile = "" if ended.waited else ", while the nodes joined"
            step.result(f"applied in {ended.seconds:.1f} s{meanwhile}")
        nodes.read_back(self.docker, self.spec, needs.of_nodes(self.docker))

    def wait_ready(self) -> None:
        """The readiness ladder."""
        readiness.climb(
            readiness.ladder(self.spec, self.kube),
            self.cluster,
            self.progress,
            self.deadline,
            docker=self.docker,
        )
        self.kubernetes = self.kube.version()

    def prove(self) -> None:
        """The proof that the network works."""
        if not registry.PLUGINS[self.spec.cni].upstream:
            self.progress.say("no CNI plugin, so the network is not proven")
        elif self.options.prove:
            if self.image and self.image.origin != "built":
                nodes = self.cluster.containers
                workloads.ensure(self.docker, nodes, [workloads.PROBE], self.progress)
            with formerproofs.swept(self.cluster.name, self.kube, self.progress):
                self.proof = proof.require(proof.prove(self.cluster, self.kube, self.progress))

    # --- what the steps use

    @property
    def kind(self) -> Kind:
        """The kind program, looked for when it is needed."""
        if self._kind is None:
            self._kind = Kind()
        return self._kind

    @property
    def cluster(self) -> RunningCluster:
        """The cluster as docker shows it once its nodes are made; asked once."""
        if self._cluster is None:
            self._cluster = running.find(self.spec.name, docker=self.docker)
        return self._cluster

    @property
    def kube(self) -> Kube:
        """The connection to its API server."""
        if self._kube is None:
            self._kube = connect(self.cluster.kubeconfig)
        return self._kube

    def close(self) -> None:
        """Let go of connections."""
        if self._kube is not None:
            self._kube.close()

    def pool(self) -> Pool:
        """The load balancer's addresses."""
        network = self.docker.network(NETWORK)
        subnet = pools.first_ipv4(network.subnets) if network else ""
        if not subnet:
            raise InfrastructureError(
                f"the docker network {NETWORK} has no IPv4 subnet",
                next_step="ask for `--load-balancer none`, or delete that network when no cluster uses it",
            )
        return pools.pool(subnet, self.mark.slot)

    def ruins(self) -> Ruins:
        """What this run has made so far."""
        return Ruins(
            self.journal,
            self.begun,
            self.mark if self.marked else None,
            self._kind,
            self.in_kind,
            [*map(str, self.recorder.take()), *self.said],
            self.options.keep_on_failure,
            self.options.bundle_directory,
        )

    def enter(self, phase: str) -> None:
        """Note that a phase begins, in the journal as soon as this run changes something.

        Before that the journal is that of a cluster that runs: one to look at again, or one to replace.
        """
        self.journal = self.journal.at(phase)
        if phase not in UNCHANGED.get(self.plan.action, ()):
            journal.write(self.journal)
            self.begun = True

    def _kind_create(self, step: Step, *, network_exists: Callable[[], None]) -> None:
        config = kindconfig.render(
            self.spec,
            needs.of_nodes(self.docker),
            shared_directory=shared.make(self.docker, self.mark),
        )

        def reached(stage: KindStage) -> None:
            if stage.outcome == "started":
                step.note(stage.title)
            if stage.title.startswith("Preparing nodes"):
                network_exists()
            if stage.title.startswith(API_ANSWERS) and stage.outcome == "done":
                self.installing.start(self._install)

        self.in_kind = True
        nodes.create(
            self.kind,
            self.mark,
            config,
            timeout=self.deadline.left(),
            on_event=self.said.append,
            on_stage=reached,
        )
        self.in_kind = False
        self.installing.start(self._install)

    def _install(self) -> None:
        """Runs beside kind: what it does not need to wait for."""
        assert self.image is not None
        names = self.spec.node_names()
        kubectl = NodeKubectl(self.docker, names[0])
        plugin, balancer = registry.PLUGINS[self.spec.cni], registry.LOAD_BALANCERS[self.spec.load_balancer]
        quiet = Quiet()
        facts = NodeFacts(self.spec.pod_subnet, self.spec.api_server)
        site = Site(self.docker, names, kubectl, self.image, facts)
        install.plugin(plugin, site, quiet)
        install.load_balancer(balancer, site, self.pool, quiet)


STEPS: tuple[tuple[str, Callable[[BringUp], None]], ...] = (
    ("doctor", BringUp.check_machine),
    ("image", BringUp.find_image),
    (abandon.CLEAR, BringUp.clear),
    ("nodes", BringUp.create_nodes),
    ("network", BringUp.finish_network),
    ("readiness", BringUp.wait_ready),
    ("proof", BringUp.prove),
)
"""Everything that `up` does for a new cluster, by phase. The lock and the plan come before."""

VERIFY = STEPS[-2:]
"""What it does for one that runs and whose proof is not on record."""

UNCHANGED = {
    "verify": [phase for phase, _ in VERIFY],
    "replace": [phase for phase, _ in takewhile(lambda step: step[0] != abandon.CLEAR, STEPS)],
}
"""By action, the phases in which the cluster that runs is still as it was."""


def up(
    spec: ClusterSpec,
    options: Options,
    progress: Progress,
    *,
    docker: Docker | None = None,
    kind: Kind | None = None,
    keep_lock: bool = False,
) -> Up:
    """Bring up ``spec`` and prove it; a cluster that runs as asked for is left alone.

    With ``keep_lock`` the caller gets the lock, as one who uses the cluster: between its making and what follows
    nobody else can delete it.
    Raises whatever a step raises, after cleaning up; `Conflict` when something stands in the way;
    `Interrupted`; `CleanupIncomplete` when something of this run could not be removed.
    """
    docker = docker or Docker()
    hold, planned = _claimed(spec, options, progress, docker)
    with contextlib.ExitStack() as ends:
        ends.enter_context(hold)
        if not planned.changes:
            taking.pay_back_left(spec.name, docker, progress)
        run = BringUp(spec, options, progress, docker, kind)
        ends.callback(run.close)
        run.plan = planned
        done = _carry_out(run)
        hold.share()
        if keep_lock:
            run.close()
            ends.pop_all()
            return replace(done, lock=hold)
        return done


def _claimed(spec: ClusterSpec, options: Options, progress: Progress, docker: Docker) -> tuple[Hold, Plan]:
    """The lock and the plan; a node that a killed lab has frozen is given back first, it is no node that is down."""

    def claim() -> tuple[Hold, Plan]:
        return plan.claim(spec, docker, replace=options.replace, force=options.force, image=options.image)

    try:
        return claim()
    except NodeDown:
        with lock.using(spec.name):
            if not taking.pay_back_left(spec.name, docker, progress):
                raise
        return claim()


def _carry_out(run: BringUp) -> Up:
    if run.plan.action == "nothing":
        return _nothing_to_do(run)
    seconds: dict[str, float] = {}
    steps = VERIFY if run.plan.action == "verify" else STEPS
    if run.plan.action == "verify":
        run.progress.say(f"cluster {run.spec.name}: {run.plan.reason}")
        _adopt(run)
    try:
        for phase, step in steps:
            started = time.monotonic()
            run.enter(phase)
            step(run)
            seconds[phase] = round(time.monotonic() - started, 2)
            run.journal = replace(run.journal, seconds=seconds)
        run.enter(journal.READY)
        return Up(run.cluster, run.plan, run.kubernetes, run.proof, seconds)
    except BaseException as cause:
        if run.plan.action == "verify":
            abandon.explain(run.ruins(), cause, run.progress, run.docker)
            raise
        ended = abandon.give_up(run.ruins(), cause, run.progress, run.docker)
        if ended is cause:
            raise
        raise ended from cause


def _adopt(run: BringUp) -> None:
    """Go on under the mark of the cluster that runs."""
    there = mark.marks(run.docker).get(run.spec.name)
    if there is not None:
        run.mark = there
        run.journal = replace(run.journal, owner=there.owner)


def _nothing_to_do(run: BringUp) -> Up:
    with run.progress.step(f"Cluster {run.spec.name} runs already") as step:
        kube = run.kube
        rungs = readiness.ladder(run.spec, kube)
        readiness.climb(rungs, run.cluster, _Under(step), Deadline(CHECK_SECONDS), docker=run.docker)
        step.result("nothing to do")
    return Up(run.cluster, run.plan, kube.version())


class _Under(Quiet):
    """Steps shown as the notes of the one step above them."""

    def __init__(self, above: Step) -> None:
        self._above = above

    def note(self, text: str) -> None:
        """Pass the remark on."""
        self._above.note(text)
