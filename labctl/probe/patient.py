"""A caller that goes on calling while something happens, and knows how long it heard nothing.

The only way to see what a client would have felt: single calls before and after say nothing about the time
between them. It knows a function that calls, and nothing of what it calls.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from labctl.probe.answers import Dialled

EVERY_SECONDS = 0.2
"""Between the beginnings of two calls, where the first is answered in time."""


@dataclass
class Hearing:
    """When answers came, on the monotonic clock, and what was asked in vain meanwhile."""

    began: float
    answered: list[float] = field(default_factory=list)
    in_vain: int = 0
    failure: Exception | None = None

    @property
    def longest_silence(self) -> float:
        """The longest time without an answer, up to now, in seconds. Raises what ended the calling, if anything did."""
        if self.failure is not None:
            raise self.failure
        moments = [self.began, *self.answered, time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    def __str__(self) -> str:
        return (
            f"{len(self.answered)} calls answered, {self.in_vain} in vain, "
            f"no answer for {self.longest_silence:.1f} s at most"
        )


@contextlib.contextmanager
def keep_calling(call: Callable[[], Dialled], *, every: float = EVERY_SECONDS) -> Iterator[Hearing]:
    """Call every ``every`` seconds (or as soon as the last call has ended) while the block lasts."""
    hearing = Hearing(time.monotonic())
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                heard = call().open
            except Exception as failed:  # noqa: BLE001  # told to whoever asks for the result
                hearing.failure = failed
                return
            if heard:
                hearing.answered.append(time.monotonic())
            else:
                hearing.in_vain += 1
            over.wait(max(0.0, every - (time.monotonic() - began)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield hearing
    finally:
        over.set()
        thread.join()
