"""Calling what an author wrote: it ends, whatever it does, and only an exception or a value comes back.

A lab is other people's code. It may call `sys.exit`, never return, sleep too long or raise what is no
`Exception`. Each call therefore runs in a thread of its own that is waited for with a deadline. A call
that is late gets an exception put into its thread, which ends every loop of Python code; what blocks in
a system call for longer than `GRACE_SECONDS` cannot be ended from outside and is left behind: the thread
is a daemon, and its lab is over.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from labctl.waiting import Cancelled, Deadline, Shield, refuse_cancelled, shielded_by

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""How long a call that is late may take to leave."""
PUT_BACK_SECONDS = 420.0
"""The same for a call that is putting back what it has taken away (`labctl.waiting.undisturbed`): as long as
labctl.cluster.absence.taking waits for the API server and then for all to work; etcd took 130 s on a busy machine."""
LOOK_SECONDS = 0.5
"""How often the caller looks whether it is cancelled itself."""


class Overdue(Exception):
    """The author's function did not return in its time."""


class LeftBehind(Overdue):
    """It did not even leave when it was told to; its thread may still act."""


class Escaped(Exception):
    """The author's function raised something that would have ended labctl: SystemExit, an interrupt of its own."""


class _Late(BaseException):
    """Put into the thread of a call that is late."""


def call(work: Callable[[], T], *, within: float) -> T:
    """What ``work`` returns, or raise what it raises.

    Raises `Overdue` after ``within`` seconds, `LeftBehind` when it has not left ``grace`` seconds later,
    `Escaped` for what is no `Exception`, and `Cancelled` when this thread's work is cancelled: then ``work``
    is ended in the same way.
    """
    return _Call(work).outcome(within)


class _Call(Generic[T]):
    """One call and its thread."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: T | None = None
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._shield = Shield()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="lab code", daemon=True)

    def outcome(self, within: float) -> T:
        self._thread.start()
        try:
            in_time = self._wait(Deadline(within))
        except BaseException:  # cancelled, or an interrupt of the user's where there is no thread between
            self._end()
            raise
        if in_time:
            return self._result()
        # What comes back after its time is late, whatever it is: a look that was told to stop has not looked.
        if self._end():
            raise Overdue(f"it has not returned after {within:.0f} s")
        raise LeftBehind(f"it has not returned after {within:.0f} s and does not stop")

    def _wait(self, deadline: Deadline) -> bool:
        """Whether the call was over in its time. Raises `Cancelled` when this thread is cancelled meanwhile."""
        while not self._over.wait(min(LOOK_SECONDS, deadline.left())):
            refuse_cancelled()
            if deadline.over():
                return False
        return True

    def _end(self) -> bool:
        """Tell the call to leave; whether it did. What is being put back is waited for."""
        deadline, put_back = Deadline(GRACE_SECONDS), Deadline(PUT_BACK_SECONDS)
        while not self._over.is_set() and not (put_back if self._shield.raised else deadline).over():
            # Once is not enough: the first may be swallowed by an `except BaseException` of the author's.
            if not self._shield.raised:
                _raise_in(self._thread, _Late)
            self._over.wait(LOOK_SECONDS)
        return self._over.is_set()

    def _result(self) -> T:
        failure = self._failure
        if failure is None:
            return self._value  # type: ignore[return-value]  # it returned, perhaps None
        if isinstance(failure, Exception | Cancelled):
            raise failure
        raise Escaped(_named(failure)) from failure

    def _run(self) -> None:
        with contextlib.suppress(_Late):  # one that comes when the work is over already
            shielded_by(self._shield)
            try:
                self._value = self._work()
            except BaseException as failure:  # noqa: BLE001  # raised again in the thread that waits
                self._failure = failure
            finally:
                self._over.set()


def _raise_in(thread: threading.Thread, what: type[BaseException]) -> None:
    """Let ``what`` be raised in ``thread`` at its next step of Python code; a thread that is over ignores it."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(what))


def _named(failure: BaseException) -> str:
    said = " ".join(str(failure).split())
    return f"{type(failure).__name__}: {said}" if said else type(failure).__name__


def refuse_value(value: Any) -> None:
    """Raise TypeError for a look that returned something: it would be lost, and the check would pass."""
    if value is None:
        return
    close = getattr(value, "close", None)
    if callable(close):
        close()  # a coroutine or generator that nobody will run must not complain about it later
    raise TypeError(
        f"it returned {type(value).__name__} instead of None; a check says what it sees with expect(...)"
    )
