"""The only place that waits.

A wait is a probe, a deadline and the last observation. It never ends silently: either the
probe returned a value, or `DeadlineExceeded` says what was last seen. The clock is
monotonic, so that a changed wall clock neither ends nor prolongs a wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from labctl.errors import DeadlineExceeded, LabctlError

T = TypeVar("T")

POLL_SECONDS = 0.5
"""Between two looks. Short beside everything we wait for (the quickest, a container start, takes about 1 s)."""


class NotYet(Exception):
    """Raised by a probe: the condition does not hold now; the text says what was seen instead."""


class Hopeless(Exception):
    """Raised by a probe: the condition can no longer come true; the text says why."""


def until(
    probe: Callable[[], T],
    *,
    what: str,
    within: float,
    every: float = POLL_SECONDS,
    on_wait: Callable[[str], None] | None = None,
    hopeless: Callable[[str], LabctlError] | None = None,
    next_step: str = "",
) -> T:
    """Call ``probe`` until it returns, and return its value; at least one call is made.

    ``within`` and ``every`` are seconds. ``on_wait`` receives each new observation while waiting.
    Raises `DeadlineExceeded` (with the last observation) when time is over, and
    ``hopeless(reason)`` (by default a `DeadlineExceeded` that gives up early) on `Hopeless`.
    """
    started = time.monotonic()
    last = ""
    while True:
        try:
            return probe()
        except NotYet as seen:
            if str(seen) != last and on_wait:
                on_wait(str(seen))
            last = str(seen)
        except Hopeless as reason:
            if hopeless:
                raise hopeless(str(reason)) from reason
            raise DeadlineExceeded(
                what,
                seconds=time.monotonic() - started,
                last=f"{reason} (cannot come true)",
                next_step=next_step,
            ) from reason
        left = started + within - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(what, seconds=within, last=last, next_step=next_step)
        pause(min(every, left))


def pause(seconds: float) -> None:
    """Let ``seconds`` pass; a signal handler that raises ends it at once."""
    threading.Event().wait(seconds)


def bounded(call: Callable[[], T], *, what: str, within: float) -> T:
    """Run ``call`` in a thread of its own and return its value, or raise what it raised.

    For libraries that offer no time-out. After ``within`` seconds `DeadlineExceeded` is raised and the
    thread is left behind; being a daemon it does not hold the process.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as raised:  # noqa: BLE001  # raised again in the thread that waits
            failure.append(raised)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(within)
    if failure:
        raise failure[0]
    if not outcome:
        raise DeadlineExceeded(what, seconds=within, last="no answer")
    return outcome[0]


class Deadline:
    """A moment on the monotonic clock, ``seconds`` from now, to share between several waits."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that remain, never below zero."""
        return max(0.0, self._end - time.monotonic())

    def over(self) -> bool:
        """Whether the moment has passed."""
        return self.left() == 0.0
