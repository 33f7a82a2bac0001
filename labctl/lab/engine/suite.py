"""Several labs on one cluster: what `labctl lab run`, `labctl lab prove` and `labctl ci` call.

It loads every lab before it touches the cluster, and holds the cluster's lock as one who uses it. Labs that touch
nothing run side by side, those that take something away run alone; results come in the labs' order. An interrupt
ends all of them, removes what they have made or says what is left, and what had ended is known.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from labctl import parallel
from labctl.captured import captured
from labctl.cluster import lock
from labctl.cluster.absence import taking
from labctl.cluster.absence.marker import Process
from labctl.cluster.absence.site import Site
from labctl.cluster.running import RunningCluster, find, lock_key, require_nodes
from labctl.errors import CleanupIncomplete, ConfigError, ConfigProblem
from labctl.images import workloads
from labctl.kube import connect
from labctl.lab.api import Lab
from labctl.lab.engine import namespaces, prover, record
from labctl.lab.engine.guard import Guard
from labctl.lab.engine.labrun import LabRun, LabSite
from labctl.lab.engine.loader import LabFile, load
from labctl.lab.instance import new_tag
from labctl.lab.labels import new_nonce
from labctl.lab.results import LabResult, RunResult, Status
from labctl.parallel import Work
from labctl.progress import Overall, Progress, Quiet
from labctl.tools.docker import Docker

Verb = Literal["run", "verify", "prove"]

TURN_SECONDS = 1800.0
"""How long a lab waits for labs of other shells that must run alone, or for those beside which it cannot run."""

PER_CORE = 2
"""How many labs run side by side for each core. They wait most of their time, but starting and stopping pods does
not: on 2 cores six at once (a proof of seven labs, 528 s) kept 20 to 140 processes waiting for a core."""
LAB_BYTES = 400 << 20
"""What a lab under way needs at most, its pods and our share of them: for the number that runs side by side."""


@dataclass
class Suite:
    """Labs to work through on ``cluster``; ``strict`` makes an unmet need a failure.

    ``jobs`` is how many run side by side; 0 decides by cores and memory. ``on_result`` hears of each lab as it
    ends, in the main thread; ``ended`` keeps them. With ``changed_only`` a proof leaves out the labs whose proof is on
    record; with ``fail_fast`` a lab ends at the first check that does not hold.
    """

    cluster: RunningCluster
    files: Sequence[LabFile]
    progress: Progress
    docker: Docker | None = None
    strict: bool = False
    on_result: Callable[[LabResult], None] = field(default=lambda _: None)
    jobs: int = 0
    changed_only: bool = False
    fail_fast: bool = False
    ended: list[LabResult] = field(default_factory=list)
    _key: str = ""
    _whole: Overall = field(default_factory=Quiet)

    def go(self, verb: Verb) -> RunResult:
        """Do ``verb`` with each lab. Raises `ConfigError` for all labs that cannot be loaded, `Conflict`
        when another labctl is at it, `NodeDown` when a node does not run, and errors of the connection."""
        started = time.monotonic()
        labs = load_all(self.files)
        with self._site() as site:
            self._bring_images()
            version = site.kube.version()
            try:
                with self.progress.overall(len(labs), "labs") as self._whole:
                    results = (
                        self._prove(site, labs, version) if verb == "prove" else self._each(site, labs, verb)
                    )
            except KeyboardInterrupt as stop:
                ended = f"interrupted; {len(self.ended)} of {len(labs)} lab(s) had ended"
                raise type(stop)("; ".join([ended, *site.tidied, *self._left_away(site)])) from stop
            seconds = time.monotonic() - started
            left_out = len(labs) - len(results)
            return RunResult(self.cluster.name, site.run_id, version, tuple(results), seconds, left_out)

    def reset(self) -> int:
        """Remove what every instance of the labs has made; returns how many objects. Raises one
        `CleanupIncomplete`."""
        labs = load_all(self.files)
        removed = 0
        left: list[str] = []
        with self._site() as site:
            for file, lab in labs:
                for tag in sorted({"", *namespaces.instances(site.kube, file.name)}):
                    run = LabRun.of(site, file, lab, tag)
                    try:
                        with self._instances([run]):
                            removed += run.reset()
                    except CleanupIncomplete as incomplete:
                        left += incomplete.leftovers
        if left:
            raise CleanupIncomplete(
                "not everything could be removed", leftovers=left, why=f"{len(left)} object(s) are left",
                next_step="remove what holds them, then run the command again",
            )  # fmt: skip
        return removed

    def _each(self, site: LabSite, labs: Sequence[tuple[LabFile, Lab]], verb: Verb) -> list[LabResult]:
        runs = [LabRun.of(site, file, lab) for file, lab in labs]
        if verb == "verify":
            work = [Work(run.file.name, _narrated(run, run.verify)) for run in runs]
        else:
            work = [
                self._in_turn(run.file.name, _narrated(run, run.run), bool(run.lab.touches)) for run in runs
            ]
        with self._instances(runs if verb == "run" else ()):
            return parallel.run(work, at_once=self._at_once(), on_end=lambda _, result: self._heard(result))

    @contextlib.contextmanager
    def _instances(self, runs: Sequence[LabRun]) -> Iterator[None]:
        """Nobody else runs these labs under these names meanwhile: all of them are ours before the first begins."""
        with contextlib.ExitStack() as held:
            for run in runs:
                held.enter_context(
                    lock.instance(self._key, run.instance.prefix, what=f"lab {run.file.number}")
                )
            yield

    def _in_turn(self, name: str, do: Callable[[], LabResult], alone: bool) -> Work[LabResult]:
        """Work that waits for labs of other shells: for all of them if it is ``alone``, else for one that is."""

        def in_turn() -> LabResult:
            with lock.labs(self._key, alone, TURN_SECONDS, self.progress.say, what=f"lab {name}"):
                return do()

        return Work(name, in_turn, alone)

    def _prove(self, site: LabSite, labs: Sequence[tuple[LabFile, Lab]], kubernetes: str) -> list[LabResult]:
        """Every piece of every lab, in an instance of its own; a lab has ended when all its pieces have."""
        marks = {file: record.fingerprint(file, self.cluster, kubernetes) for file, _ in labs}
        todo = [(file, lab) for file, lab in labs if not self._on_record(file, marks[file])]
        proofs = [_Proof(site, file, lab, self._showing) for file, lab in todo]
        work = [piece for proof in proofs for piece in proof.work]
        places = [(proof, number) for proof in proofs for number in range(len(proof.work))]

        def heard(index: int, result: LabResult) -> None:
            proof, number = places[index]
            if ended := proof.heard(number, result):
                self._heard(ended)

        for proof in proofs:
            if proof.refused is not None:
                self._heard(proof.refused)
        parallel.run(work, at_once=self._at_once(), on_end=heard)
        results = [proof.result() for proof in proofs]
        for proof, result in zip(proofs, results, strict=True):
            if result.status is Status.PASS:
                record.write(proof.file, marks[proof.file])
        return results

    def _showing(self, run: LabRun, piece: prover.Piece) -> Work[LabResult]:
        """A piece of a proof, in an instance that no reset of another shell takes away meanwhile."""

        def show() -> LabResult:
            with self._instances([run]):
                return prover.show(run, piece)

        return self._in_turn(f"{run.file.name}, {piece.title}", _narrated(run, show), piece.alone)

    def _on_record(self, file: LabFile, mark: str) -> bool:
        when = record.proved(file, mark) if self.changed_only else ""
        if when:
            self.progress.say(f"lab {file.name}: unchanged since it was proved, {when}")
        return bool(when)

    def _heard(self, result: LabResult) -> None:
        self.ended.append(result)
        self._whole.advance()
        self.on_result(result)

    def _at_once(self) -> int:
        return self.jobs or at_once()

    @contextlib.contextmanager
    def _site(self) -> Iterator[LabSite]:
        if self.docker is not None:
            self._pay_back(self.docker)
            # Docker knows at once which node is down; the API server might not even answer.
            require_nodes(self.cluster, docker=self.docker)
        kube = connect(self.cluster.kubeconfig, self.cluster.context)
        with contextlib.closing(kube), lock.using(key := lock_key(self.cluster, kube), what="labs"):
            self._key = key
            guard = Guard(kube, self.cluster, self.docker)
            yield LabSite(
                kube,
                self.cluster,
                self.progress,
                guard,
                self.docker,
                new_nonce(),
                self.strict,
                self.fail_fast,
            )

    def _pay_back(self, docker: Docker) -> None:
        """What a killed lab has left away comes back before a node that it has frozen is taken for a dead one."""
        if not self.cluster.containers:
            return
        with lock.using(self.cluster.name, what="labs"):
            if taking.pay_back_stale(self.cluster, docker, self.progress):
                self.cluster = find(self.cluster.name, docker=docker)  # its addresses may have changed

    def _left_away(self, site: LabSite) -> list[str]:
        """What an interrupted lab could not put back: its marker is still there. It is ordered back at least.

        The thread that did it may be waiting for something slow, and ends with this process.
        """
        if self.docker is None:
            return []
        try:
            left = taking.outstanding(self.cluster, self.docker)
            ours = [one for one in left if one.process == Process.own()]
            taking.order_back(Site(self.cluster, self.docker, site.kube), ours)
        except KeyboardInterrupt:
            return [f"something may still be away; `labctl heal {self.cluster.name}` puts it back"]
        return [f"{one}; {one.next_step}" for one in left]

    def _bring_images(self) -> None:
        if self.docker is not None and self.cluster.containers:
            workloads.ensure(self.docker, self.cluster.containers, [workloads.PROBE], self.progress)


Showing = Callable[[LabRun, prover.Piece], "Work[LabResult]"]
"""Makes the work that shows one piece of a proof."""


class _Proof:
    """The proof of one lab while its pieces are under way."""

    def __init__(self, site: LabSite, file: LabFile, lab: Lab, showing: Showing) -> None:
        self.file = file
        self._plain = LabRun.of(site, file, lab)
        self.refused = prover.refusal(self._plain)
        pieces = () if self.refused else prover.pieces(lab)
        self._shown: dict[int, LabResult] = {}
        self.work = [showing(LabRun.of(site, file, lab, new_tag()), piece) for piece in pieces]

    def heard(self, index: int, result: LabResult) -> LabResult | None:
        """A piece has ended; the result of the lab if it was the last one."""
        self._shown[index] = result
        return self.result() if len(self._shown) == len(self.work) else None

    def result(self) -> LabResult:
        """The lab's result, its pieces in their order."""
        if self.refused is not None:
            return self.refused
        return prover.together(self._plain, [self._shown[index] for index in sorted(self._shown)])


def _narrated(run: LabRun, work: Callable[[], LabResult]) -> Callable[[], LabResult]:
    """``work``, with what the lab's code prints told as remarks that begin with the lab's number."""

    def do() -> LabResult:
        with captured(lambda line: run.site.progress.say(f"{run.file.number:02d} prints: {line}")):
            return work()

    return do


def at_once() -> int:
    """How many labs this machine carries side by side."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(PER_CORE * (os.cpu_count() or 1), free // LAB_BYTES))


def load_all(files: Sequence[LabFile]) -> list[tuple[LabFile, Lab]]:
    """Every lab, loaded; raises one `ConfigError` with the problems of all that cannot be."""
    labs: list[tuple[LabFile, Lab]] = []
    problems: list[ConfigProblem] = []
    for file in files:
        try:
            labs.append((file, load(file)))
        except ConfigError as wrong:
            problems += wrong.problems
    if problems:
        raise ConfigError("labs cannot be loaded", problems=problems)
    return labs
