"""Work in a thread of its own, whose failure is not lost and whose end can be called for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from labctl.errors import DeadlineExceeded
from labctl.waiting import Deadline

NEXT = "run the same command again when the machine is less busy"
END_SECONDS = 20.0
"""For work that was told to stop: an external program has 5 s of grace after each of three signals."""


class Background:
    """One piece of work; ``what`` names it. When it fails it sets ``stop``, which ends the others that heed it."""

    def __init__(self, what: str, work: Callable[[], None], stop: threading.Event) -> None:
        self._what = what
        self._work = work
        self._stop = stop
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None
        """What the work raised."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, deadline: Deadline) -> None:
        """Wait for its end. Raises what it raised, or `DeadlineExceeded`."""
        self._thread.join(deadline.left())
        if self.failure is not None:
            raise self.failure
        if self._thread.is_alive():
            raise DeadlineExceeded(self._what, seconds=deadline.seconds, last="not ended yet", next_step=NEXT)

    def end(self) -> None:
        """Tell it to stop and wait until it has; its failure is of no interest any more."""
        self._stop.set()
        with suppress(RuntimeError):  # it was never started: an interrupt came first
            self._thread.join(END_SECONDS)

    @property
    def ended(self) -> bool:
        """Whether it has come to its end, well or not."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as failure:  # noqa: BLE001  # handed to the thread that waits for it
            self.failure = failure
            self._stop.set()
