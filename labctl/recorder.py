"""A listener that writes down the steps it hears of and passes them on.

It is what turns progress into the timings of a report and into the trace of a bundle; it neither draws
nor decides.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from labctl.progress import Overall, Progress, Step


@dataclass(frozen=True)
class StepRecord:
    """One step of a phase: what came of it, and its seconds of wall time."""

    title: str
    seconds: float
    ok: bool = True
    result: str = ""

    def __str__(self) -> str:
        result = f": {self.result}" if self.result else ""
        return f"{'done' if self.ok else 'FAILED'}  {self.title}{result}  {self.seconds:.1f} s"


class Recorder:
    """A `labctl.progress.Progress` in front of another one, for any number of threads."""

    def __init__(self, listener: Progress) -> None:
        self._listener = listener
        self._records: list[StepRecord] = []
        self._lock = threading.Lock()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Open a step with the other listener, and keep its title, result and seconds when it ends."""
        started = time.monotonic()
        heard = _Heard()
        ok = False
        try:
            with self._listener.step(title) as shown:
                heard.shown = shown
                yield heard
            ok = True
        finally:
            record = StepRecord(title, time.monotonic() - started, ok, heard.outcome)
            with self._lock:
                self._records.append(record)

    def overall(self, total: int, title: str) -> AbstractContextManager[Overall]:
        """Pass the whole on; it is no step."""
        return self._listener.overall(total, title)

    def say(self, text: str) -> None:
        """Pass the remark on."""
        self._listener.say(text)

    def take(self) -> tuple[StepRecord, ...]:
        """The steps since the last call, in the order in which they ended."""
        with self._lock:
            taken, self._records = tuple(self._records), []
        return taken


class _Heard:
    """One step: what is said of it goes to the other listener, its result is kept as well."""

    shown: Step
    outcome = ""

    def note(self, text: str) -> None:
        """Pass the live remark on."""
        self.shown.note(text)

    def result(self, text: str) -> None:
        """Keep the result and pass it on."""
        self.outcome = text
        self.shown.result(text)
