"""`labctl up`: from a spec to a cluster that is proven. STEPS is the whole of it, in order.

Whatever ends it early, what this run made is removed, and nothing else: the owner's id on every
container decides. The evidence is collected first. Each step is written into the journal as it
begins, so that one who finds the ruins of a killed process knows how far it came.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from labctl.cluster import holders, journal, lock, mark, teardown
from labctl.cluster.absence import taking
from labctl.cluster.journal import Journal
from labctl.cluster.lock import Hold
from labctl.cluster.mark import Mark
from labctl.cluster.proof import ProofResult
from labctl.cluster.running import RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import abandon, former, image, machine, network, nodes, plan, proven, ready
from labctl.cluster.up.abandon import Ruins
from labctl.cluster.up.background import Background
from labctl.cluster.up.context import Context, Options
from labctl.cluster.up.plan import Plan
from labctl.cluster.up.step import UpStep
from labctl.errors import Interrupted, NodeDown, WriteFailed
from labctl.progress import Progress, Quiet, Step
from labctl.recorder import Recorder
from labctl.tools.docker import Docker
from labctl.tools.kind import Kind
from labctl.waiting import Deadline

STEPS = (
    machine.STEP,
    image.STEP,
    former.STEP,
    nodes.STEP,
    network.STEP,  # beside the nodes
    ready.STEP,
    proven.STEP,
)
"""Everything that `up` does, each in a module of its own. The plan and the lock come before."""

CHECK_SECONDS = 30.0
"""For a cluster that runs already: it is ready now, or something is wrong with it."""


@dataclass(frozen=True)
class Up:
    """What came of it. ``proof`` is None when none was made.

    ``seconds`` maps each phase to its own time; ``total`` is the whole, less than their sum: one ran beside another.
    ``lock`` is the caller's to release, where he asked to keep it.
    """

    cluster: RunningCluster
    plan: Plan
    kubernetes: str
    proof: ProofResult | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    total: float = 0.0
    lock: Hold | None = None


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
        recorder = Recorder(progress)
        made = Mark(spec.name, mark.new_owner(), 0, spec, user=mark.me())
        settle = teardown.settle_time(spec.name)
        run = Context(spec, options, planned, docker, recorder, made, settle, kind)
        ends.callback(run.close)
        done = _nothing_to_do(run) if planned.action == "nothing" else BringUp(run, recorder).carry_out()
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


class BringUp:
    """The runner: one step after the other, those beside another in a thread of their own."""

    def __init__(self, run: Context, recorder: Recorder) -> None:
        self.run = run
        self.recorder = recorder
        self.journal = Journal(
            run.spec.name, run.mark.owner, "plan", run.spec, os.getpid(), holders.command_line(),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        self.begun = False
        self.seconds: dict[str, float] = {}
        self.beside: dict[str, Background] = {}
        self.now = STEPS[0]

    def carry_out(self) -> Up:
        """Everything up to the end; or what follows when something ends it early, and the error."""
        started = time.monotonic()
        run = self.run
        if run.plan.action == "verify":
            run.progress.say(f"cluster {run.spec.name}: {run.plan.reason}")
            self._adopt()
        try:
            for step in (one for one in STEPS if run.plan.action in one.part_of):
                self._take(step)
            self._enter(journal.READY)
            total = round(time.monotonic() - started, 2)
            return Up(run.cluster, run.plan, run.kube.version(), run.proof, self._in_order(), total)
        except BaseException as raised:
            cause = self._cause(raised)
            self._end_threads()
            if run.plan.action == "verify":
                abandon.explain(self._ruins(), cause, run.progress, run.docker)
                raise
            ended = abandon.give_up(self._ruins(), cause, run.progress, run.docker)
            if ended is raised:
                raise
            raise ended from (cause if ended is not cause else None)

    def _take(self, step: UpStep) -> None:
        """Do a step; or wait for it, if it has run beside another one."""
        self.now = step
        self._enter(step.name)
        if step.beside:
            self.beside[step.name].finish(self.run.deadline)
        else:
            for other in (one for one in STEPS if one.beside == step.name):
                self.beside[other.name] = Background(
                    f"step {other.name}", partial(self._timed, other), self.run.stop
                )
                self.beside[other.name].start()
            self._timed(step)
        self.journal = replace(self.journal, seconds=self._in_order(), containers=self.run.left.containers)

    def _timed(self, step: UpStep) -> None:
        """Runs in whichever thread the step has; its seconds are those of its own work."""
        run = self.run
        if step.awaits:
            step.awaits(run)
        started = time.monotonic()
        if step.title:
            with run.progress.step(step.title.format(spec=run.spec)) as shown:
                step.does(run, shown)
        else:
            step.does(run, Quiet())
        self.seconds[step.name] = round(time.monotonic() - started, 2)

    def _in_order(self) -> dict[str, float]:
        return {step.name: self.seconds[step.name] for step in STEPS if step.name in self.seconds}

    def _enter(self, phase: str) -> None:
        """Write into the journal that a phase begins, as soon as this run changes something.

        Before that the journal is that of a cluster that runs: one to look at again, or one to replace.
        """
        self.journal = self.journal.at(phase)
        self.begun = (
            self.begun
            or self.run.plan.action == "create"
            or self.now.changes != "nothing"
            or phase == journal.READY
        )
        if self.begun:
            journal.write(self.journal)

    def _cause(self, raised: BaseException) -> BaseException:
        """The error that counts: a step that fails beside another one ends that one, whose end says nothing."""
        if isinstance(raised, Interrupted):
            for step in STEPS:
                failure = self.beside[step.name].failure if step.name in self.beside else None
                if failure and not isinstance(failure, Interrupted):
                    self.now, self.journal = step, self.journal.at(step.name)
                    with contextlib.suppress(
                        WriteFailed
                    ):  # the journal is a help, and the failure is the news
                        journal.write(self.journal)
                    return failure
        return raised

    def _end_threads(self) -> None:
        """Before anything is removed: what still installs would find half a cluster, and outlive this run's lock."""
        for one in self.beside.values():
            one.end()

    def _ruins(self) -> Ruins:
        run = self.run
        return Ruins(
            self.journal,
            self.begun,
            run.mark if run.left.marked else None,
            run.kind_program,
            run.left.in_kind,
            self.now.changes == "the former cluster",
            [*map(str, self.recorder.take()), *run.left.said],
            run.options.keep_on_failure,
            run.options.bundle_directory,
        )

    def _adopt(self) -> None:
        """Go on under the mark of the cluster that runs."""
        there = mark.marks(self.run.docker).get(self.run.spec.name)
        if there is not None:
            self.run.mark = there
            self.journal = replace(self.journal, owner=there.owner)


def _nothing_to_do(run: Context) -> Up:
    with run.progress.step(f"Cluster {run.spec.name} runs already") as step:
        ready.climb(run, _Under(step), Deadline(CHECK_SECONDS))
        step.result("nothing to do")
    return Up(run.cluster, run.plan, run.kube.version())


class _Under(Quiet):
    """Steps shown as the notes of the one step above them."""

    def __init__(self, above: Step) -> None:
        self._above = above

    def note(self, text: str) -> None:
        """Pass the remark on."""
        self._above.note(text)
