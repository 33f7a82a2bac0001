"""Several pieces of work at once, in threads, under one interrupt.

The main thread starts them, hears of each end and takes the interrupt; the workers only work. A worker
that waits or runs a program ends soon after an interrupt (see `labctl.waiting.cancellable`); one that is
stuck in foreign code holds neither the others nor the process. What the work is, is not known here.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from labctl.waiting import Cancelled, Deadline, cancellable

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How often the main thread wakes while nothing ends, so that an interrupt is taken on every platform."""
ENDING_SECONDS = 60.0
"""How long cancelled work may take to clean up after itself before it is left behind."""


@dataclass(frozen=True)
class Work(Generic[T]):
    """One piece: ``do`` makes its result. Work that is ``alone`` runs while nothing else does."""

    name: str
    do: Callable[[], T]
    alone: bool = False


@dataclass(frozen=True)
class _Ended(Generic[T]):
    """How a piece of work ended: with a value or with what it raised."""

    index: int
    value: T | None = None
    failure: BaseException | None = None


def run(
    pieces: Sequence[Work[T]],
    *,
    at_once: int,
    on_end: Callable[[int, T], None] = lambda index, value: None,  # noqa: ARG005  # nobody listens
) -> list[T]:
    """Do all ``pieces``, at most ``at_once`` of them side by side, and return their values in order.

    What may run beside others comes first, then what must be alone. ``on_end`` is called in the main thread
    with the index and the value of each that ends. The first that raises, or an interrupt, cancels the
    others; it is raised once they have ended, or after `ENDING_SECONDS` (or a second interrupt) without them.
    """
    crew: _Crew[T] = _Crew(pieces, at_once, on_end)
    try:
        crew.work()
    except BaseException:
        crew.dismiss()
        raise
    return [crew.values[index] for index in range(len(pieces))]


class _Crew(Generic[T]):
    """The threads of one `run`."""

    def __init__(self, pieces: Sequence[Work[T]], at_once: int, on_end: Callable[[int, T], None]) -> None:
        self.values: dict[int, T] = {}
        self._pieces = pieces
        self._at_once = max(1, at_once)
        self._on_end = on_end
        self._cancel = threading.Event()
        self._ended: queue.SimpleQueue[_Ended[T]] = queue.SimpleQueue()
        self._running: set[int] = set()
        self._waiting = sorted(range(len(pieces)), key=lambda index: pieces[index].alone)

    def work(self) -> None:
        """Until every piece has ended, or one has failed."""
        while self._waiting or self._running:
            while self._waiting and self._may_start(self._pieces[self._waiting[0]]):
                self._start(self._waiting.pop(0))
            self._hear(self._next())

    def dismiss(self) -> None:
        """Cancel what runs and wait for it; what ends well all the same is still heard of."""
        self._cancel.set()
        deadline = Deadline(ENDING_SECONDS)
        while self._running and not deadline.over():
            try:
                ended = self._ended.get(timeout=min(LOOK_SECONDS, deadline.left()))
            except queue.Empty:
                continue
            self._running.discard(ended.index)
            if ended.failure is None:
                self._hear(ended)

    def _may_start(self, piece: Work[T]) -> bool:
        if any(self._pieces[index].alone for index in self._running):
            return False
        return not self._running if piece.alone else len(self._running) < self._at_once

    def _start(self, index: int) -> None:
        self._running.add(index)
        context = contextvars.copy_context()
        work = threading.Thread(
            target=context.run, args=(self._do, index), name=self._pieces[index].name, daemon=True
        )
        work.start()

    def _do(self, index: int) -> None:
        with cancellable(self._cancel):
            try:
                self._ended.put(_Ended(index, self._pieces[index].do()))
            except BaseException as failure:  # noqa: BLE001  # raised again in the main thread
                self._ended.put(_Ended(index, failure=failure))

    def _next(self) -> _Ended[T]:
        while True:
            try:
                return self._ended.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue

    def _hear(self, ended: _Ended[T]) -> None:
        self._running.discard(ended.index)
        if isinstance(ended.failure, Cancelled):
            return
        if ended.failure is not None:
            raise ended.failure
        self.values[ended.index] = ended.value  # type: ignore[assignment]  # no failure: there is a value
        self._on_end(ended.index, self.values[ended.index])
