"""Tasks that need one another's results, a few at a time, each once.

The main thread keeps to itself all that is shown and every decision; workers only produce.
This module must not know what the tasks make.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from labctl.images.store import Store
from labctl.progress import Progress, Step

LOOK_SECONDS = 30.0
"""How often the remark about what is under way is renewed when nothing ends."""
REMARK_SECONDS = 10.0
"""The least time between two such remarks."""


@dataclass(frozen=True)
class Task:
    """One piece to be made. ``needs`` are names of tasks; ``seconds`` is what it is expected to take."""

    name: str
    key: str
    seconds: float
    produce: Callable[[Path], None]
    needs: tuple[str, ...] = ()


class Schedule:
    """A run of tasks into a store; raising leaves the finished ones there and nothing of the others."""

    def __init__(
        self,
        tasks: Sequence[Task],
        store: Store,
        *,
        workers: int,
        progress: Progress,
        cancel: threading.Event,
    ) -> None:
        self._store = store
        self._workers = workers
        self._progress = progress
        self._cancel = cancel
        self._count = len(tasks)
        self._next_remark = 0.0
        self._done = {task.name for task in tasks if store.has(task.name, task.key)}
        self._waiting = [task for task in tasks if task.name not in self._done]
        self._running: dict[Future[float], Task] = {}

    @property
    def seconds_left(self) -> float:
        """What is left to do, as one after the other on two cores."""
        return sum(task.seconds for task in (*self._waiting, *self._running.values()))

    def run(self, step: Step) -> None:
        """Run every task whose piece is not there. The first failure cancels the rest and is raised;
        so is an interrupt, after the programs under way have been ended."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="build") as pool:
            try:
                while self._waiting or self._running:
                    self._start(pool)
                    self._tell(step)
                    done, _ = wait(self._running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._finish(future)
            except BaseException:
                self._cancel.set()
                raise

    def _start(self, pool: ThreadPoolExecutor) -> None:
        for task in list(self._waiting):
            if len(self._running) >= self._workers:
                return
            if self._done.issuperset(task.needs):
                self._waiting.remove(task)
                self._running[pool.submit(self._produce, task)] = task

    def _produce(self, task: Task) -> float:
        started = time.monotonic()
        self._store.make(task.name, task.key, task.produce)
        return time.monotonic() - started

    def _finish(self, future: Future[float]) -> None:
        task = self._running.pop(future)
        seconds = future.result()
        self._done.add(task.name)
        self._progress.say(f"{task.name}: {seconds:.0f} s  ({len(self._done)}/{self._count})")

    def _tell(self, step: Step) -> None:
        """Seldom: without a terminal every remark is a line."""
        if time.monotonic() >= self._next_remark:
            self._next_remark = time.monotonic() + REMARK_SECONDS
            step.note(self._remark())

    def _remark(self) -> str:
        names = ", ".join(task.name for task in self._running.values())
        minutes = math.ceil(self.seconds_left / 60)
        return f"{len(self._done)}/{self._count} done, now {names}; about {minutes} min left"
