"""Work that goes on beside kind while it makes the nodes, and whose failure is not lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from labctl.errors import DeadlineExceeded
from labctl.waiting import Deadline

NEXT = "run the same command again when the machine is less busy"


@dataclass(frozen=True)
class Ended:
    """``seconds`` that the work took; ``waited``: it was not over yet when it was asked for."""

    seconds: float
    waited: bool


class Background:
    """A thread that is started once; ``what`` names its work."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._began = self._ended = 0.0
        self._guard = threading.Lock()

    def start(self, work: Callable[[], None]) -> None:
        """Begin, unless it has begun already."""
        with self._guard:
            if self._thread is not None:
                return
            self._began = time.monotonic()
            self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
            self._thread.start()

    def finish(self, deadline: Deadline) -> Ended:
        """Wait for its end. Raises what it raised, or `DeadlineExceeded`."""
        assert self._thread is not None
        came = time.monotonic()
        self._thread.join(deadline.left())
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise DeadlineExceeded(self._what, seconds=deadline.seconds, last="not ended yet", next_step=NEXT)
        return Ended(self._ended - self._began, waited=self._ended > came)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001  # handed to the thread that waits for it
            self._failure = failure
        finally:
            self._ended = time.monotonic()
