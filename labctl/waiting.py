"""The only place that waits.

A wait is a probe, a deadline and the last observation. It never ends silently: either the
probe returned a value, or `DeadlineExceeded` says what was last seen. The clock is
monotonic, so that a changed wall clock neither ends nor prolongs a wait.

An interrupt of the user's reaches the main thread only. Work in another thread runs inside `cancellable`,
and every wait in it ends with `Cancelled` when the event is set.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from labctl.errors import DeadlineExceeded, LabctlError

T = TypeVar("T")

POLL_SECONDS = 0.5
"""Between two looks. Short beside everything we wait for (the quickest, a container start, takes about 1 s)."""


class NotYet(Exception):
    """Raised by a probe: the condition does not hold now; the text says what was seen instead."""


class Hopeless(Exception):
    """Raised by a probe: the condition can no longer come true; the text says why."""


class Cancelled(BaseException):
    """The work of this thread is not wanted any more: what KeyboardInterrupt is to the main thread."""


class Shield:
    """Says to whoever wants to end a thread that it puts something back now; ``raised`` counts such blocks."""

    def __init__(self) -> None:
        self.raised = 0


_cancel: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("cancel", default=None)
_shield: contextvars.ContextVar[Shield | None] = contextvars.ContextVar("shield", default=None)


@contextmanager
def cancellable(event: threading.Event | None) -> Iterator[None]:
    """Waits in this block end with `Cancelled` once ``event`` is set; with None nothing ends them.

    A thread that the block starts takes part where it is started through a copy of the context.
    """
    former = _cancel.set(event)
    try:
        yield
    finally:
        _cancel.reset(former)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A block that puts back what was taken away: no cancellation and no deadline of a caller cuts it short."""
    shield = _shield.get()
    if shield is not None:
        shield.raised += 1
    try:
        with cancellable(None):
            yield
    finally:
        if shield is not None:
            shield.raised -= 1


def shielded_by(shield: Shield) -> None:
    """Let every `undisturbed` block of this thread be told by ``shield``."""
    _shield.set(shield)


def cancel_event() -> threading.Event | None:
    """The event that ends the waits of this thread, or None."""
    return _cancel.get()


def refuse_cancelled() -> None:
    """Raise `Cancelled` if the work of this thread is not wanted any more."""
    event = _cancel.get()
    if event is not None and event.is_set():
        raise Cancelled


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
        refuse_cancelled()
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
    """Let ``seconds`` pass; a signal handler that raises ends it at once, and so does `Cancelled`."""
    event = _cancel.get()
    if (event or threading.Event()).wait(seconds) and event is not None:
        raise Cancelled


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
