"""Several labs on one cluster, one after the other: what `labctl lab run` and `labctl ci` call.

It loads every lab before it touches the cluster, holds the cluster's lock as one who uses it, and when it is
interrupted removes what the lab under way has made, or says what is left.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from labctl.cluster import lock
from labctl.cluster.running import RunningCluster, lock_key, require_nodes
from labctl.errors import CleanupIncomplete, ConfigError, ConfigProblem, LabctlError
from labctl.images import workloads
from labctl.kube import Kube, connect
from labctl.lab.api import Lab
from labctl.lab.engine import namespaces
from labctl.lab.engine.loader import LabFile, load
from labctl.lab.engine.prover import prove
from labctl.lab.engine.runner import Runner, owned
from labctl.lab.labels import new_nonce
from labctl.lab.results import LabResult, RunResult
from labctl.progress import Progress
from labctl.tools.docker import Docker

Verb = Literal["run", "verify", "prove"]

TURN_SECONDS = 1800.0
"""How long a lab waits for labs of other shells that must run alone, or for those beside which it cannot run."""

INTERRUPTED_SECONDS = 30.0
"""How long an interrupted command may still clean up before it only says what is left."""


@dataclass
class Suite:
    """Labs to work through on ``cluster``; ``strict`` makes an unmet need a failure."""

    cluster: RunningCluster
    files: Sequence[LabFile]
    progress: Progress
    docker: Docker | None = None
    strict: bool = False
    on_result: Callable[[LabResult], None] = field(default=lambda _: None)
    _key: str = ""

    def go(self, verb: Verb) -> RunResult:
        """Do ``verb`` with each lab. Raises `ConfigError` for all labs that cannot be loaded, `Conflict`
        when another labctl is at it or a namespace is foreign, `NodeDown` when a node does not run, and
        errors of the connection."""
        started = time.monotonic()
        labs = load_all(self.files)
        with self._runner() as runner:
            self._bring_images()
            version = runner.kube.version()
            results = [self._one(runner, verb, file, lab) for file, lab in labs]
        seconds = time.monotonic() - started
        return RunResult(self.cluster.name, runner.run_id, version, tuple(results), seconds)

    def reset(self) -> int:
        """Remove what the labs have made; returns how many objects. Raises one `CleanupIncomplete`."""
        labs = load_all(self.files)
        removed = 0
        left: list[str] = []
        with self._runner() as runner:
            for file, lab in labs:
                try:
                    with self._alone(file, lab):
                        removed += runner.reset(file, lab)
                except CleanupIncomplete as incomplete:
                    left += incomplete.leftovers
        if left:
            raise CleanupIncomplete(
                "not everything could be removed", leftovers=left, why=f"{len(left)} object(s) are left",
                next_step="remove what holds them, then run the command again",
            )  # fmt: skip
        return removed

    @contextlib.contextmanager
    def _runner(self) -> Iterator[Runner]:
        if self.docker is not None:
            # Docker knows at once which node is down; the API server might not even answer.
            require_nodes(self.cluster, docker=self.docker)
        kube = connect(self.cluster.kubeconfig, self.cluster.context)
        with contextlib.closing(kube), lock.using(key := lock_key(self.cluster, kube), what="labs"):
            self._key = key
            yield Runner(
                kube, self.cluster, self.progress, docker=self.docker, run=new_nonce(), strict=self.strict
            )

    def _bring_images(self) -> None:
        if self.docker is not None and self.cluster.containers:
            workloads.ensure(self.docker, self.cluster.containers, [workloads.PROBE], self.progress)

    @contextlib.contextmanager
    def _alone(self, file: LabFile, lab: Lab) -> Iterator[None]:
        """Nobody else runs this lab meanwhile, nor any lab beside one that takes something away."""
        what = f"lab {file.number}"
        with lock.instance(self._key, f"lab{file.number}", what=what):
            alone = bool(lab.touches)
            with lock.labs(self._key, alone, TURN_SECONDS, self.progress.say, what=what):
                yield

    def _one(self, runner: Runner, verb: Verb, file: LabFile, lab: Lab) -> LabResult:
        with self._alone(file, lab):
            return self._done(runner, verb, file, lab)

    def _done(self, runner: Runner, verb: Verb, file: LabFile, lab: Lab) -> LabResult:
        try:
            if verb == "prove":
                result = prove(runner, file, lab)
            else:
                result = runner.run(file, lab) if verb == "run" else runner.verify(file, lab)
        except KeyboardInterrupt as stop:
            if verb == "verify":
                raise
            raise type(stop)(_tidied(runner.kube, file, lab, self.progress)) from stop
        self.on_result(result)
        return result


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


def _tidied(kube: Kube, file: LabFile, lab: Lab, progress: Progress) -> str:
    """Remove what the interrupted lab has made; returns the line that tells the user what came of it."""
    mine = owned(file, lab)
    again = f"remove it with `labctl lab reset {file.number}`"
    maybe = f"namespace {', '.join(lab.namespaces)} may be left"
    try:
        with progress.step(f"{file.number:02d} Remove what the interrupted lab made") as step:
            namespaces.remove(kube, mine, step, within=INTERRUPTED_SECONDS)
    except CleanupIncomplete as incomplete:
        return f"interrupted in lab {file.name}; left behind: {', '.join(incomplete.leftovers)}; {again}"
    except LabctlError as broken:
        return f"interrupted in lab {file.name}; {maybe} ({broken}); {again}"
    except KeyboardInterrupt:
        return f"interrupted twice in lab {file.name}; {maybe}; {again}"
    return f"interrupted in lab {file.name}; all that it made is removed"
